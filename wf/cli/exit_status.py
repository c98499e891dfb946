"""Exit statuses of `wf`, and which error gives which."""

from __future__ import annotations

from wf import errors

OK = 0  # done; with --wait: completed
FAILED = 1  # faulted, cancelled, not found, refused, invalid
USAGE = 2  # the command line, or the settings it names, are wrong
NO_BROKER = 3  # the broker cannot be reached or does not answer
NOT_ENDED = 4  # --timeout was over before the instance ended
PARTIAL = 5  # replay: not all of it could be compared
NOT_PRINTED = 6  # done or completed, but standard output did not take the result
DEFECT = 70  # wf itself failed
INTERRUPTED = 130


def status_of(error: errors.WfError) -> int:
    """The exit status for an error that ended a command."""
    if isinstance(error, errors.BrokerError):
        return NO_BROKER
    if isinstance(error, errors.ConfigError):
        return USAGE
    if isinstance(error, errors.NotEnded):
        return NOT_ENDED
    return FAILED


def status_of_instance(status: str) -> int:
    """The exit status for an instance that was waited for."""
    return OK if status == "completed" else FAILED
