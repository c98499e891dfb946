"""How much memory the process may take while an expression is evaluated.

Only while purejq, which is Python, looks for a result is the address space limited. Python answers
with a MemoryError, which faults one instance (docs/design.md §7). The encoder, and other code in
C, ends the process instead: it never runs under that limit, and is never given what is too large.
"""

from __future__ import annotations

import resource

_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class AddressSpace:
    """The one place that limits it. A context manager; without `bound` it does nothing."""

    def __init__(self) -> None:
        self._inside = self._outside = _UNLIMITED

    def bound(self, limit_bytes: int) -> None:
        """From now on an evaluation that takes the process beyond `limit_bytes` of address space
        meets a MemoryError."""
        self._outside = resource.getrlimit(resource.RLIMIT_AS)
        soft, hard = self._outside
        known = [one for one in (limit_bytes, soft, hard) if one != resource.RLIM_INFINITY]
        self._inside = (min(known), hard)

    def __enter__(self) -> None:
        if self._inside is not _UNLIMITED:
            resource.setrlimit(resource.RLIMIT_AS, self._inside)

    def __exit__(self, *_error: object) -> None:
        if self._inside is not _UNLIMITED:
            resource.setrlimit(resource.RLIMIT_AS, self._outside)


address_space = AddressSpace()
