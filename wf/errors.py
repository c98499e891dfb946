"""The one error family. Every message names the place and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


def _restored(kind: type[WfError], arguments: tuple[Any, ...], state: dict[str, Any]) -> WfError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class WfError(Exception):
    """Root of every error that wf-supervisor raises on purpose. All can be pickled, whatever their
    constructors want."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ConfigError(WfError):
    """Settings, activity modules or pool tables are wrong.

    `problems` holds one complete sentence each (file, key, remedy); all of them, not the first.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problem(NamedTuple):
    """Something wrong in a definition, or worth a warning, and where. Line and column count from
    1; they are 0 where the source has none. `sentence` says what is wrong and what to do."""

    file: str
    line: int
    column: int
    pointer: str
    sentence: str

    def __str__(self) -> str:
        """`<file>:<line>:<column>: <pointer>: <sentence>`."""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.pointer or '/'}: {self.sentence}"


class DefinitionError(WfError):
    """A workflow definition is refused. `problems` as in ConfigError, with JSON pointers;
    `details` holds the same in parts, as far as they have a place."""

    def __init__(self, problems: Sequence[str | Problem]) -> None:
        self.problems = [str(problem) for problem in problems]
        self.details = [problem for problem in problems if isinstance(problem, Problem)]
        super().__init__("\n".join(self.problems))


class DefinitionConflict(WfError):
    """A version that is already registered was deployed again with another body."""


class MessageError(WfError):
    """A message on the wire does not follow docs/protocol.md."""


class BrokerError(WfError):
    """The broker cannot be started, reached or used; says what to do."""


class BrokerRefused(BrokerError):
    """The broker answered no; asking the same again will not help."""


class NotFound(WfError):
    """The named instance, definition or activity does not exist."""


class IdTaken(WfError):
    """The id of a start belongs to an instance of another workflow."""


class ClientClosed(WfError):
    """The client was closed, or belongs to the process that this one was forked from."""


class WorkflowFaulted(WfError):
    """The instance ended as faulted. `error` is its RFC 7807 object, `instance` its id."""

    def __init__(self, message: str, *, instance: str, error: dict[str, Any]) -> None:
        super().__init__(message)
        self.instance = instance
        self.error = error


class WorkflowCancelled(WfError):
    """The instance was cancelled, so there is no result."""


class NotEnded(WfError):
    """The instance had not ended when the time to wait was over; it goes on all the same."""


class ActivityError(WfError):
    """An activity failed. Raise it (or a subclass) to choose type, title and status yourself.

    Any other exception becomes an error object with the exception's class name as its title.
    `retry_after_s`: seconds before which another attempt makes no sense; the engine waits that long
    at least, if it tries again.
    """

    retry_after_s: float | None = None

    def __init__(
        self,
        detail: str,
        *,
        type: str | None = None,
        title: str | None = None,
        status: int = 500,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.type = type
        self.title = title
        self.status = status


class NonRetryable(ActivityError):
    """An activity failed in a way that another attempt cannot mend."""


class NotRetriedByPolicy(ActivityError):
    """An activity failed in a way that its own retry policy is not meant for, such as an HTTP
    status 404. A `try` of the workflow may still ask for another attempt."""
