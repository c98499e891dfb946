"""Whatever an activity raises or returns becomes one outcome at once, and the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.lanes import Answers, delivery, make_lane, run_all
from tests.support.outcomes import MODULE
from wf.authoring.activity import ActivityDefinition
from wf.authoring.module_loading import load
from wf.protocol import gate

_names: dict[str, Any] = {}
exec(MODULE, _names)

HALF = "\\ud83d"
BOTH = ("{}", "{}_async")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ActivityDefinition]:
    path: Path = tmp_path_factory.mktemp("odd") / "odd.py"
    path.write_text(MODULE)
    return {definition.name: definition for definition in load(str(path))}


async def outcome(definition: ActivityDefinition, kind: str, **more: Any) -> dict[str, Any]:
    """The result body of one call; the worker must serve another one after it."""
    lane = make_lane(definition, concurrency=1, timeout=5.0)
    bodies = await run_all(lane, delivery(1, {"kind": kind}, **more), delivery(2, {"kind": kind}))
    assert bodies.keys() == {1, 2}
    return bodies[1]


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("kind", _names["RAISES"])
async def test_whatever_is_raised_is_a_failure_with_a_text(
    odd: dict[str, ActivityDefinition], form: str, kind: str
) -> None:
    body = await outcome(odd[form.format("raises")], kind)
    assert body["outcome"] == "failed"
    assert body["retryable"] == (kind != "not retried")
    error = body["error"]
    assert error["detail"]
    assert error["title"]
    assert 100 <= error["status"] <= 599
    assert len(str(error)) < 30_000
    gate.encode(body)


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize(
    ("kind", "title", "detail"),
    [
        ("surrogate", "ValueError", f"bad {HALF}"),
        ("all of it", HALF, HALF),
        ("mute", "Mute", "Mute (its __str__ raised RuntimeError)"),
        ("exits", "Exits", "Exits (its __str__ raised SystemExit)"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("cancelled", "CancelledError", "CancelledError"),
        ("generator exit", "GeneratorExit", "GeneratorExit"),
        ("memory", "MemoryError", "MemoryError"),
        ("empty", "ValueError", "ValueError"),
    ],
)
async def test_a_failure_says_what_was_raised(
    odd: dict[str, ActivityDefinition], form: str, kind: str, title: str, detail: str
) -> None:
    error = (await outcome(odd[form.format("raises")], kind))["error"]
    assert (error["title"], error["detail"]) == (title, detail)
    assert "raises" in error["traceback"]


@pytest.mark.parametrize("form", BOTH)
async def test_a_recursion_without_end_is_a_failure(
    odd: dict[str, ActivityDefinition], form: str
) -> None:
    body = await outcome(odd[form.format("recursion")], "x")
    assert body["error"]["title"] == "RecursionError"


PLACES = {
    "nan": "/", "inf": "/a/1", "minus inf": "/", "nan in a box": "/b/inside", "nan of a kind": "/",
    "nan in a model": "/0/inside", "nan subclass": "/0", "mixed keys": "/a", "none key": "/0",
    "mixed enum": "/", "surrogate": "/a~1b/0", "surrogate in a box": "/inside", "big": "/0",
    "small": "/", "big in a model": "/inside", "bytes": "/b", "object": "/a", "coroutine": "/",
    "knot": "/0/again", "range": "/",
}  # fmt: skip


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("kind", _names["RETURNS"])
async def test_what_json_cannot_say_is_an_error_that_names_the_place(
    odd: dict[str, ActivityDefinition], form: str, kind: str
) -> None:
    body = await outcome(odd[form.format("returns")], kind)
    assert (body["outcome"], body["retryable"]) == ("failed", False)
    error = body["error"]
    assert (error["title"], error["status"]) == ("Invalid output", 400)
    assert error["detail"].startswith("return value: /")
    if kind in PLACES:
        assert error["detail"].startswith(f"return value: {PLACES[kind]}: "), error["detail"]


@pytest.mark.parametrize("kind", _names["RUDE"])
async def test_what_raises_while_it_is_written_is_a_failure(
    odd: dict[str, ActivityDefinition], kind: str
) -> None:
    body = await outcome(odd["returns"], kind)
    assert (body["outcome"], body["error"]["title"]) in [
        ("failed", "RuntimeError"),
        ("failed", "ValueError"),
    ]


FINE = {
    "none": None, "zero": -0.0, "largest": [2**64 - 1, -(2**63)], "nul": "a\0b",
    "int keys": {"1": "a", "2": "b"}, "enum": {"red": "red"}, "box": [{"inside": {"a": [1, [2]]}}],
    "model": {"inside": {"3": "1.10"}}, "pair": [1, "b"], "date": "2026-01-02",
    "uuid": {"00000000-0000-0000-0000-000000000005": "00000000-0000-0000-0000-000000000005"},
    "subclasses": {"k": ["x", 7, 1.5]}, "deque": [1], "generator": [1, 2], "path": "/x",
    "utf8": "abc", "empty key": {"": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", _names["FINE"])
async def test_what_json_can_say_arrives_as_it_is(
    odd: dict[str, ActivityDefinition], kind: str
) -> None:
    body = await outcome(odd["returns"], kind)
    assert body["outcome"] == "completed", body
    if kind != "levels":
        assert body["output"] == FINE[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("mixed", "same text"), ("none", "None is no string"), ("nan", "JSON has no nan")],
)
async def test_an_annotation_changes_nothing_about_that(
    odd: dict[str, ActivityDefinition], kind: str, said: str
) -> None:
    body = await outcome(odd["declared"], kind)
    assert said in body["error"]["detail"]
    assert (await outcome(odd["declared"], "fine"))["output"] == {"1": 2.0}


@pytest.mark.parametrize("kind", ["half", "nan", "mute", "mine"])
async def test_details_of_a_heartbeat_that_json_cannot_say_lose_no_result(
    odd: dict[str, ActivityDefinition], kind: str
) -> None:
    lane = make_lane(odd["beats"], concurrency=1, timeout=5.0)
    liveness = {"heartbeat_ms": 60_000}
    bodies = await run_all(lane, delivery(1, {"kind": kind}, liveness=liveness), port=Answers())
    assert bodies[1]["error"]["detail"] == "after"
