"""The workflow engine as a pure function: `advance(definition, snapshot, event, now)`.

Events are dicts with a `kind`:

    start    id, workflow, namespace, version, input, or `refused` (an error object); of a child
             also `parent` {id, run, awaited} and `depth`
    child    run, child, status and the rest of what orchestrator/machine/calls/child_workflow.py
             says
    result   activity, run, attempt, outcome and the rest of the body in wf/protocol/messages.py
    timer    timer
    command  verb (cancel, suspend, resume), sequence (of its message), maybe reason
    place    turn: the instance may run now (orchestrator/machine/control/concurrency.py)
    fault    error, maybe run (then only that run fails) and evidence: from the shell itself

Any may carry `facts`, the `fact` of each `expression.faulted` entry in the history of its first
application: what depended on the machine then is taken as it was.

The snapshot is JSON: `frames` are the nodes at work (id → node pointer, parent, and what the
handler of that kind keeps), `runs` the calls and children that are open, `timers` the ones pending,
`applied` and `control_sequence` what guards commands, `held` what came while suspended, and
counters.
"""

from orchestrator.machine.advance import advance
from orchestrator.machine.kernel.commands import (
    CancelTimer,
    Command,
    DeadLetter,
    Dispatch,
    Finished,
    Send,
    SetTimer,
    Transition,
)
from orchestrator.machine.kernel.limits import DEFAULT_LIMITS, Limits
from orchestrator.machine.kernel.step import TERMINAL

__all__ = [
    "DEFAULT_LIMITS",
    "TERMINAL",
    "CancelTimer",
    "Command",
    "DeadLetter",
    "Dispatch",
    "Finished",
    "Limits",
    "Send",
    "SetTimer",
    "Transition",
    "advance",
]
