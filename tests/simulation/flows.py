"""The definitions that are run, what their activities do, and how each must end.

To add one: its tasks in `FLOWS`, how it ends in `EXPECTED`, an activity in `ACTIVITIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.definition import Definition, parse

JsonObject = dict[str, Any]

DOWN = "https://example.org/errors/down"
GIVEN_UP = "https://example.org/errors/given-up"


UP = {"n": "${ .n + 1 }"}


def call(activity: str, **more: Any) -> JsonObject:
    return {"call": activity, **more}


def child(workflow: str, **more: Any) -> JsonObject:
    return {"run": {"workflow": {"namespace": "default", "name": workflow, **more}}}


def emit(type_: str, n: Any) -> JsonObject:
    """An event that says whose it is."""
    return {
        "emit": {"event": {"with": {"type": type_, "data": {"of": "${ $workflow.id }", "n": n}}}}
    }


def own(type_: str) -> JsonObject:
    """The filter for an event of one's own."""
    correlate = {"of": {"from": ".data.of", "expect": "${ $workflow.id }"}}
    return {"with": {"type": type_}, "correlate": correlate}


def watched(task: JsonObject) -> JsonObject:
    return {**task, "metadata": {"wf": {"scheduleToStart": "PT8S", "heartbeat": "PT1S"}}}


def undone(task: JsonObject) -> JsonObject:
    return {**task, "metadata": {"wf": {"compensate": [{"back": call("add")}]}}}


