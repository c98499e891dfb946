"""What a seed stands for: how large the world is, what is started, how unkind it gets."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.simulation import flows


@dataclass(frozen=True)
class Wish:
    """One instance that the client wants, and what it does to it. Times in seconds."""

    instance: str
    flow: str
    number: int
    start_at_s: float
    twice: bool
    commands: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plan:
    """All that is decided beforehand."""

    orchestrators: int
    workers: int
    batch: int
    batch_minimum: int  # from how many messages on an atomic batch is used
    tasks_per_activity: int
    pending_timers: int
    max_deliver: int
    chaos_s: float  # how long things go wrong
    troubles: int  # how often
    delay_s: float  # of a message, typically
    slow: float  # share of messages that take seconds
    lost: float  # share of messages that never arrive
    stale_s: float  # how far a replica may be behind
    poison: bool  # some events kill whoever applies them
    litter: int  # messages from strangers that are none
    spoiled: int  # instances whose state a stranger writes over
    wishes: tuple[Wish, ...]


def draw(random: Random) -> Plan:
    """The plan of a seed. Some worlds are small and calm, so that a failure is easy to read."""
    harsh = random.choice((0.0, 0.3, 1.0, 1.0))
    chaos_s = random.choice((10.0, 30.0))
    count = random.choice((1, 2, 4, 8, 16))
    poison = random.random() < 0.1
    names = tuple(flows.LIMITED) if random.random() < 0.1 else flows.NAMES
    wishes = [_wish(random, f"i{n}", chaos_s, names) for n in range(count)]
    if poison:
        for n in range(random.choice((1, 2, 7))):
            at_s = random.uniform(0, chaos_s / 2)
            wishes.append(Wish(f"poison{n}", "poison", n % 4, at_s, False, ()))
    more = Random()
    more.setstate(random.getstate())  # drawn aside: what a seed stood for before stays the same
    litter = more.choice((1, 10, 60)) if more.random() < 0.1 else 0
    if more.random() < 0.1:
        for n in range(more.choice((1, 2, 7))):
            at_s = more.uniform(0, chaos_s / 2)
            wishes.append(Wish(f"raises{n}", "raises", n % 5, at_s, False, ()))
    spoiled = more.choice((1, 4)) if more.random() < 0.1 else 0
    return Plan(
        orchestrators=random.choice((1, 1, 2)),
        workers=random.choice((1, 2)),
        batch=random.choice((1, 3, 500)),
        batch_minimum=random.choice((2, 4, 12)),
        tasks_per_activity=random.choice((100_000, 100_000, 100_000, 2)),
        pending_timers=random.choice((100_000, 100_000, 100_000, 4)),
        max_deliver=random.choice((20, 20, 20, 2)),
        chaos_s=chaos_s,
        troubles=round(harsh * random.randint(1, 8)),
        delay_s=random.choice((0.0005, 0.005, 0.05)),
        slow=harsh * random.choice((0.0, 0.02, 0.1)),
        lost=harsh * random.choice((0.0, 0.01, 0.05)),
        stale_s=random.choice((0.0, 0.0, 0.5)),
        poison=poison,
        litter=litter,
        spoiled=spoiled,
        wishes=tuple(wishes),
    )


def _wish(random: Random, instance: str, chaos_s: float, names: tuple[str, ...]) -> Wish:
    flow = random.choice(names)
    commands: list[tuple[float, str]] = []
    hurried = random.random() < 0.4  # commands right behind the start, and behind each other
    if random.random() < 0.4:
        at_s = random.uniform(0, 0.02) if hurried else random.expovariate(0.5)
        later_s = at_s + (random.uniform(0, 0.3) if hurried else random.expovariate(0.3))
        commands += [(at_s, "suspend"), (later_s, "resume")]
    if random.random() < 0.1 or flow in flows.ENDLESS:
        commands.append((0.0 if hurried else random.uniform(0, chaos_s), "cancel"))
    return Wish(
        instance,
        flow,
        random.randint(0, 5),
        random.uniform(0, chaos_s * 0.7),
        random.random() < 0.2,
        tuple(commands),
    )
