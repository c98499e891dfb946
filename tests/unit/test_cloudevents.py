"""CloudEvents on the wire: their subjects, and what breaks the protocol."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.errors import MessageError
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.protocol import cloudevents, subjects

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.paid.v1"}
TEXTS = st.text(min_size=1, max_size=12) | st.text("a.=*>2E é", min_size=1, max_size=12)


def test_the_dots_of_a_type_are_the_dots_of_its_subject():
    assert subjects.cloud_event("com.example.paid.v1") == "cloudevents.com.example.paid.v1"


def test_what_a_subject_may_not_have_is_written_as_bytes():
    assert subjects.cloud_event("a b") == "cloudevents.a=20b"
    assert subjects.cloud_event("a..b*") == "cloudevents.a=2E=2Eb=2A"
    assert subjects.cloud_event("é=") == "cloudevents.=C3=A9=3D"


@given(TEXTS)
def test_every_type_has_a_subject_of_its_own(type_):
    subject = subjects.cloud_event(type_)
    assert all(subject.split("."))
    assert subjects.cloud_event_type(subject) == type_
    token = subjects.encoded_token(type_)
    assert "." not in token
    assert subjects.decoded(token) == type_


@pytest.mark.parametrize("subject", ["cloudevents.a=", "cloudevents.=FF", "cloudevents.=41"])
def test_a_subject_that_no_type_has_is_refused(subject):
    with pytest.raises(MessageError, match="not encoded"):
        subjects.cloud_event_type(subject)


def test_an_event_comes_back_as_it_was_sent():
    event = {**EVENT, "data": {"n": 1}, "priority": 3}
    message = cloud_event_message(event, "id")
    assert cloudevents.read(message.subject, message.data, message.headers) == event


def test_an_event_in_binary_mode_is_read_from_its_headers():
    headers = {f"ce-{name}": value for name, value in EVENT.items()}
    headers["Content-Type"] = "application/json"
    read = cloudevents.read("cloudevents.com.example.paid.v1", b'{"n":1}', headers)
    assert read == {**EVENT, "data": {"n": 1}, "datacontenttype": "application/json"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": "other"}, "belongs to the subject cloudevents.other"),
        ({"source": 5}, "`source` must be a non-empty string"),
        ({"specversion": "0.3"}, "must be '1.0'"),
        ({"time": "noon"}, "RFC 3339"),
        ({"My-Key": "x"}, "cannot name an attribute"),
        ({"ext": 2**40}, "32 bits"),
        ({"ext": {}}, "extension attribute"),
        ({"type": "x" * 300}, "256 characters"),
    ],
)
def test_what_is_no_event_is_refused_in_words(change, says):
    data = orjson.dumps({**EVENT, **change})
    with pytest.raises(MessageError, match=says):
        cloudevents.read("cloudevents.com.example.paid.v1", data, None)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff"])
def test_a_body_that_is_no_event_is_refused(data):
    with pytest.raises(MessageError, match="not a CloudEvent"):
        cloudevents.read("cloudevents.x", data, None)
