"""Whatever anybody sends to any subject, the engine lives and good instances complete beside it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.support import fuzz
from tests.support.fuzzed import Fuzzed


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_message_ends_the_engine(tmp_path: Path, seed: int) -> None:
    fuzzed = await Fuzzed.begin(tmp_path)
    await fuzzed.feed(Random(seed), 1500)
    await fuzzed.settled()
    await fuzzed.look()
    await fuzzed.end()


@pytest.mark.parametrize("number", range(len(fuzz.KINDS)))
async def test_no_message_of_a_kind_ends_the_engine(tmp_path: Path, number: int) -> None:
    fuzzed = await Fuzzed.begin(tmp_path)
    random = Random(number)
    for instance in fuzz.INSTANCES:
        await fuzzed.start("flow", instance)
    for _ in range(40):
        await fuzzed.port.publish("", [fuzz.message(random, fuzz.KINDS[number])])
    await fuzzed.check()
    await fuzzed.look()
    await fuzzed.end()
