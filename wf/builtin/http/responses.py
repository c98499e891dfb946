"""From an answer to the output of the task, or to its error."""

from __future__ import annotations

import base64
import codecs
from email.message import Message
from typing import Any

from wf.builtin.common.redaction import Mask
from wf.builtin.http import failures
from wf.builtin.http.client import Answer, described
from wf.errors import MessageError
from wf.protocol import gate

EXCERPT = 500  # characters of an error's body that its detail quotes
_TEXTS = frozenset(
    {"application/xml", "application/javascript", "application/x-www-form-urlencoded",
     "application/yaml", "application/x-ndjson", "application/sql", "application/graphql"}
)  # fmt: skip


def output_of(answer: Answer, output: str, redirect: bool, own: Mask) -> Any:
    """The output that `output` asks for: content, response or raw. Raises ActivityError.

    `redirect`: whether statuses 300 to 399 are answers like others; of what was not followed.
    `own`: what must not be shown of the request.
    """
    if not 200 <= answer.status < (400 if redirect else 300):
        raise _error(answer)
    if output == "raw":
        return base64.b64encode(answer.content).decode() if answer.content else None
    if output == "content":
        return content_of(answer)
    return {
        "request": own.data(described(answer)),
        "statusCode": answer.status,
        "headers": {name: answer.headers[name] for name in answer.headers},
        "content": content_of(answer),
    }


def content_of(answer: Answer) -> Any:
    """JSON as data, text as text, anything else in base 64; null when there is nothing."""
    if not answer.content:
        return None
    kind, charset = content_type(answer.headers.get("content-type", ""))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return gate.decode(_as_utf8(answer.content, charset), kind)
        except (MessageError, UnicodeError) as error:
            raise failures.unusable_answer(f"{_what(answer)} cannot be taken: {error}") from None
    if kind.startswith("text/") or kind in _TEXTS or kind.endswith("+xml"):
        return _decoded(answer.content, charset)
    return base64.b64encode(answer.content).decode()


def content_type(header: str) -> tuple[str, str]:
    """(media type in lower case, charset) of a Content-Type header."""
    message = Message()
    message["content-type"] = header or "application/octet-stream"
    return message.get_content_type(), str(message.get_param("charset") or "utf-8")


def _as_utf8(content: bytes, charset: str) -> bytes | str:
    """JSON in the charset that it declares; else UTF-8, or what its byte order mark says."""
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return content.decode(codec)
    name = _codec(charset)
    return content if name == "utf-8" else content.decode(name)


def _decoded(content: bytes, charset: str) -> str:
    return content.decode(_codec(charset), "replace")


# Of UTF-32 the first two bytes are those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python's codecs that are no charsets of texts on the wire.
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "undefined", "unicode-escape"}
    | {"unicode_escape", "mbcs", "oem"}
)


def _codec(charset: str) -> str:
    """The codec of a declared charset; UTF-8 for one that nobody knows."""
    try:
        found = codecs.lookup(charset)
        "a".encode(charset)  # raises LookupError for what is no encoding of texts
    except (LookupError, ValueError):
        found = None
    return "utf-8" if found is None or found.name in _NO_CHARSETS else found.name


def _error(answer: Answer) -> Exception:
    detail = f"{_what(answer)} is {answer.status} {answer.reason}".rstrip()
    if 300 <= answer.status < 400 and (target := answer.headers.get("location")):
        detail += f" to {target}: call that, or say `redirect: true` to accept such an answer"
    kind, charset = content_type(answer.headers.get("content-type", ""))
    if answer.content and (kind.startswith("text/plain") or "json" in kind or kind in _TEXTS):
        detail += f": {_decoded(answer.content[: 4 * EXCERPT], charset)[:EXCERPT]}"
    return failures.of_status(answer.status, answer.reason, detail, answer.retry_after_s)


def _what(answer: Answer) -> str:
    return f"the answer to {answer.request.method} {described(answer)['uri']}"
