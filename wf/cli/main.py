"""`wf`: reads the command line, and turns every error into a sentence and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from wf.cli import exits
from wf.cli.inputs import UsageError
from wf.cli.output import complain
from wf.errors import WfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (wf/cli/exits.py)."""
    from wf.cli.app import app

    try:
        app(args=None if arguments is None else list(arguments), prog_name="wf")
    except SystemExit as ended:  # typer ends every command so
        return _flushed(ended.code if isinstance(ended.code, int) else exits.FAILED)
    except UsageError as error:
        complain(str(error))
        return exits.USAGE
    except WfError as error:
        complain(str(error))
        return exits.status_of(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _silenced()
    return _flushed(exits.OK)


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _silenced()
    return status


def _silenced() -> int:
    # The reader (`| head`) has what it wanted; the interpreter's last flush must not complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
