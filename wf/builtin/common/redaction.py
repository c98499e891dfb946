"""Taking secrets out of what leaves a worker: outputs, errors, logs."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
RESERVED = ":/?@!$'()*,;"  # what a query value may have unchanged, where it is asked for
_SAFE = ("", "/", RESERVED)  # what is left unchanged where a text is percent-encoded
SHORTEST = 4  # characters; shorter ones would take innocent text with them


class Mask:
    """Replaces secrets, and their usual disguises, wherever they occur."""

    def __init__(self) -> None:
        self._hidden: list[str] = []

    def add(self, secret: Any) -> None:
        """Hide this text from here on, or all texts in this data."""
        if isinstance(secret, dict):
            for value in secret.values():
                self.add(value)
        elif isinstance(secret, list):
            for value in secret:
                self.add(value)
        elif secret is not None and not isinstance(secret, bool):
            self._add(str(secret))

    def _add(self, secret: str) -> None:
        if len(secret) < SHORTEST:
            return
        encoded = secret.encode("utf-8", "surrogatepass")
        escaped = (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        forms = {
            *(quote(text, safe=safe, errors="replace") for text in escaped for safe in _SAFE),
            quote_plus(secret, errors="replace"),
            *escaped,
            base64.b64encode(encoded).decode(),
            base64.urlsafe_b64encode(encoded).decode().rstrip("="),
        }
        known = forms.union(self._hidden)
        self._hidden = sorted(known, key=lambda form: (-len(form), form))  # longest first

    def text(self, text: str) -> str:
        for hidden in self._hidden:
            if hidden in text:
                text = text.replace(hidden, MASK)
        return text

    def data(self, value: Any) -> Any:
        """A copy of JSON data without them, keys included."""
        if not self._hidden:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.data(one) for one in value]
        if isinstance(value, dict):
            return {self.text(key): self.data(one) for key, one in value.items()}
        return value