FLOWS: dict[str, list[JsonObject]] = {
    "chain": [{"one": call("add")}, {"two": call("add")}, {"three": call("add")}],
    "instant": [{"only": {"set": {"n": "${ .n + 1 }"}}}],
    "waits": [
        {"before": call("add")},
        {"rest": {"wait": {"seconds": 3}}},
        {"after": call("add")},
        {"again": {"wait": {"milliseconds": 400}}},
    ],
    "tries": [
        {
            "attempt": {
                "try": [{"shaky": call("shaky")}],
                "catch": {
                    "errors": {"with": {"type": DOWN}},
                    "retry": {
                        "delay": {"seconds": 1},
                        "backoff": {"exponential": {}},
                        "limit": {"attempt": {"count": 10}},
                    },
                    "do": [{"undo": {"set": {"n": -1}}}],
                },
            }
        },
        {"then": call("add")},
    ],
    "catches": [
        {
            "attempt": {
                "try": [{"first": call("add")}, {"bad": call("broken")}],
                "catch": {"do": [{"undo": call("add", **{"with": {"n": 100}})}]},
            }
        },
        {"then": call("add")},
    ],
    "faults": [{"first": call("add")}, {"bad": call("broken")}],
    "policy": [{"shaky": call("stubborn")}, {"then": call("add")}],
    "chooses": [
        {
            "pick": {
                "switch": [
                    {"odd": {"when": ".n % 2 == 1", "then": "late"}},
                    {"even": {"then": "early"}},
                ]
            }
        },
        {"early": call("add", then="end")},
        {"late": call("add", **{"with": {"n": "${ .n + 10 }"}})},
    ],
    "loops": [
        {"up": call("add")},
        {"more": {"switch": [{"low": {"when": ".n < 6", "then": "up"}}]}},
    ],
    "forks": [
        {
            "all": {
                "fork": {
                    "branches": [
                        {"quick": call("add")},
                        {"late": {"do": [{"rest": {"wait": {"seconds": 1}}}, {"up": call("add")}]}},
                        {"shaky": call("stubborn")},
                        {"long": {"do": [{"a": call("add")}, {"b": call("add")}]}},
                    ]
                }
            }
        },
        {"sum": {"set": {"n": "${ map(.n) | add }"}}},
    ],
    "races": [
        {
            "any": {
                "fork": {
                    "compete": True,
                    "branches": [
                        {"quick": call("add")},
                        {
                            "slow": {
                                "do": [{"rest": {"wait": {"minutes": 15}}}, {"up": {"set": UP}}]
                            }
                        },
                        {"out": call("broken")},
                    ],
                }
            }
        },
        {"then": call("add")},
    ],
    "rounds": [
        {"each": {"for": {"in": "[1, 2, 3]"}, "do": [{"up": call("add")}]}},
        {"then": call("add")},
    ],
    "crowd": [
        {
            "each": {
                "for": {"in": "[range(5)]"},
                "do": [{"up": call("add", **{"with": {"n": "${ $item }"}})}],
                "metadata": {"wf": {"concurrency": 2}},
            }
        },
        {"sum": {"set": {"n": "${ map(.n) | add }"}}},
    ],
    "parent": [
        {"ask": child("chain")},
        {"both": {"fork": {"branches": [{"a": child("waits")}, {"b": child("instant")}]}}},
        {"sum": {"set": {"n": "${ map(.n) | add }"}}},
    ],
    "disappointed": [
        {
            "attempt": {
                "try": [{"ask": child("faults")}],
                "catch": {"do": [{"undo": {"set": {"n": 7}}}]},
            }
        },
        {"then": call("add")},
    ],
    "careless": [
        {"leave": {"run": {**child("waits")["run"], "await": False}}},
        {"tell": {"emit": {"event": {"with": {"type": "left", "data": {"n": "${ .n }"}}}}}},
        {"then": {"set": {"n": "${ .data.n }"}}},
    ],
    "hears": [
        {"early": emit("early", "${ .n }")},
        {"rest": {"wait": {"milliseconds": 300}}},
        {
            "hear": {
                "listen": {"to": {"one": own("early")}},
                "export": {"as": "${ {heard: .[0].n} }"},
            }
        },
        {
            "talk": {
                "fork": {
                    "branches": [
                        {"ears": {"listen": {"to": {"all": [own("a"), own("b")]}}}},
                        {
                            "mouth": {
                                "do": [
                                    {"up": call("add", **{"with": {"n": 0}})},
                                    {"b": emit("b", 2)},
                                    {"a": emit("a", 1)},
                                ]
                            }
                        },
                    ]
                }
            }
        },
        {"sum": {"set": {"n": "${ (.[0] | map(.n) | add) + $context.heard }"}}},
    ],
    "tells": [
        {"placed": emit("placed", "${ .n }")},
        {"up": call("add", **{"with": {"n": "${ .data.n }"}})},
        {"paid": emit("paid", "${ .n }")},
        {"then": {"set": {"n": "${ .data.n }"}}},
    ],
    "told": [{"up": call("add", **{"with": {"n": "${ .[0].data.n }"}})}],
    "paired": [{"sum": {"set": {"n": "${ map(.data.n) | add }"}}}],
    "undoes": [
        {"first": undone(call("add"))},
        {
            "both": {
                "fork": {
                    "branches": [
                        {"a": undone(call("stubborn"))},
                        {"b": {"do": [{"up": call("add")}, {"bad": call("broken")}]}},
                    ]
                }
            }
        },
    ],
    "watched": [
        {
            "attempt": {
                "try": [{"up": watched(call("add"))}, {"more": watched(call("shaky"))}],
                "catch": {"retry": {"limit": {"attempt": {"count": 1000}}}},
            }
        }
    ],
    "queues": [{"one": call("add")}, {"rest": {"wait": {"seconds": 1}}}, {"two": call("add")}],
    "rests": [{"rest": {"wait": {"days": 2}}}],
    "poison": [{"one": call("add")}, {"rest": {"wait": {"milliseconds": 500}}}],
    "raises": [{"one": call("add")}, {"rest": {"wait": {"milliseconds": 500}}}],
}

