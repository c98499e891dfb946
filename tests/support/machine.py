"""Shorthand for tests of the machine: definitions, events, and a driver that checks as it goes."""

import copy
from typing import Any

import orjson

from orchestrator.definition import Definition, parse
from orchestrator.machine import DEFAULT_LIMITS, Send, Transition, advance

HEADER = {"dsl": "1.0.3", "namespace": "default", "name": "flow", "version": "1.0.0"}
ERRORS = "https://open-workflow-specification.org/spec/1.0.0/errors/"


def define(*tasks: dict[str, Any], **more: Any) -> Definition:
    """A definition of these tasks; each is {name: body}. Those may be out of reach."""
    return parse({"document": HEADER, "do": list(tasks), **more}, registered=True)


class Driver:
    """Feeds events to one instance; every step is checked for what must always hold."""

    def __init__(self, definition: Definition | None, limits: Any = DEFAULT_LIMITS) -> None:
        self.definition = definition
        self.limits = limits
        self.snapshot: dict[str, Any] | None = None
        self.now_ms = 1_000_000
        self.last = Transition({})
        self.log: list[tuple[dict[str, Any], int, list[dict[str, Any]]]] = []
        self.commands: list[Any] = []
        self.sequence = 0

    def feed(self, event: dict[str, Any]) -> Transition:
        before = copy.deepcopy(self.snapshot)
        result = advance(self.definition, self.snapshot, event, self.now_ms, self.limits)
        assert self.snapshot == before, "the snapshot that was given was changed"
        if before is not None:
            reused = advance(self.definition, before, event, self.now_ms, self.limits, reuse=True)
            assert reused == result, "it matters whether the snapshot is given up"
        if result.ignored is None:
            assert result.history, "an event that counts must leave a trace"
            assert orjson.loads(orjson.dumps(result.snapshot)) == result.snapshot
            self.log.append((event, self.now_ms, result.history))
            self.snapshot = result.snapshot
            self.commands += result.commands
            if self.terminal:
                assert not result.snapshot["runs"]
                assert not result.snapshot["timers"]
                assert not result.snapshot["frames"]
        else:
            assert not result.commands
            assert not result.history
        self.last = result
        return result

    @property
    def state(self) -> dict[str, Any]:
        assert self.snapshot is not None
        return self.snapshot

    @property
    def terminal(self) -> bool:
        return self.status in ("cancelled", "faulted", "completed")

    @property
    def status(self) -> str:
        return "" if self.snapshot is None else self.snapshot["status"]

    def start(self, input: Any = None, **more: Any) -> Transition:
        event = {"kind": "start", "id": "i-1", "workflow": "flow", "namespace": "default"}
        return self.feed({**event, "version": "1.0.0", "input": input, **more})

    def result(self, run: int, attempt: int | None = None, **more: Any) -> Transition:
        """A result of an open run; completed unless `outcome` says otherwise."""
        open_run = self.state["runs"].get(str(run), {"activity": "gone", "attempt": 1})
        if "child" in open_run:
            return self.child(run, **more)
        event = {
            "kind": "result",
            "activity": open_run["activity"],
            "run": run,
            "attempt": open_run["attempt"] if attempt is None else attempt,
            "outcome": "completed",
        }
        return self.feed({**event, **more})

    def child(self, run: int, status: str = "completed", **more: Any) -> Transition:
        """The end of the child that is this run."""
        child = self.state["runs"].get(str(run), {}).get("child", "gone")
        return self.feed({"kind": "child", "run": run, "child": child, "status": status, **more})

    def done(self, output: Any, run: int | None = None) -> Transition:
        return self.result(self.only_run if run is None else run, output=output)

    def failed(self, run: int | None = None, attempt: int | None = None, **more: Any) -> Transition:
        event: dict[str, Any] = {
            "outcome": "failed",
            "retryable": True,
            "error": {"type": "about:x", "status": 503, "title": "Down", "detail": "no answer"},
        }
        return self.result(self.only_run if run is None else run, attempt, **{**event, **more})

    @property
    def only_run(self) -> int:
        ((run, _),) = self.state["runs"].items()
        return int(run)

    @property
    def only_timer(self) -> int:
        ((timer, _),) = self.state["timers"].items()
        return int(timer)

    def fire(self, timer: int | None = None) -> Transition:
        """Fire a timer, at the time that it is due."""
        timer = self.only_timer if timer is None else timer
        known = self.state["timers"].get(str(timer))
        if known is not None:
            self.now_ms = max(self.now_ms, known["due_ms"])
        return self.feed({"kind": "timer", "timer": timer})

    def command(self, verb: str, sequence: int | None = None, **more: Any) -> Transition:
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return self.feed({"kind": "command", "verb": verb, "sequence": sequence, **more})

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of all sends of one kind so far."""
        return [c.body for c in self.commands if isinstance(c, Send) and c.kind == kind]

    def event(
        self, type_: str, sequence: int, data: Any = None, listener: Any = None, **more: Any
    ) -> Transition:
        """A CloudEvent for a listener: the frame of the only listen unless one is given."""
        if listener is None:
            listener = self.name_of(self.only_listener)
        event = {"specversion": "1.0", "id": f"e{sequence}", "source": "/test", "type": type_}
        if data is not None:
            event["data"] = data
        return self.feed(
            {
                "kind": "event",
                "listener": str(listener),
                "sequence": sequence,
                "time_ms": self.now_ms,
                "match": f"{listener}:{sequence}",
                "event": {**event, **more},
            }
        )

    def signal(self, name: str, data: Any = None, sequence: int | None = None) -> Transition:
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return self.feed({"kind": "signal", "name": name, "sequence": sequence, "data": data})

    @property
    def listeners(self) -> list[str]:
        """The frames that listen, the oldest first."""
        frames = self.state["frames"]
        return sorted((f for f, s in frames.items() if "seen" in s and "done" not in s), key=int)

    def name_of(self, frame: str) -> str:
        """By what name events are sent to the listen of this frame."""
        name: str = self.state["frames"][frame].get("listener", frame)
        return name

    @property
    def only_listener(self) -> str:
        (listener,) = self.listeners
        return listener

    def types(self) -> list[str]:
        """The types of the last transition's history entries."""
        return [entry["type"] for entry in self.last.history]

    def replay(self) -> dict[str, Any] | None:
        """The snapshot that the recorded events give, with their recorded facts."""
        snapshot = None
        for event, now_ms, history in self.log:
            facts = [entry["fact"] for entry in history if "fact" in entry]
            result = advance(
                self.definition, snapshot, {**event, "facts": facts}, now_ms, self.limits
            )
            assert result.ignored is None
            snapshot = result.snapshot
        return snapshot


def run_through(definition: Definition, input: Any = None) -> Driver:
    """Start, and check that it needs nothing from outside."""
    driver = Driver(definition)
    driver.start(input)
    assert driver.terminal
    return driver
