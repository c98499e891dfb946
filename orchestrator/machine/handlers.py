"""Which handler serves which kind of node. A new kind is a line here and in definition/tasks."""

from __future__ import annotations

from orchestrator.machine.blocks import BlockHandler
from orchestrator.machine.calling import CallHandler
from orchestrator.machine.emitting import EmitHandler
from orchestrator.machine.forking import ForkHandler
from orchestrator.machine.handler import Handler
from orchestrator.machine.listening import ListenHandler
from orchestrator.machine.looping import ForHandler
from orchestrator.machine.running import RunHandler
from orchestrator.machine.simple import DoHandler, RaiseHandler, SetHandler, SwitchHandler
from orchestrator.machine.trying import TryHandler
from orchestrator.machine.waiting import WaitHandler

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
