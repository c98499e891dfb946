"""`wf hosts`: every supervisor that works on the broker, as its monitor last told."""

from __future__ import annotations

import time

from wf.cli import exit_status, output, session
from wf.client.client import Client
from wf.monitor.client_workers import client_workers
from wf.monitor.status import of_all_hosts
from wf.protocol.messages import JsonObject


def hosts(target: session.Target, *, json: bool) -> int:
    """All of them, from whichever host one asks; and the workers without a supervisor."""

    async def work(client: Client) -> tuple[list[JsonObject], list[JsonObject]]:
        return await of_all_hosts(client.port), await client_workers(client.port)

    found, workers = session.run(target, work)
    if json:
        output.print_json([*found, *({"kind": "client worker", **one} for one in workers)])
    elif not found and not workers:
        output.note("no supervisor and no client worker has told of itself in the last minute")
    else:
        from wf.cli import hosts_view

        output.print_rich(hosts_view.view(found, time.time_ns() // 1_000_000, workers))
    return exit_status.OK
