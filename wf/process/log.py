"""Log set-up of every process: text for people, JSON lines for programs, always on stderr.

A log call names an event and binds its fields:
`logger.bind(instance="order-4711", run=3).info("task.completed")`.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson
from loguru import logger

from wf.process import standard_streams
from wf.protocol import gate

if TYPE_CHECKING:
    from loguru import Message, Record

    from wf.process.child import Child

_SECRETS = frozenset({"password", "passwd", "secret", "secrets", "token", "authorization"})
_STANDARD_LEVELS = (logging.WARNING, logging.ERROR, logging.CRITICAL)
TRACEBACK_LIMIT = 64 * 1024  # characters
_FIRST = ("ts", "level", "event", "process", "pid")


class _Now:
    """How this process logs."""

    process = ""
    sink: tuple[str, str, TextIO] | None = None


_now = _Now()


def configure(
    *,
    level: str = "INFO",
    format: Literal["text", "json"] = "text",
    process: str = "",
    stream: TextIO | None = None,
) -> None:
    """Log to `stream` (stderr) from here on; call it again in each forked child.

    `process` is the child's name, such as "worker charge_card #2". What libraries say through the
    standard library's logging, from WARNING up, goes the same way. No threads are started.
    """
    line = json_line if format == "json" else text_line
    target = stream if stream is not None else sys.stderr
    _now.process = process
    standard_streams.tell_dropped(lambda lines: _dropped_line(lines, format))
    if (level, format, target) == _now.sink:
        return  # a fork of a process that logs the same way: only its name is new

    def write(message: Message) -> None:
        # one write per line, so that processes sharing the descriptor do not cut into each other
        text = line(message.record, _now.process)
        if isinstance(target, standard_streams.Stream):
            target.outlet.put(text.encode("utf-8", "backslashreplace"))
        else:
            target.write(text)
            target.flush()

    _now.sink = (level, format, target)
    logger.remove()
    logger.add(write, level=level, format="{message}", backtrace=False, diagnose=False)
    _take_over_standard_logging()


def configure_child(child: Child) -> None:
    """`configure` as the settings of a child of the supervisor say, under its name, on streams that
    never block (wf/process/standard_streams.py)."""
    standard_streams.install()
    standard_streams.allow_threads()
    told = child.settings.supervisor
    configure(level=told.log_level, format=told.log_format, process=child.name)


def fields(record: Record, process: str) -> dict[str, Any]:
    """The record as the flat object that a JSON line is; bound fields follow the fixed ones."""
    entry: dict[str, Any] = {
        "ts": _timestamp(record["time"]),
        "level": record["level"].name,
        "event": record["message"],
        "process": process or record["process"].name,
        "pid": record["process"].id,
    }
    for name, value in record["extra"].items():
        # a bound field named like a fixed one must not hide it
        key = f"{name}_" if name in _FIRST else name
        entry[key] = "***" if name.lower() in _SECRETS else value
    if (exception := record["exception"]) is not None and exception.type is not None:
        said = f"{exception.type.__name__}: {gate.text(exception.value)}"
        entry["error"] = entry.get("error", said)
        lines = traceback.format_exception(exception.type, exception.value, exception.traceback)
        entry["traceback"] = gate.text("".join(lines), TRACEBACK_LIMIT)
    return entry


def json_line(record: Record, process: str = "") -> str:
    """One JSON object and a newline. Values that JSON cannot hold become their text."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    entry = fields(record, process)
    try:
        return orjson.dumps(entry, default=gate.text, option=options).decode()
    except (
        TypeError,
        RecursionError,
    ):  # lone surrogates, integers past 64 bits, keys of a strange type
        plain = {gate.text(key): _speakable(value) for key, value in entry.items()}
        return orjson.dumps(plain, option=options).decode()


def text_line(record: Record, process: str = "") -> str:
    """`09:15:02.123 INFO  worker mail #0  task.completed  instance=order-4711 run=3`."""
    entry = fields(record, process)
    clock = record["time"].strftime("%H:%M:%S.%f")[:-3]
    tail = entry.pop("traceback", "")
    bound = " ".join(f"{key}={_shown(value)}" for key, value in entry.items() if key not in _FIRST)
    head = f"{clock} {entry['level']:<7} {entry['process']}  {entry['event']}"
    return f"{head}{'  ' + bound if bound else ''}\n{tail}"


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    text = gate.text(value) if isinstance(value, str) else _compact(value)
    return text if text and not any(c.isspace() or c in '"=' for c in text) else repr(text)


def _compact(value: object) -> str:
    try:
        return orjson.dumps(value, default=gate.text, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, RecursionError):
        return gate.text(value)


def _speakable(value: object) -> object:
    try:
        orjson.dumps(value)
    except (TypeError, RecursionError):
        return gate.text(value)
    return value


def _dropped_line(lines: int, format: str) -> bytes:
    now = datetime.now(UTC)
    if format == "json":
        entry: dict[str, Any] = {"ts": _timestamp(now), "level": "WARNING", "event": "log.dropped"}
        entry |= {"process": _now.process, "pid": os.getpid(), "lines": lines}
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
    clock = now.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{clock} WARNING {_now.process}  log.dropped  lines={lines}\n".encode()


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        bound = logger.bind(logger=record.name, text=record.getMessage())
        level = record.levelname if record.levelno in _STANDARD_LEVELS else "WARNING"
        bound.opt(exception=record.exc_info).log(level, "library.said")


def _take_over_standard_logging() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _ToLoguru) for handler in root.handlers):
        root.addHandler(_ToLoguru(level=logging.WARNING))
