"""Which handler serves which kind of node. A new kind is a line here and in definition/tasks."""

from __future__ import annotations

from orchestrator.machine.calls.call import CallHandler
from orchestrator.machine.calls.run import RunHandler
from orchestrator.machine.calls.try_ import TryHandler
from orchestrator.machine.events.listen import ListenHandler
from orchestrator.machine.flow.basic import (
    DoHandler,
    RaiseHandler,
    SetHandler,
    SwitchHandler,
)
from orchestrator.machine.flow.blocks import BlockHandler
from orchestrator.machine.flow.emit import EmitHandler
from orchestrator.machine.flow.for_ import ForHandler
from orchestrator.machine.flow.fork import ForkHandler
from orchestrator.machine.flow.wait import WaitHandler
from orchestrator.machine.kernel.handler import Handler

HANDLERS: dict[str, Handler] = {
    "block": BlockHandler(),
    "call": CallHandler(),
    "do": DoHandler(),
    "emit": EmitHandler(),
    "for": ForHandler(),
    "fork": ForkHandler(),
    "listen": ListenHandler(),
    "raise": RaiseHandler(),
    "run": RunHandler(),
    "set": SetHandler(),
    "switch": SwitchHandler(),
    "try": TryHandler(),
    "wait": WaitHandler(),
}