LIMITED = {"queues": 1}  # how many of these may run at once, of those with the same parity
ENDLESS = frozenset({"rests"})  # only a cancel ends these
TRIGGERS: dict[str, JsonObject] = {  # these are started by events of "tells" alone
    "told": {"any": [{"with": {"type": "placed"}}, {"with": {"type": "paid"}}]},
    "paired": {
        "all": [
            {"with": {"type": "paid"}, "correlate": {"of": {"from": ".data.of"}}},
            {"with": {"type": "placed"}, "correlate": {"of": {"from": ".data.of"}}},
        ]
    },
}
BAD = frozenset({"poison", "raises"})  # see bad.py
NAMES = tuple(name for name in FLOWS if name not in BAD and name not in TRIGGERS)

# The status and output of a flow that was started with {"n": n} and left alone.
EXPECTED: dict[str, Callable[[int], tuple[str, Any]]] = {
    "chain": lambda n: ("completed", {"n": n + 3}),
    "instant": lambda n: ("completed", {"n": n + 1}),
    "waits": lambda n: ("completed", {"n": n + 2}),
    "tries": lambda n: ("completed", {"n": n + 2}),
    "catches": lambda n: ("completed", {"n": 102}),
    "faults": lambda n: ("faulted", None),
    "policy": lambda n: ("completed", {"n": n + 2}),
    "chooses": lambda n: ("completed", {"n": n + 11 if n % 2 else n + 1}),
    "loops": lambda n: ("completed", {"n": max(n + 1, 6)}),
    "forks": lambda n: ("completed", {"n": 4 * n + 5}),
    "races": lambda n: ("completed", {"n": n + 2}),
    "rounds": lambda n: ("completed", {"n": n + 4}),
    "crowd": lambda n: ("completed", {"n": 15}),
    "parent": lambda n: ("completed", {"n": (n + 5) + (n + 4)}),
    "disappointed": lambda n: ("completed", {"n": 8}),
    "careless": lambda n: ("completed", {"n": n}),
    "hears": lambda n: ("completed", {"n": n + 3}),
    "tells": lambda n: ("completed", {"n": n + 1}),
    "undoes": lambda n: ("faulted", None),
    "watched": lambda n: ("completed", {"n": n + 2}),
    "queues": lambda n: ("completed", {"n": n + 2}),
    "rests": lambda n: ("cancelled", None),
    "poison": lambda n: ("faulted", None),
    "raises": lambda n: ("faulted", None),
}


def _add(input: Any, attempt: int) -> Any:
    return {"n": input["n"] + 1}


def _shaky(input: Any, attempt: int) -> Any:
    if attempt <= input["n"] % 3:
        raise Down(DOWN, retryable=True)
    return {"n": input["n"] + 1}


def _broken(input: Any, attempt: int) -> Any:
    raise Down(GIVEN_UP, retryable=False)


class Down(Exception):
    """What an activity raises."""

    def __init__(self, type: str, *, retryable: bool) -> None:
        super().__init__(type)
        self.error = {"type": type, "status": 503, "title": "Down", "detail": "no answer"}
        self.retryable = retryable


ACTIVITIES: dict[str, Callable[[Any, int], Any]] = {
    "add": _add,
    "shaky": _shaky,
    "stubborn": _shaky,
    "broken": _broken,
}

# The policy that a worker sends along with a failure.
POLICIES: dict[str, JsonObject] = {
    "stubborn": {
        "max_attempts": 8,
        "delay_s": 0.5,
        "backoff": "linear",
        "max_delay_s": 5.0,
        "jitter": 0.1,
    }
}


def _define(name: str) -> Definition:
    header = {"dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0"}
    document: JsonObject = {"document": header, "do": FLOWS[name]}
    if name in LIMITED:
        wf = {"concurrency": LIMITED[name], "concurrencyKey": "${ .n % 2 }"}
        document["document"] = {**header, "metadata": {"wf": wf}}
    if name in TRIGGERS:
        document["schedule"] = {"on": TRIGGERS[name]}
    return parse(document)


DEFINITIONS: dict[str, Definition] = {name: _define(name) for name in FLOWS}


def lookup(namespace: str, name: str, version: str | None) -> Definition | None:
    """As the engine's table of definitions."""
    return DEFINITIONS.get(name) if namespace == "default" else None
