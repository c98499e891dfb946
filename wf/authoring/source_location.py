"""Where a function is written, for error messages."""

from __future__ import annotations

import inspect
from typing import Any


def location(function: Any) -> str:
    """`file:line` of a function, for error messages."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}"
    return f"{code.co_filename}:{code.co_firstlineno}"
