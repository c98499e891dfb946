"""`wf hosts`: every supervisor that works on the broker, as its monitor last told."""

from __future__ import annotations

import time

from wf.cli import exits, output, session
from wf.monitor.status import of_all_hosts


def hosts(target: session.Target, *, json: bool) -> int:
    """All of them, from whichever host one asks."""
    found = session.run(target, lambda client: of_all_hosts(client.port))
    if json:
        output.print_json(found)
    elif not found:
        output.note("no supervisor has told of itself in the last minute")
    else:
        from wf.cli import hosts_view

        output.print_rich(hosts_view.view(found, time.time_ns() // 1_000_000))
    return exits.OK
