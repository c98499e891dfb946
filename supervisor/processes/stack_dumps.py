"""Stack dumps: what every thread of a child is doing, written without its help.

faulthandler writes them from within a signal handler in C: no Python has to run, and a stuck event
loop or a lock that nobody gives back does not matter. They go behind the child's slot.
"""

from __future__ import annotations

import faulthandler
import signal

DUMP_SIGNAL = signal.SIGUSR2
DUMP_S = 0.25  # for the dump to be written, before a kill


def take_dumps(fd: int) -> None:
    """In a child: dump at DUMP_SIGNAL, and at the signals that end a process for a fault."""
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True)
