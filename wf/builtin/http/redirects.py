"""Which redirection may be followed: within the origin, and as the same request. Pure."""

from __future__ import annotations

from typing import NamedTuple

MOST = 10
_SAME_METHOD = frozenset({301, 302, 307, 308})


class Next(NamedTuple):
    """The request to make instead. `as_it_was`: with its body and all headers."""

    method: str
    uri: str
    as_it_was: bool


def following(method: str, uri: str, status: int, location: str | None) -> Next | None:
    """What an answer of this status leads to; None where it is not to be followed.

    Nothing leaves the origin (scheme, host and port). A 301 or 302 does not say whether another
    method than GET or HEAD is to be repeated, so it is not; a 303 is answered by a GET.
    """
    target = _within(uri, location) if location else None
    if target is None:
        return None
    is_safe = method in ("GET", "HEAD")
    if status == 303:
        return Next(method if is_safe else "GET", target, is_safe)
    if status in _SAME_METHOD and (is_safe or status in (307, 308)):
        return Next(method, target, True)
    return None


def _within(uri: str, location: str) -> str | None:
    """The absolute target, if it is of the same origin; as whoever sends it reads both."""
    import httpx  # not before it is needed: the engine imports MOST

    try:
        here = httpx.URL(uri)
        target = here.join(location)
    except httpx.InvalidURL:
        return None
    known = target.scheme in ("http", "https") and not target.userinfo
    same = (here.scheme, here.host, here.port) == (target.scheme, target.host, target.port)
    return str(target.copy_with(fragment=None)) if known and same else None
