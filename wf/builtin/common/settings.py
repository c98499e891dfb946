"""The settings that the built-in activities of this process go by."""

from __future__ import annotations

from wf.settings import Settings


class _Now:
    settings: Settings | None = None


_now = _Now()


def use(settings: Settings) -> None:
    """Go by `settings` from here on; the worker says so before it imports activities."""
    _now.settings = settings


def settings() -> Settings:
    """The settings of this process."""
    if _now.settings is None:
        raise RuntimeError("the worker did not say which settings hold")
    return _now.settings
