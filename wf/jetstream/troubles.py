"""What keeps a process from its work just now: told to the supervisor and to the log, on a change.

A process can be up and do nothing: it has lost the broker, or a queue that it pulls from does not
answer. Ready means able to get work, so this is told as soon as it is known, and when it is over.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from wf.jetstream.port import Port

Tell = Callable[[list[str], bool], None]


class Troubles:
    """Call `look` about once a second. `tell` gets what is wrong, each with the remedy, and
    whether no work can come meanwhile; `more`: what is wrong besides the port."""

    def __init__(self, port: Port, tell: Tell, more: Callable[[], list[str]] = list) -> None:
        self._port = port
        self._tell = tell
        self._more = more
        self._told: list[str] = []

    def look(self) -> None:
        blocked = self._port.troubles()
        problems = [*blocked, *self._more()]
        if problems == self._told:
            return
        self._told = problems
        self._tell(problems, bool(blocked))
        if problems:
            logger.bind(problems=problems).warning("trouble.begun")
        else:
            logger.info("trouble.over")
