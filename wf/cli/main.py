"""`wf`: reads the command line, and turns every error into a sentence and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from wf.cli import exit_status, output
from wf.cli.arguments import UsageError
from wf.cli.output import complain
from wf.errors import WfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (wf/cli/exit_status.py). Never raises."""
    output.prepare()
    status = _run(arguments)
    error = output.lost()
    if error is None:
        return status
    output.forget()
    if isinstance(error, BrokenPipeError):  # the reader (`| head`) has what it wanted
        return status
    complain(f"standard output does not take the result: {error.strerror or error}")
    return status or exit_status.NOT_PRINTED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        from wf.cli.app import app

        app(args=None if arguments is None else list(arguments), prog_name="wf")
    except SystemExit as ended:  # typer ends every command so
        return ended.code if isinstance(ended.code, int) else exit_status.FAILED
    except UsageError as error:
        complain(str(error))
        return exit_status.USAGE
    except WfError as error:
        complain(str(error))
        return exit_status.status_of(error)
    except KeyboardInterrupt:
        return exit_status.INTERRUPTED
    except BrokenPipeError:
        return exit_status.OK
    except OSError as error:
        complain(f"{error.filename or 'the command'}: {error.strerror or error}")
        return exit_status.FAILED
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, whatever happened
        complain(_defect(error))
        return exit_status.DEFECT
    return exit_status.OK


def _defect(error: Exception) -> str:
    if os.environ.get("WF_TRACEBACK"):
        return "".join(traceback.format_exception(error))
    return (
        f"wf failed: {type(error).__name__}: {error}. This is a defect of wf: please report it "
        "with what WF_TRACEBACK=1 in the environment shows"
    )


if __name__ == "__main__":
    sys.exit(main())
