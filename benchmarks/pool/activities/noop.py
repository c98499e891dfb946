"""An activity that does nothing, so that only the engine is measured."""

from wf import activity


@activity
async def noop(n: int) -> int:
    return n + 1
