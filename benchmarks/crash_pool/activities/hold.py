import asyncio
import os
import time
from pathlib import Path

from wf import Context, activity


@activity
async def hold(marks: str, context: Context) -> None:
    """Note where and when it runs; the first attempt then waits to be killed."""
    path = Path(marks) / f"{context.instance}.{context.attempt}"
    draft = path.with_suffix(".draft")
    draft.write_text(f"{os.getpid()} {time.monotonic()}")
    draft.rename(path)
    if context.attempt == 1:
        await asyncio.sleep(3600)
