"""What people type becomes values, or a sentence that says what to type instead."""

import io
import sys

import pytest

from wf.cli.arguments import UsageError, check_name, read_duration, read_json


def test_json_is_taken_from_the_option_itself():
    assert read_json('{"a": [1, null]}', "--input") == {"a": [1, None]}
    assert read_json(None, "--input") is None


def test_json_is_read_from_a_file_named_with_an_at_sign(tmp_path):
    path = tmp_path / "order.json"
    path.write_text('{"order_id": 4711}')
    assert read_json(f"@{path}", "--input") == {"order_id": 4711}


def test_json_is_read_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"text"')))
    assert read_json("-", "--data") == "text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{order: 1}", "--input: not JSON"), ("@/no/such/file", "cannot read /no/such/file")],
)
def test_wrong_input_is_a_usage_error_that_names_the_option(text, expected):
    with pytest.raises(UsageError, match="--input") as caught:
        read_json(text, "--input")
    assert expected in str(caught.value)


def test_the_example_in_the_message_is_of_the_option_that_was_wrong():
    with pytest.raises(UsageError, match=r"--data '\{"):
        read_json('{"by":', "--data")


def test_durations_are_read_as_people_write_them():
    assert read_duration("1m30s", "--timeout") == 90
    assert read_duration("2", "--timeout") == 2
    assert read_duration(None, "--timeout") is None
    with pytest.raises(UsageError, match="--timeout"):
        read_duration("soon", "--timeout")


def test_a_name_with_a_dot_is_refused_with_the_rule():
    assert check_name("instance", "order-4711") == "order-4711"
    with pytest.raises(UsageError, match="A-Z a-z 0-9"):
        check_name("instance", "order.4711")
