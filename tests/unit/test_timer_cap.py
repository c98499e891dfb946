"""How many timers are pending, as the cap on them counts."""

from __future__ import annotations

from orchestrator.dispatch.timer_limit import TimerCap
from tests.support.memory import MemoryBroker, connect
from tests.support.server import make_settings
from wf.jetstream import topology
from wf.jetstream.port import Outgoing
from wf.protocol import subjects

TIMERS = topology.WORKFLOW_TIMERS


async def test_what_has_fired_is_not_pending_however_long_it_stays(tmp_path) -> None:
    """Its event may wait for the very room that it would take."""
    port = await connect(MemoryBroker())
    await topology.ensure(port, make_settings(tmp_path))
    cap = TimerCap(port, 2)
    await port.publish(TIMERS, [Outgoing(subjects.timer_fired("i", str(n)), b"") for n in (1, 2)])
    await cap.look()
    assert not cap.is_full
    pending = [Outgoing(subjects.timer_scheduled("i", str(n)), b"") for n in (3, 4)]
    await port.publish(TIMERS, pending)
    await cap.look()
    assert cap.is_full
    await port.close()
