"""What passes the gate can be stored, encoded and shown; what does not is told with its place."""

from __future__ import annotations

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.errors import MessageError
from wf.protocol import gate, messages

HALF = "\ud83d"

_leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
)
_key = st.text(st.characters(exclude_categories=()), max_size=4) | st.integers(0, 2) | st.none()
anything = st.recursive(
    _leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_key, inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, core: object = 1) -> object:
    for _ in range(levels):
        core = [core]
    return core


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"NaN", "not JSON"),
        (b"1e999", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (rb'"Ann \ud83d"', "not JSON"),
        (rb'{"\udc00": 1}', "not JSON"),
        (f'"{HALF}"', "not JSON"),
        (b"18446744073709551616", "18446744073709551616 does not fit in 64 bits"),
        (b'{"a": [-9223372036854775809]}', "-9223372036854775809 does not fit"),
        (b"9" * 300, "does not fit"),
        (b"[" * 209 + b"]" * 209, "nests deeper than 208 levels"),
        (b'{"a":' * 209 + b"1" + b"}" * 209, "nests deeper than 208 levels"),
        (b"[" * 2000 + b"]" * 2000, "not JSON"),
    ],
)
def test_what_is_refused_when_read_names_its_place(data: bytes | str, words: str) -> None:
    with pytest.raises(MessageError, match=words) as caught:
        gate.decode(data, "workflow.start.order")
    assert str(caught.value).startswith("workflow.start.order: ")


@pytest.mark.parametrize(
    "data",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b'"18446744073709551616"',
        rb'{"18446744073709551616\"": "\\"}',
        b"1.84467440737095516160",
        b"18446744073709551616e0",
        b"0.18446744073709551616123",
        b'"a\\u0000b"',
        rb'"\ud83d\ude00"',
        b"[" * 208 + b"]" * 208,
        b"[" + b"[1]," * 500 + b"2]",
        b'"' + b"[" * 500 + b'"',
    ],
)
def test_what_is_let_in_can_be_stored_again(data: bytes) -> None:
    value = gate.decode(data)
    assert value == json.loads(data)
    assert gate.decode(gate.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        (math.nan, "/", "JSON has no nan"),
        ({"a": [1, math.inf]}, "/a/1", "JSON has no inf"),
        ({"a": None, "b": -math.inf}, "/b", "JSON has no -inf"),
        ({1: 2}, "/", "the key 1 is no string"),
        ({"a": {None: 2}}, "/a", "the key None is no string"),
        ({"a/b": 2**64}, "/a~1b", "does not fit in 64 bits"),
        ([-(2**63) - 1], "/0", "does not fit in 64 bits"),
        ({"a": [HALF]}, "/a/0", r"\\ud83d, half of a surrogate pair"),
        ({"a": {HALF: 1}}, "/a", r"a key: the text holds \\ud83d"),
        ({"a": object()}, "/a", "JSON cannot hold a object"),
        ([b"x"], "/0", "JSON cannot hold a bytes"),
    ],
)
def test_what_json_cannot_say_is_refused_at_its_pointer(
    value: object, pointer: str, words: str
) -> None:
    with pytest.raises(MessageError, match=words) as caught:
        gate.encode(value, "output")
    assert str(caught.value).startswith(f"output: {pointer}: ")


@pytest.mark.parametrize("levels", [209, 254, 255, 5_000])
def test_what_nests_too_deeply_is_not_written(levels: int) -> None:
    with pytest.raises(MessageError, match="nests deeper than"):
        gate.encode(nested(levels))


def test_a_value_that_is_let_in_leaves_room_for_what_is_around_it() -> None:
    value = nested(gate.VALUE_DEPTH)
    gate.check_value(value)
    assert gate.decode(gate.encode({"v": 1, "cloud_event": {"data": value}}))
    orjson.dumps(nested(gate.STORED_DEPTH - gate.MAX_DEPTH, nested(gate.MAX_DEPTH)))
    with pytest.raises(MessageError, match="deeper than 200"):
        gate.check_value(nested(gate.VALUE_DEPTH + 1))


def test_null_is_no_reason_to_refuse_and_nan_beside_it_is() -> None:
    assert gate.encode({"a": None, "b": "null"}) == b'{"a":null,"b":"null"}'
    with pytest.raises(MessageError, match="JSON has no nan"):
        gate.encode({"a": None, "b": math.nan})


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ValueError(f"Ann {HALF}"), r"Ann \ud83d"),
        (f"{HALF}\udc00", r"\ud83d\udc00"),
        ("\x00", "\x00"),
        (Mute(), "Mute (its __str__ raised ValueError)"),
        (b"\xff", r"b'\xff'"),
        (None, "None"),
    ],
)
def test_a_text_can_always_be_stored(value: object, expected: str) -> None:
    assert gate.text(value) == expected
    assert orjson.dumps(gate.text(value))


def test_a_text_is_bounded() -> None:
    assert gate.text("x" * 50, 10) == "x" * 9 + "…"
    assert gate.error_text(ValueError(HALF)) == r"ValueError: \ud83d"
    assert gate.error_text(ValueError()) == "ValueError"


@given(anything)
def test_whatever_is_encoded_comes_back_the_same(value: object) -> None:
    if _plain(value):
        assert gate.decode(gate.encode(value)) == value
        return
    with pytest.raises(MessageError) as caught:
        gate.encode(value)
    assert orjson.dumps(str(caught.value))


@given(anything)
def test_whatever_is_decoded_is_exact_and_can_be_encoded(value: object) -> None:
    data = json.dumps(value).encode()
    exact = json.loads(data)
    if _plain(exact):
        found = gate.decode(data)
        assert found == exact
        assert gate.decode(gate.encode(found)) == exact
        return
    with pytest.raises(MessageError) as caught:
        gate.decode(data)
    assert orjson.dumps(str(caught.value))


@given(st.text(st.characters(exclude_categories=())), st.integers(1, 40))
def test_any_text_becomes_one_that_utf8_can_encode(value: str, limit: int) -> None:
    assert len(gate.text(value, limit).encode()) >= bool(value)


def _plain(value: object) -> bool:
    """What JSON can say, in the slow and obvious way."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(key) and _plain(value[key]) for key in value)
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return not isinstance(value, str) or _whole(value)


def _whole(value: str) -> bool:
    return not any(0xD800 <= ord(character) < 0xE000 for character in value)


@pytest.mark.parametrize("version", [True, 1.0, "1", None, 2])
def test_a_version_is_the_number_1(version: object) -> None:
    with pytest.raises(MessageError, match="version"):
        messages.decode(orjson.dumps({"v": version}))
