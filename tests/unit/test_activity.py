"""The decorator, retry policies, signatures and error objects."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from wf import ActivityError, Context, NonRetryable, Retry, activity
from wf.authoring import json_types
from wf.authoring.activity import MARK
from wf.authoring.signature import InvalidInput, InvalidOutput, read_signature
from wf.errors import ConfigError
from wf.protocol import problem_details
from wf.protocol.messages import encode


class Order(BaseModel):
    order_id: int
    items: list[str] = Field(default_factory=list)


@dataclasses.dataclass
class Point:
    x: int
    y: int


def test_a_marked_function_stays_callable_and_carries_its_options() -> None:
    @activity(name="add-up", timeout="1m30s", retry=Retry(max_attempts=5), concurrency=3)
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    options = getattr(add, MARK)
    assert (options.name, options.timeout_s, options.concurrency) == ("add-up", 90.0, 3)


def test_the_name_is_the_function_s_own_unless_given() -> None:
    @activity
    async def send_mail() -> None: ...

    assert getattr(send_mail, MARK).name == "send_mail"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "not a name"}, "use 1 to 64 characters"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"retry": 3}, "retry must be a wf.Retry"),
        ({"concurrency": 0}, "concurrency must be an integer of 1 or more"),
    ],
)
def test_wrong_options_are_refused_with_file_and_line(options: dict[str, Any], words: str) -> None:
    def target() -> None: ...

    with pytest.raises(ConfigError, match=r"test_activity\.py:\d+: ") as caught:
        activity(**options)(target)
    assert words in str(caught.value)


def test_what_is_not_a_plain_function_is_refused() -> None:
    def generator() -> Any:
        yield 1

    for wrong in (Order, generator):
        with pytest.raises(ConfigError):
            activity(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"backoff": "random"}, "constant, linear, exponential"),
        ({"jitter": 2}, "jitter"),
        ({"delay": "x"}, "Retry.delay"),
    ],
)
def test_wrong_retry_policies_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Retry(**arguments)


def test_a_retry_policy_has_its_wire_form() -> None:
    assert Retry(max_attempts=4, delay="500ms", max_delay="2m").policy() == {
        "max_attempts": 4,
        "delay_s": 0.5,
        "backoff": "exponential",
        "max_delay_s": 120.0,
        "jitter": 0.1,
    }


def test_keys_go_to_parameters_by_name_with_types_and_defaults() -> None:
    def charge(card: str, amount: Decimal, day: date, note: str = "none") -> None: ...

    signature = read_signature(charge)
    given_ = {"card": "4242", "amount": "12.50", "day": "2026-01-31"}
    assert signature.arguments(given_) == {
        "card": "4242",
        "amount": Decimal("12.50"),
        "day": date(2026, 1, 31),
    }
    assert signature.input_schema["required"] == ["card", "amount", "day"]
    assert signature.input_schema["properties"]["note"]["default"] == "none"


def test_an_unknown_key_is_named_with_the_nearest_parameter() -> None:
    def charge(card: str, amount: int) -> None: ...

    with pytest.raises(InvalidInput) as caught:
        read_signature(charge).arguments({"card": "1", "ammount": 2})
    assert "unknown key 'ammount' (did you mean 'amount'?)" in caught.value.detail
    assert "amount: Field required" in caught.value.detail
    assert caught.value.status == 400
    assert caught.value.type == problem_details.VALIDATION


def test_values_never_appear_in_validation_errors() -> None:
    def charge(amount: int) -> None: ...

    with pytest.raises(InvalidInput) as caught:
        read_signature(charge).arguments({"amount": "s3cret"})
    assert "s3cret" not in caught.value.detail


def test_unknown_keys_are_taken_by_double_star() -> None:
    def anything(a: int, **rest: Any) -> None: ...

    assert read_signature(anything).arguments({"a": 1, "b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", [Order, dict, dict[str, Any], Order | None, Point])
def test_a_lone_model_or_dict_gets_the_whole_input(kind: Any) -> None:
    def take(order): ...  # type: ignore[no-untyped-def]

    take.__annotations__ = {"order": kind}
    whole = {"x": 1, "y": 2} if kind is Point else {"order_id": 1, "items": []}
    got = read_signature(take).arguments(whole)["order"]
    assert got == (Point(1, 2) if kind is Point else got)
    by_name = read_signature(take).arguments({"order": whole})["order"]
    assert by_name == got


def test_a_lone_parameter_of_another_kind_does_not_get_the_whole_object() -> None:
    def take(order: int) -> None: ...

    with pytest.raises(InvalidInput, match="unknown key 'x'"):
        read_signature(take).arguments({"x": 1})


def test_an_input_that_is_no_object_goes_to_the_lone_parameter() -> None:
    def take(numbers: list[int]) -> None: ...

    assert read_signature(take).arguments([1, "2"]) == {"numbers": [1, 2]}


def test_an_input_that_is_no_object_is_refused_by_several_parameters() -> None:
    def take(a: int, b: int) -> None: ...

    with pytest.raises(InvalidInput, match="the input is an array, but there are several"):
        read_signature(take).arguments([1, 2])


def test_no_input_means_the_defaults() -> None:
    def take(options: dict[str, int] | None = None) -> None: ...

    assert read_signature(take).arguments(None) == {}
    assert read_signature(take).arguments({}) == {}


PLAIN = [
    *(int, str, float, bool, None, Any, list, dict, list[int], list[dict[str, list[Any]]]),
    *(dict[str, Any], dict[str, int], int | None, list[int | None], dict[str, Any] | None),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "1", "a", "yes"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab1"), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", PLAIN)
@given(given=JSON)
def test_plain_annotations_are_checked_as_pydantic_would(kind: Any, given: Any) -> None:
    ours, theirs = json_types.value(kind), TypeAdapter(kind)
    assert ours is not None
    assert outcome(ours, given) == outcome(theirs, given)


@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_annotations_have_the_json_schema_that_pydantic_makes(kind: Any, extra: bool) -> None:
    kinds = {"order_id": kind, "_x2": list[str], "camelCase": kind}
    shape = typing_extensions.TypedDict(
        "Input", {**kinds, "camelCase": typing_extensions.NotRequired[kind]}
    )
    theirs = TypeAdapter(with_config(ConfigDict(extra="allow" if extra else "forbid"))(shape))
    ours = json_types.fields(kinds, frozenset({"camelCase"}), extra=extra)
    assert ours is not None
    for mode in ("validation", "serialization"):
        assert ours.json_schema(mode=mode) == theirs.json_schema(mode=mode)
    for case in ({}, {"order_id": 1}, {"order_id": [], "_x2": [], "y": 1}, [], {"camelCase": "a"}):
        assert outcome(ours, case) == outcome(theirs, case)


@pytest.mark.parametrize("kind", [Order, int | str, date, bytes, list[Point], Any | int])
def test_what_is_more_than_plain_is_left_to_pydantic(kind: Any) -> None:
    assert json_types.value(kind) is None
    assert json_types.fields({"a": kind}, frozenset(), extra=False) is None


def outcome(adapter: Any, given: Any) -> str:
    """What the adapter makes of a value, or what it complains about."""
    try:
        value = adapter.validator.validate_python(given)
    except ValidationError as error:
        return repr([(one["loc"], one["msg"]) for one in error.errors()])
    return repr((value, adapter.serializer.to_python(value, mode="json", by_alias=True)))


@pytest.mark.parametrize("given", [None, {}, {"a": 1}, [1], "the previous output", 0])
def test_an_activity_without_parameters_ignores_its_input(given: Any) -> None:
    def nothing() -> None: ...
    def only_context(context: Context) -> None: ...

    assert read_signature(nothing).arguments(given) == {}
    assert read_signature(nothing).input_schema == {}
    assert read_signature(only_context).arguments(given) == {}


def test_the_context_is_found_by_its_annotation() -> None:
    def one(a: int, here: Context) -> None: ...
    def two(context: Context | None = None) -> None: ...
    def three(one: Context, two: Context) -> None: ...

    assert read_signature(one).context == "here"
    assert read_signature(one).names == ("a",)
    assert read_signature(two).context == "context"
    with pytest.raises(ConfigError, match="two Context parameters"):
        read_signature(three)


def test_unsupported_parameters_are_refused_with_the_remedy() -> None:
    def wrong(a: int, /, *rest: int) -> None: ...

    with pytest.raises(ConfigError) as caught:
        read_signature(wrong)
    first, second = caught.value.problems
    assert "test_activity.py:" in first
    assert "remove the `/`" in first
    assert "`rest: list[…]`" in second


def test_an_annotation_that_is_not_json_is_refused() -> None:
    class Strange: ...

    def wrong(a: int) -> None: ...

    wrong.__annotations__["a"] = Strange
    with pytest.raises(ConfigError, match="use JSON types, dataclasses or pydantic models"):
        read_signature(wrong)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (Order, Order(order_id=1), {"order_id": 1, "items": []}),
        (Order, {"order_id": "7"}, {"order_id": 7, "items": []}),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Decimal, Decimal("1.10"), "1.10"),
        (Point, Point(1, 2), {"x": 1, "y": 2}),
        (None, None, None),
        (Any, {"as": "it is"}, {"as": "it is"}),
    ],
)
def test_outputs_are_turned_into_json(kind: Any, value: Any, wanted: Any) -> None:
    def give(): ...  # type: ignore[no-untyped-def]

    give.__annotations__ = {"return": kind}
    assert read_signature(give).result(value) == wanted


def test_an_output_against_its_annotation_is_refused() -> None:
    def give() -> int: ...

    with pytest.raises(InvalidOutput, match="return value"):
        read_signature(give).result("many")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_json_input_gives_arguments_or_a_validation_error(value: Any) -> None:
    def take(a: int, b: dict[str, int] | None = None) -> None: ...

    detail = ""
    arguments: dict[str, Any] = {}
    try:
        arguments = read_signature(take).arguments(value)
    except InvalidInput as error:
        detail = error.detail
    assert len(detail) < 10_000
    assert set(arguments) <= {"a", "b"}
    assert bool(detail) is not bool(arguments)


def fail(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_exception_becomes_an_error_object_with_its_own_frames() -> None:
    body = problem_details.of_exception(fail(KeyError("sku")), inside=__file__)
    assert (body["type"], body["status"], body["title"]) == (
        problem_details.RUNTIME,
        500,
        "KeyError",
    )
    assert body["detail"] == "'sku'"
    assert body["traceback"].startswith("Traceback")
    assert "test_activity.py" in body["traceback"]


def test_an_activity_error_chooses_type_title_and_status() -> None:
    error = NonRetryable("no money", type="https://shop/errors/declined", title="No", status=402)
    body = problem_details.of_exception(fail(error))
    body.pop("traceback")
    assert body == {
        "type": "https://shop/errors/declined",
        "status": 402,
        "title": "No",
        "detail": "no money",
    }


def test_an_error_object_is_bounded_even_when_str_raises() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text for you")

    assert "RuntimeError" in problem_details.of_exception(fail(Nasty()))["detail"]
    huge = problem_details.of_exception(fail(ActivityError("x" * 100_000)))
    assert len(encode(huge)) < 20_000


def test_a_context_of_its_own_lets_tests_call_activities() -> None:
    context = Context(instance="order-1", run=7)
    assert context.idempotency_key == "order-1:7"
    assert 290 < context.remaining_s <= 300
    assert not context.cancel_requested
    context.cancelled.set()
    assert context.cancel_requested
    context.heartbeat({"page": 3})


def test_importing_wf_does_not_import_the_broker_client() -> None:
    code = "import sys, wf; print('nats' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["False", "False"]
