"""What an answer says besides its body: when to ask again, and in which charset it is."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.machine import Driver, define
from wf.builtin.common.redaction import Mask
from wf.builtin.http import responses
from wf.builtin.http.client import Answer
from wf.builtin.http.retry_after import retry_after_s
from wf.errors import ActivityError
from wf.protocol import problem_details

NOW_S = 1_763_716_500.0  # Fri, 21 Nov 2025 09:15:00 GMT


def answer(status: int = 200, content: bytes = b"", kind: str = "", **more: Any) -> Answer:
    headers = {"content-type": kind} if kind else {}
    request = httpx.Request("GET", "https://shop.example/a")
    return Answer(status, "", httpx.Headers(headers), content, request, **more)


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("told", "date", "seconds"),
    [
        ("120", "", 120),
        ("0", "", 0),
        (" 7 ", "", 7),
        ("1.5", "", 1.5),
        ("100000", "", 300),
        ("99999999999999999999", "", None),
        ("Fri, 21 Nov 2025 09:16:00 GMT", "", 60),
        ("Fri, 21 Nov 2025 09:14:00 GMT", "", 0),
        ("Fri, 21 Nov 2025 09:16:00 GMT", "Fri, 21 Nov 2025 09:15:50 GMT", 10),
        ("Fri, 21 Nov 2025 10:16:00 +0100", "", 60),
        ("Friday, 21-Nov-25 09:16:00 GMT", "", 60),
        ("Fri Nov 21 09:16:00 2025", "", 60),
        ("Fri, 21 Nov 2999 09:16:00 GMT", "", 300),
        ("-5", "", None),
        ("soon", "", None),
        ("", "", None),
        ("1e3", "", None),
        ("٣", "", None),
    ],
)
def test_when_it_may_be_asked_again(
    status: int, told: str, date: str, seconds: float | None
) -> None:
    headers = httpx.Headers({"retry-after": told.encode(), "date": date})
    assert retry_after_s(status, headers, NOW_S, 300) == seconds


@pytest.mark.parametrize("status", [200, 301, 400, 404, 500, 502])
def test_other_answers_put_nothing_off(status: int) -> None:
    assert retry_after_s(status, {"retry-after": "5"}, NOW_S, 300) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_it_says_is_nothing_or_within_the_bound(told: str, date: str) -> None:
    found = retry_after_s(503, {"retry-after": told, "date": date}, NOW_S, 300)
    assert found is None or 0 <= found <= 300


@pytest.mark.parametrize("status", [429, 503])
def test_the_error_carries_it(status: int) -> None:
    with pytest.raises(ActivityError) as caught:
        responses.output_of(answer(status, retry_after_s=7.0), "content", False, Mask())
    assert problem_details.of_exception(caught.value)["retry_after_s"] == 7.0
    assert "retry_after_s" not in problem_details.of_exception(ActivityError("x"))


@pytest.mark.parametrize("odd", [-1, math.inf, math.nan, "5", True, None])
def test_what_is_no_number_of_seconds_is_left_out(odd: Any) -> None:
    error = ActivityError("x")
    error.retry_after_s = odd
    assert "retry_after_s" not in problem_details.of_exception(error)


def failed(after_s: Any) -> dict[str, Any]:
    error = {"type": "about:x", "status": 503, "title": "Down", "retry_after_s": after_s}
    retry = {"max_attempts": 3, "delay_s": 2, "backoff": "constant"}
    return {"error": error, "retry": retry}


@pytest.mark.parametrize(
    ("after_s", "delay_ms"),
    [(7, 7000), (1.5, 2000), (2.0005, 2001), (0, 2000), (1e300, 2_592_000_000), ("9", 2000),
     (-1, 2000), (True, 2000), (None, 2000)],
)  # fmt: skip
def test_the_next_attempt_waits_that_long_at_least(after_s: Any, delay_ms: int) -> None:
    plain = Driver(define({"a": {"call": "one"}}))
    plain.start({})
    plain.failed(**failed(after_s))
    assert plain.state["timers"]["1"]["due_ms"] - plain.now_ms == delay_ms
    assert plain.replay() == plain.state
    catch = {"retry": {"delay": "PT2S", "limit": {"attempt": {"count": 3}}}}
    tried = Driver(define({"t": {"try": [{"a": {"call": "one"}}], "catch": catch}}))
    tried.start({})
    tried.failed(**failed(after_s))
    assert tried.state["timers"]["1"]["due_ms"] - tried.now_ms == delay_ms


def test_a_delay_beyond_the_limit_of_the_policy_ends_it() -> None:
    catch = {"retry": {"limit": {"duration": "PT5S"}}}
    driver = Driver(define({"t": {"try": [{"a": {"call": "one"}}], "catch": catch}}))
    driver.start({})
    driver.failed(**failed(6))
    assert driver.status == "faulted"
    assert driver.state["error"]["retry_after_s"] == 6


# --- charsets -------------------------------------------------------------------------------------

TEXT = '{"n": "café €"}'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", TEXT.encode()),
        ("application/json; charset=utf-8", TEXT.encode()),
        ("application/json; charset=iso-8859-15", TEXT.encode("iso-8859-15")),
        ("application/json;charset=windows-1252", TEXT.encode("cp1252")),
        ('application/json; charset="UTF-16LE"', TEXT.encode("utf-16-le")),
        ("application/problem+json; charset=utf-16", TEXT.encode("utf-16")),
        ("application/json", TEXT.encode("utf-16")),
        ("application/json", TEXT.encode("utf-32")),
        ("application/json", b"\xef\xbb\xbf" + TEXT.encode()),
        ("application/json; charset=klingon", TEXT.encode()),
        ("application/json; charset=base64", TEXT.encode()),
        ("application/json; charset=unicode_escape", TEXT.encode()),
    ],
)
def test_json_is_read_in_the_charset_that_it_declares(kind: str, content: bytes) -> None:
    assert responses.content_of(answer(content=content, kind=kind)) == {"n": "café €"}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/plain; charset=iso-8859-1", "café".encode("latin-1")),
        ("text/plain", "café".encode()),
        ("text/html; charset=shift_jis; x=y", "日本".encode("shift_jis")),
        ("application/xml; charset=utf-16", "<a>é</a>".encode("utf-16")),
        ("text/plain; charset=zip", b"plain"),
        ("text/plain; charset=rot13", b"plain"),
        ("text/plain; charset=a\x00b", b"plain"),
    ],
)
def test_so_is_text(kind: str, content: bytes) -> None:
    wanted = {"latin-1": "café", "shift": "日本", "xml": "<a>é</a>"}
    found = responses.content_of(answer(content=content, kind=kind))
    assert found in {*wanted.values(), "plain"}
    assert "\ufffd" not in found


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json; charset=ascii", b'{"n": "\xe9"}'),
        ("application/json", b'{"n": "\xe9"}'),
        ("application/json; charset=utf-16", b"\xff\xfe{"),
        ("application/json", b'{"v": NaN}'),
    ],
)
def test_json_that_is_not_in_it_is_an_error_of_the_answer(kind: str, content: bytes) -> None:
    with pytest.raises(ActivityError) as caught:
        responses.content_of(answer(content=content, kind=kind))
    assert caught.value.status == 502


@given(st.binary(max_size=30), st.text(max_size=20).filter(lambda text: '"' not in text))
def test_no_charset_breaks_it(content: bytes, charset: str) -> None:
    for kind in ("text/plain", "application/json"):
        headers = {"content-type": f'{kind}; charset="{charset}"'.encode("utf-8", "replace")}
        given = Answer(200, "", httpx.Headers(headers), content, httpx.Request("GET", "https://a"))
        with suppress(ActivityError):  # and nothing else
            responses.content_of(given)
