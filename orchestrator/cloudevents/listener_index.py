"""The index of listeners in memory: which of them an event may be for. Pure.

It only narrows down: whether an event counts is decided by the machine of the instance. A listener
takes one entry in a table per type of event and set of correlations, keyed by the hash of what
these expect; an event is hashed once for each such set, however many wait.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.dispatch.lifecycle_events import PREFIX
from orchestrator.expressions.jq import (
    DEFAULT_LIMITS,
    Expression,
    ExpressionError,
    ExpressionRefused,
    compile_expression,
)
from orchestrator.machine.events.correlation import ANY_TYPE, Key
from orchestrator.machine.kernel.digest import NO_CORRELATION, Spec, digest
from wf.protocol.subjects import encoded

JsonObject = dict[str, Any]
Waiting = dict[str, str | set[str]]  # hash → "<instance>.<listener>", or several


class Listeners:
    def __init__(self) -> None:
        self._types: dict[str, dict[Spec, Waiting]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Forget all."""
        self._types.clear()
        self._size = 0

    def put(self, key: str, value: bytes) -> None:
        """Add an entry. Raises ValueError for one that is none."""
        parsed, spec = Key.parse(key), specification(value)
        waiting = self._types.setdefault(parsed.type, {}).setdefault(spec, {})
        who = f"{parsed.instance}.{parsed.listener}"
        known = waiting.get(parsed.hash)
        if known is None:
            waiting[parsed.hash] = who
        elif isinstance(known, set):
            if who in known:
                return
            known.add(who)
        elif known != who:
            waiting[parsed.hash] = {known, who}
        else:
            return
        self._size += 1

    def remove(self, key: str) -> None:
        """Take an entry out, if it is there."""
        try:
            parsed = Key.parse(key)
        except ValueError:
            return
        specs = self._types.get(parsed.type, {})
        for spec, waiting in specs.items():
            if parsed.hash in waiting and self._drop(waiting, parsed):
                if not waiting:
                    del specs[spec]
                if not specs:
                    del self._types[parsed.type]
                self._size -= 1
                return

    @staticmethod
    def _drop(waiting: Waiting, key: Key) -> bool:
        who, known = f"{key.instance}.{key.listener}", waiting[key.hash]
        if isinstance(known, set):
            if who not in known:
                return False
            known.discard(who)
            if not known:
                del waiting[key.hash]
            return True
        if known != who:
            return False
        del waiting[key.hash]
        return True

    def match(self, event: JsonObject) -> list[str]:
        """Keys of the entries that the event may be for. Listeners to any type are not told of the
        engine's own lifecycle events: hearing one would make the next."""
        tokens = [encoded(event["type"])]
        if not event["type"].startswith(PREFIX):
            tokens.append(ANY_TYPE)
        found: list[str] = []
        for token in tokens:
            for spec, waiting in self._types.get(token, {}).items():
                hash_ = hash_of(spec, event)
                known = None if hash_ is None else waiting.get(hash_)
                if known is not None:
                    people = [known] if isinstance(known, str) else sorted(known)
                    found += [f"{token}.{hash_}.{who}" for who in people]
        return found


def specification(value: bytes) -> Spec:
    """The correlations of an entry. Raises ValueError."""
    body = orjson.loads(value)
    try:
        return tuple((str(name), str(source)) for name, source in body["correlate"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an entry of the index: {error!r}") from error


def hash_of(spec: Spec, event: JsonObject) -> str | None:
    """What the event has for these correlations; None when it lacks something."""
    if not spec:
        return NO_CORRELATION
    values: list[Any] = []
    for _, source in spec:
        try:
            expression: Expression = compile_expression(source)
            values.append(expression.evaluate(event, {}, DEFAULT_LIMITS))
        except (ExpressionError, ExpressionRefused):
            return None
    return digest(spec, values)
