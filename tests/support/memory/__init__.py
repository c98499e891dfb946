"""JetStream in memory: `wf.jetstream.port.Port` with the rules of the real server.

`MemoryBroker` is the server, `await broker.connect()` gives a connection (`MemoryPort`). Time comes
from the running event loop, so it works on a virtual clock; `tests/contract` holds it to what the
real server does. What is asked and answered passes through a `Network`, which may be unkind.
"""

from tests.support.memory.broker import MemoryBroker
from tests.support.memory.link import Network
from tests.support.memory.port import MemoryPort, connect

__all__ = ["MemoryBroker", "MemoryPort", "Network", "connect"]
