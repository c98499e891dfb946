"""Log lines: named events with fields, as text and as JSON."""

import io
import json
import logging

import pytest
from loguru import logger

from wf.process import log
from wf.process.child import Child
from wf.settings import load


@pytest.fixture
def logged():
    handlers = list(logging.getLogger().handlers)
    stream = io.StringIO()

    def configured(format: str, level: str = "INFO") -> io.StringIO:
        log.configure(level=level, format=format, process="worker mail #0", stream=stream)
        return stream

    yield configured
    logger.remove()
    logging.getLogger().handlers[:] = handlers


def test_json_lines_hold_the_event_and_its_fields(logged):
    stream = logged("json")
    logger.bind(instance="order-4711", run=3).info("task.completed")
    entry = json.loads(stream.getvalue())
    assert list(entry) == ["ts", "level", "event", "process", "pid", "instance", "run"]
    assert entry["event"] == "task.completed"
    assert entry["process"] == "worker mail #0"
    assert entry["run"] == 3
    assert entry["ts"].endswith("Z")


def test_text_lines_are_short_and_quote_what_needs_it(logged):
    stream = logged("text")
    logger.bind(instance="order-4711", text="two words", data={"a": [1]}).info("task.completed")
    line = stream.getvalue()
    assert line.endswith(
        "INFO    worker mail #0  task.completed"
        "  instance=order-4711 text='two words' data='{\"a\":[1]}'\n"
    )


def test_a_line_is_never_broken_by_what_is_logged(logged):
    for format in ("json", "text"):
        stream = logged(format)
        logger.bind(text="a\nb").info("odd")
        assert stream.getvalue().count("\n") == 1
        stream.truncate(0)
        stream.seek(0)


def test_levels_below_the_set_one_are_left_out(logged):
    stream = logged("json", level="WARNING")
    logger.info("quiet")
    assert stream.getvalue() == ""


def test_an_exception_brings_its_traceback_but_no_variables(logged):
    stream = logged("json")
    credential = "hunter2"
    try:
        raise ValueError(len(credential))
    except ValueError:
        logger.exception("task.failed")
    entry = json.loads(stream.getvalue())
    assert entry["error"] == "ValueError: 7"
    assert "Traceback" in entry["traceback"]
    assert "hunter2'" not in stream.getvalue()


def test_values_that_json_cannot_hold_become_text(logged):
    stream = logged("json")
    logger.bind(big=2**70, odd="\ud800", path=object, run=1).info("odd")
    entry = json.loads(stream.getvalue())
    assert entry["big"] == str(2**70)
    assert entry["run"] == 1


def test_fields_named_like_secrets_are_masked(logged):
    stream = logged("json")
    logger.bind(password="hunter2", Token="t").info("connected")
    entry = json.loads(stream.getvalue())
    assert entry["password"] == entry["Token"] == "***"


def test_a_field_cannot_hide_the_event(logged):
    stream = logged("json")
    logger.bind(event="other", level="x").info("task.completed")
    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["event_"]) == ("task.completed", "other")


def test_warnings_of_libraries_go_the_same_way(logged):
    stream = logged("json")
    logging.getLogger("nats").warning("slow %s", "consumer")
    logging.getLogger("nats").info("chatter")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["text"] == "slow consumer"
    assert json.loads(line)["logger"] == "nats"


def test_a_child_logs_under_its_name_as_the_settings_say(logged, capsys):
    settings = load(None, {"supervisor.log_format": "json", "supervisor.log_level": "error"}, {})
    child = Child(name="worker mail #1", role="worker", pool="mail", index=1, settings=settings)
    log.configure_child(child)
    logger.warning("quiet")
    logger.error("task.failed")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["process"], entry["event"]) == ("worker mail #1", "task.failed")
