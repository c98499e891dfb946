"""`wf-supervisor explain`: in sentences, why something is as it is, what comes next, what to do.

A pure function of the status document, so that it costs the supervisor nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from supervisor.control.status import age, one_line
from supervisor.policy.spec import is_named

Document = dict[str, Any]

# cause of an end → what it means, what to do about it
CAUSES: dict[str, tuple[str, str]] = {
    "config": (
        "its settings or its module are wrong, and starting it again alone does not help",
        "mend what the error names; a saved file is noticed, or send SIGHUP",
    ),
    "broker": (
        "it could not reach the broker, which is not its own fault",
        "look at the broker: `wf-supervisor explain broker`, or the servers of [nats]",
    ),
    "boot": (
        "it ended, or was ended, before it was ready",
        "read its last lines in the log; an import that takes long counts as well",
    ),
    "crash": (
        "it ended by itself while it was at work",
        "read its last lines in the log; `wf dead-letters list` shows tasks that kill workers",
    ),
    "task": (
        "it ended by itself while tasks ran, which answer for it",
        "`wf dead-letters list` shows tasks that kill workers",
    ),
    "hang": (
        "it was alive but did not get on, so it was dumped and ended",
        "its stacks are in the log: look there for what blocks",
    ),
    "memory": (
        "it needed more memory than it was given",
        "see max_memory and concurrency of the pool, and the memory of the host",
    ),
    "recycle": ("it asked to be started afresh (max_tasks, max_memory, a stuck thread)", ""),
    "operator": ("somebody wanted it to stop", ""),
    "reload": (
        "it was to replace another process and failed, so the old one stayed",
        "mend the module or the settings; a saved file is noticed",
    ),
}


@dataclass(slots=True)
class Explanation:
    """Sentences. `why`: the state and its reason; `then`: what happens next and when."""

    name: str
    state: str
    why: list[str] = field(default_factory=list)
    then: list[str] = field(default_factory=list)
    can: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"{self.name}: {self.state}", ""]
        lines += [f"  {line}" for line in self.why]
        for title, sentences in (("Next:", self.then), ("You can:", self.can)):
            if sentences:
                lines += ["", f"  {title}", *(f"  - {line}" for line in sentences)]
        return "\n".join(lines) + "\n"


def explain(status: Document, name: str) -> Explanation | None:
    """What there is to say about a process (name, with or without `worker`, or pid), a pool, or
    `supervisor`; None: there is no such thing."""
    if name == "supervisor":
        return _supervisor(status)
    pools = {pool["name"]: pool for pool in status["pools"]}
    for process in status["processes"]:
        if is_named(name, process["name"], process["pid"]):
            return _process(status, process, pools.get(process["pool"], {}))
    for worker in status["client_workers"]:
        if worker["name"] == name:
            return _client_worker(worker)
    return _pool(pools[name]) if name in pools else None


def names(status: Document) -> list[str]:
    """What can be explained."""
    processes = [_short(process["name"]) for process in status["processes"]]
    pools = [pool["name"] for pool in status["pools"] if pool["role"] == "worker"]
    clients = [worker["name"] for worker in status["client_workers"]]
    return ["supervisor", *dict.fromkeys(processes + pools + clients)]


def _short(name: str) -> str:
    return name.removeprefix("worker ")


# The supervisor


def _supervisor(status: Document) -> Explanation:
    told = Explanation("supervisor", status["state"])
    told.why.append(f"Up for {age(status['uptime_s'])}: {one_line(status)}.")
    match status["state"]:
        case "starting":
            told.why.append("The engine, or the first worker of some pool, is not ready yet.")
        case "reloading":
            told.why.append("It checks a changed configuration, or replaces processes one by one.")
            told.then.append("If a new process fails, the roll stops and the old ones stay.")
        case "stopping":
            told.why.append("Workers finish what they have begun; the broker leaves last.")
            told.can.append("send SIGTERM again: everything is killed at once")
    for one in status.get("troubles", ()):
        told.why.append(f"Trouble with {one['who']}: {one['what']}.")
    if lost := status.get("data_lost"):
        told.why.append(f"{age(lost['ago_s'])} ago it was seen that {lost['what']}.")
    for problem in status["reload_error"]:
        told.why.append(f"The last reload was refused and has changed nothing: {problem}")
        told.can.append("mend that; a saved file is noticed")
    for what in status["restart_needed"]:
        told.why.append(f"{what} has changed, which only a restart brings into force.")
    if status["restart_needed"]:
        told.can.append("restart the service when it suits: `systemctl restart wf-supervisor`")
    for pool in status["pools"]:
        if pool["state"] in ("failed", "degraded"):
            told.can.append(f"ask why: `wf-supervisor explain {pool['name']}`")
    return told


# A process


def _process(status: Document, process: Document, pool: Document) -> Explanation:
    told = Explanation(process["name"], process["state"])
    state = {
        "ready": _ready,
        "unable": _ready,
        "starting": _starting,
        "stopping": _stopping,
        "held": _held,
        "paused": _paused_process,
    }.get(process["state"])
    if state is not None:
        state(told, process, pool)
    else:
        _waiting(told, status, process, pool)
    _last_exit(told, process["last_exit"], process["restarts"])
    return told


def _ready(told: Explanation, process: Document, pool: Document) -> None:
    done = process["done"]
    told.why.append(
        f"Process {process['pid']} has been up for {age(process['uptime_s'])}"
        + (f" and has finished {done} tasks." if process["role"] == "worker" else ".")
    )
    if process["state"] == "unable":
        told.why.append("It is up, but no work can come to it.")
    told.why += [f"It says: {text}." for text in process.get("troubles", ())]
    for task in process["tasks"][:5]:
        told.why.append(
            f"It runs {task['activity'] or 'a task'} (task {task['sequence']}) for"
            f" {age(task['age_s'])} now; {_deadline(task['left_s'])}."
        )
    if process["lag_s"] is not None and process["lag_s"] > 1.0:
        told.why.append(f"Its event loop is {age(process['lag_s'])} late: something blocks it.")
    if process["half_open"]:
        told.why.append("It is the trial of a degraded pool.")
        told.then.append("When it finishes a task, or stays up for some seconds, the rest starts.")
    if process["successor"]:
        told.why.append("It is to replace the process of the same name.")
        told.then.append("When it has finished a task, or none waits, the old one drains.")
    short = quote(_short(process["name"]))
    told.can.append(f"replace it without losing a task: `wf-supervisor restart {short}`")
    if process["role"] == "worker":
        told.can.append(f"let it finish and leave: `wf-supervisor drain {short}`")


def _deadline(left_s: float) -> str:
    if left_s < 0:
        return f"its time has been up for {age(-left_s)}"
    return f"its time is up in {age(left_s)}"


def _starting(told: Explanation, process: Document, pool: Document) -> None:
    told.why.append(
        f"Process {process['pid']} was started {age(process['uptime_s'])} ago and has not said yet"
        " that it is ready."
    )
    if process["boot_left_s"] is not None:
        told.then.append(
            f"If it is not ready in {age(process['boot_left_s'])}, it is killed, which counts as a"
            " failed boot."
        )


def _stopping(told: Explanation, process: Document, pool: Document) -> None:
    told.why.append(
        f"Process {process['pid']} was told to leave: it finishes what it has begun and hands back"
        " the rest."
    )
    if process["kill_in_s"] is not None:
        told.then.append(f"If it is still there in {age(process['kill_in_s'])}, it is killed.")


def _held(told: Explanation, process: Document, pool: Document) -> None:
    told.why.append("It was drained by order, and its place is kept empty.")
    short = quote(_short(process["name"]))
    told.can.append(f"fill it again: `wf-supervisor restart {short}`")


def _paused_process(told: Explanation, process: Document, pool: Document) -> None:
    told.why.append(f"Its pool {pool['name']} was paused by order; its tasks wait.")
    told.can.append(f"go on: `wf-supervisor resume {pool['name']}`")


def _waiting(told: Explanation, status: Document, process: Document, pool: Document) -> None:
    left = age(process["next_start_s"] or 0.0)
    if pool.get("breaker") == "open":
        told.why.append(f"Nothing runs here because its pool {pool['name']} is {pool['state']}.")
        told.then.append(f"In {left} the pool tries again with one process.")
        told.can.append(f"try now: `wf-supervisor restart {pool['name']}`")
        return
    if pool.get("breaker") == "half-open":
        told.why.append("Another process of its pool tries first whether it works again.")
        return
    engine = [
        one["name"]
        for one in status["processes"]
        if one["role"] in ("broker", "orchestrator") and one["state"] != "ready"
    ]
    if not process["next_start_s"] and engine:
        told.why.append(f"It is started when {' and '.join(engine)} is ready.")
        told.can.append(f"ask what keeps it: `wf-supervisor explain {quote(engine[0])}`")
    elif not process["next_start_s"]:
        told.why.append("It is about to be started.")
    else:
        told.why.append(
            f"Its process has failed {process['failures']} times in a row, and each time the next"
            " start waits longer; a finished task makes up for that."
        )
        told.then.append(f"In {left} it is started again.")
        told.can.append(f"start it now: `wf-supervisor restart {quote(_short(process['name']))}`")


def _last_exit(told: Explanation, last: Document | None, restarts: int | None) -> None:
    if last is None:
        return
    meaning, remedy = CAUSES.get(last["cause"], ("", ""))
    count = f" ({restarts} restarts in all)" if restarts else ""
    told.why.append(
        f"Its last process ended {age(last['ago_s'])} ago with {last['how']}{count}: {meaning}."
    )
    if last["error"]:
        told.why.append(f"It said: {last['error'].strip().splitlines()[-1]}")
    if remedy and last["ago_s"] < 3600:
        told.can.append(remedy)


# A client worker


def _client_worker(worker: Document) -> Explanation:
    told = Explanation(f"client worker {worker['name']}", "running")
    told.why.append(f"It works on {worker['host']} without a supervisor, pid {worker['pid']}.")
    for name, figures in worker["activities"].items():
        told.why.append(f"{name}: {figures['running']} of {figures['concurrency']} tasks run.")
    _backlog(told, worker)
    told.then.append("It tells of itself every five seconds, and is forgotten after a minute.")
    told.can.append("stop it on its own host: SIGTERM lets it finish what runs")
    return told


# A pool


def _pool(pool: Document) -> Explanation:
    told = Explanation(f"pool {pool['name']}", pool["state"])
    name = pool["name"]
    told.why.append(f"{pool['ready']} of {pool['wanted']} processes are ready{_counted(pool)}.")
    _backlog(told, pool)
    if pool["autoscale"]:
        told.why.append(f"Its count follows its load: {pool['autoscale']['reason']}.")
        if pool["autoscale"]["vetoed"]:
            told.then.append("It grows as soon as the host has CPU and memory to spare.")
            told.can.append(f"have it grow all the same: `wf-supervisor scale {name} N`")
    match pool["state"]:
        case "unable":
            told.why.append("Its processes are up, but no work can come to them.")
            told.can.append("see what is wrong: `wf-supervisor status`")
        case "paused":
            told.why.append("It was paused by order: its tasks wait, none is lost.")
            told.can.append(f"go on: `wf-supervisor resume {name}`")
        case "empty":
            told.why.append("It is to have no process: its tasks wait, none is lost.")
            told.can.append(f"give it some: `wf-supervisor scale {name} 1`, or in pool.toml")
        case "failed" | "degraded":
            _broken(told, pool)
        case "starting":
            told.why.append("Some of its processes are not ready yet.")
    if pool["rolling"] and not pool["roll_error"]:
        told.then.append("Its processes are being replaced, one after the other.")
    if pool["roll_error"]:
        last = pool["roll_error"].strip().splitlines()[-1]
        told.why.append(f"Its last change was given up, because a new process failed: {last}")
        told.then.append("The old processes go on until the module or the settings change again.")
        told.can.append(f"try the same change once more: `wf-supervisor restart {name}`")
    return told


def _counted(pool: Document) -> str:
    if pool["stated"] is None:
        return ""
    if pool["scaled"] is not None:
        return f"; {pool['scaled']} were ordered by `scale`, pool.toml says {pool['stated']}"
    return f"; pool.toml says {pool['stated']}"


def _backlog(told: Explanation, pool: Document) -> None:
    waiting = pool["backlog"]
    if waiting is None:
        if pool["role"] == "worker" and pool["ready"]:
            told.why.append("How many of its tasks wait is not known just now.")
        return
    oldest = "" if waiting["oldest_s"] is None else f", the oldest {age(waiting['oldest_s'])} old"
    told.why.append(
        f"{waiting['pending']} tasks wait and {waiting['in_flight']} are with workers{oldest}."
    )


def _broken(told: Explanation, pool: Document) -> None:
    cause = pool["breaker_cause"]
    meaning, remedy = CAUSES.get(cause or "", ("", ""))
    if pool["error"]:
        told.why.append(f"It cannot run: {pool['error'].strip().splitlines()[-1]}")
    elif cause:
        told.why.append(
            f"Its processes failed {pool['failures']} times of late, the last time because"
            f" {meaning}. So that they do not take the host down, it was stopped"
            f" ({pool['openings']} times so far). The other pools go on."
        )
    if pool["breaker"] == "open":
        told.then.append(
            f"In {age(pool['breaker_left_s'])} one process is started to find out whether it works"
            " again; if it does, the others follow, else the next try comes later."
        )
    else:
        told.then.append("One process tries right now; when it works, the others follow.")
    if remedy:
        told.can.append(remedy)
    told.can.append(f"try now: `wf-supervisor restart {pool['name']}`")
