"""Durations and sizes: what is understood, what is refused, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.protocol.durations import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("7d", 604_800),
        ("1.5s", 1.5),
        ("1h 30m", 5400),
        ("30", 30),
        (" 30s ", 30),
        (2.5, 2.5),
        (0, 0),
    ],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "s", "30 parsecs", "1h30", "-1s", -1, "nan", "inf", True, None, [], "1m x"]
)
def test_what_is_no_duration_is_refused_with_examples(value):
    with pytest.raises(ValueError, match='expected a duration such as "30s"'):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_survives_the_way_back(milliseconds):
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 1024**2),
        ("8MB", 8_000_000),
        ("1GiB", 1024**3),
        ("1.5 KiB", 1536),
        ("10b", 10),
        ("4096", 4096),
        (4096, 4096),
        (0, 0),
    ],
)
def test_a_size_is_read_in_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "512M", "MiB", "-1MB", -1, 1.5, True, None, "1 2", "1XB"])
def test_what_is_no_size_is_refused_with_examples(value):
    with pytest.raises(ValueError, match='expected a size such as "512MiB"'):
        parse_size(value)


def test_a_size_is_a_whole_number_of_bytes():
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.3B")


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_survives_the_way_back(size):
    assert parse_size(format_size(size)) == size
