"""Bad luck at random moments: death, sleep, cut cables, a broker that forgets, clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World

Trouble = Callable[["World", Random], Awaitable[None]]


async def kill(world: World, random: Random) -> None:
    world.kill(random.choice(world.processes))


async def kill_between_steps(world: World, random: Random) -> None:
    """Right after a certain number of steps, wherever the process is then."""
    life = random.choice(world.processes).life
    life.die_at = life.steps + random.randint(1, 400)


async def kill_all(world: World, random: Random) -> None:
    for process in world.processes:
        world.kill(process)


async def terminate(world: World, random: Random) -> None:
    world.terminate(random.choice(world.processes))


async def stop_for_a_while(world: World, random: Random) -> None:
    """SIGSTOP, longer than any lease at times."""
    life = random.choice(world.processes).life
    life.stopped = True
    world.note(life.name, "stopped")
    await asyncio.sleep(random.choice((0.1, 5.0, 45.0)))
    world.note(life.name, "goes on")
    world.loop.wake(life)


async def cut(world: World, random: Random) -> None:
    if world.broker.links:
        link = random.choice(world.broker.links)
        link.lose(random.randint(0, link.under_way()))
        world.note("network", "a connection is cut")
        await asyncio.sleep(random.choice((0.1, 2.0, 15.0)))
        world.reconnect(link)


async def restart_broker(world: World, random: Random) -> None:
    """kill -9: everything stored is there, acks and message ids may be forgotten."""
    if not world.broker.running:
        return
    world.note("broker", "killed")
    world.broker.kill()
    await asyncio.sleep(random.choice((0.05, 0.5, 8.0, 25.0)))
    forgets = random.random()
    world.start_broker(
        forget_s=random.choice((0.0, 0.2, 1.0)), keeps_id=lambda: random.random() >= forgets
    )


async def jump(world: World, random: Random) -> None:
    seconds = random.choice((-60.0, -2.0, 2.0, 3600.0))
    world.note("clock", f"jumps by {seconds:g} s")
    world.clock_offset_ms += int(seconds * 1000)
    world.broker.jumped()


TROUBLES: tuple[Trouble, ...] = (
    kill,
    kill,
    kill_between_steps,
    kill_between_steps,
    kill_between_steps,
    kill_all,
    terminate,
    stop_for_a_while,
    cut,
    restart_broker,
    restart_broker,
    jump,
)


async def haunt(world: World) -> None:
    """Let things go wrong for as long as the plan says."""
    random, plan = world.random, world.plan

    async def one(trouble: Trouble, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await trouble(world, random)

    troubles = [random.choice(TROUBLES) for _ in range(plan.troubles)]
    await asyncio.gather(*(one(trouble, random.uniform(0, plan.chaos_s)) for trouble in troubles))
