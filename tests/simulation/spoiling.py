"""Somebody writes over the state of an instance, and an operator ends its quarantine with `retry`.

It is done when the instance rests: what its last commit implies is stored, so that the history
gives the state again, whole. Nothing is lost then, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.simulation import flows, litter
from tests.simulation.plan import Wish
from wf.jetstream.port import Outgoing
from wf.protocol import subjects

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.world import World

NO_STATES = (b"{", b"\xff", b"[]", b"7", b'{"v":1}', b'{"id":"i0","commit":{}}')
LOOK_S = 0.05


def may_be_spoiled(wish: Wish) -> bool:
    """Whether a `retry` does nothing to what it ends as. Commands that are kept meanwhile are
    newer than those that come with the `retry` (decision 181), so there are none."""
    return not wish.commands and flows.EXPECTED[wish.flow](wish.number)[0] == "completed"


async def spoil(world: World, ledger: Ledger) -> None:
    """As many instances as the plan says, each once."""
    names = [wish.instance for wish in world.plan.wishes if may_be_spoiled(wish)]
    await asyncio.gather(
        *(_spoil(world, ledger, world.random, name) for name in names[: world.plan.spoiled])
    )


async def _spoil(world: World, ledger: Ledger, random: Random, instance: str) -> None:
    while not ledger.rests(instance):
        await asyncio.sleep(LOOK_S)
    await asyncio.sleep(random.expovariate(0.5))
    while not ledger.rests(instance):
        await asyncio.sleep(LOOK_S)
    body = random.choice(NO_STATES)
    message_id = f"{litter.KEY}state:{instance}"
    world.broker.publish(Outgoing(subjects.state(instance), body, message_id))
    world.note("stranger", f"writes over the state of {instance}")
    await asyncio.sleep(random.expovariate(0.2))
    await world.client.command(instance, "retry")
