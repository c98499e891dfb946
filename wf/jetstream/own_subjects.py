"""From where on what only the engine says has subjects of its own (`workflow.engine.…`)."""

from __future__ import annotations

from wf.jetstream.assets import Api
from wf.jetstream.topology import OWN_FROM, WORKFLOW_EVENTS


async def own_from(js: Api) -> int:
    """The first sequence of WORKFLOW_EVENTS for which that holds.

    Earlier versions sent these messages under the subjects of clients. What they stored is believed
    still, and where that ends is kept with the stream: a new one is made with it. Raises
    BrokerError.
    """
    info = await js.api(f"STREAM.INFO.{WORKFLOW_EVENTS}")
    config = info["config"]
    metadata = config.get("metadata") or {}
    known = metadata.get(OWN_FROM, "")
    if known.isdecimal():
        return int(known)
    first = int(info["state"]["last_seq"]) + 1
    marked = {**config, "metadata": {**metadata, OWN_FROM: str(first)}}
    await js.api(f"STREAM.UPDATE.{WORKFLOW_EVENTS}", marked)
    return first
