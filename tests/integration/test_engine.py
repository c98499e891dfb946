"""Group commit, outbox, conflicts and recovery on the real server: the sentences of docs/design.md
§6.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from orchestrator.engine.apply import Limits
from tests.support.engine import (
    Engine,
    FakeWorker,
    deploy,
    ended,
    engine,
    fail_first,
    history,
    in_status,
    publish_result,
    send,
    settled,
    snapshot,
    start,
    succeed,
)
from tests.support.server import RealServer
from tests.support.waiting import eventually
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import JetStream
from wf.jetstream.port import Outcome, Outgoing, Unknown
from wf.protocol import messages, subjects
from wf.settings import Settings

JsonObject = dict[str, Any]

TWO = """
document: {dsl: '1.0.0', namespace: default, name: two, version: '1.0.0'}
do:
  - a: {call: a, with: {n: "${ .n }"}}
  - b: {call: b, with: {n: "${ .n + 1 }"}}
"""

SLEEPER = """
document: {dsl: '1.0.0', namespace: default, name: sleeper, version: '1.0.0'}
do:
  - nap: {wait: {hours: 1}}
"""


async def tasks(js: JetStream, activity: str) -> list[JsonObject]:
    stored = await js.scan(topology.ACTIVITY_TASKS, subjects.task(activity))
    return [orjson.loads(one.data) for one in stored]


async def acked_up_to(js: JetStream, sequence: int) -> None:
    async def look() -> bool:
        return await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) >= sequence

    await eventually(look, what=f"ack floor {sequence}")


def die_before(stream: str, nth: int = 1) -> Any:
    """Make an engine die before its nth publication to `stream`."""

    def prepare(made: Engine) -> None:
        seen = 0
        point = made.port.point

        def watch(name: str) -> None:
            nonlocal seen
            if name.startswith("before publish") and name.endswith(stream):
                seen += 1
                if seen == nth:
                    made.port._die_at = len(made.port.points)
            point(name)

        made.port.point = watch  # type: ignore[method-assign]

    return prepare


async def test_a_later_event_before_the_redelivered_one_does_not_overwrite_the_outbox(
    js: JetStream, nats_server: RealServer
) -> None:
    """The start is committed, its task is not published, and a command comes first."""
    await deploy(js, TWO)
    async with engine(nats_server, prepare=die_before(topology.ACTIVITY_TASKS)) as first:
        started = await start(js, "two", "i", {"n": 1})
        await first.died()
    assert await tasks(js, "a") == []
    # The start itself is not delivered again: only the later event is.
    await send(js, subjects.command("i", "suspend"), messages.command_body())
    async with engine(nats_server, prepare=skip(started)):
        await in_status(js, "i", "suspended")
        assert len(await tasks(js, "a")) == 1


def skip(sequence: int) -> Any:
    """Have the consumer begin above `sequence`, as if that event came back only much later."""

    def prepare(made: Engine) -> None:
        async def reset() -> None:
            await made.js.reset_consumer(
                topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, sequence + 1
            )

        made.orchestrator._recovery.reset_consumers = reset  # type: ignore[method-assign]
        floor = made.js.ack_floor

        async def below(stream: str, consumer: str) -> int:
            # The reset moved the floor up; what the server says of the true one is this.
            return min(await floor(stream, consumer), sequence - 1)

        made.js.ack_floor = below  # type: ignore[method-assign]

    return prepare


async def test_a_flushed_outbox_is_not_published_again(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    async with engine(nats_server):
        started = await start(js, "two", "i", {"n": 1})
        await eventually(lambda: tasks(js, "a"), what="the task")
        await acked_up_to(js, started)
    await js.purge(topology.ACTIVITY_TASKS)
    async with engine(nats_server) as second:
        await send(js, subjects.command("i", "suspend"), messages.command_body())
        await in_status(js, "i", "suspended")
        await settled(js)
        assert second.orchestrator._engine.counts["flushed"] == 0
    assert await tasks(js, "a") == []


async def test_a_lost_commit_ack_is_settled_by_ones_own_token(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    lost: list[str] = []

    def prepare(made: Engine) -> None:
        publish = made.js.publish

        async def lossy(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            outcomes = await publish(stream, batch, **more)
            if stream == topology.WORKFLOW_STATES and len(lost) < 3:
                lost.append(stream)
                return [Unknown("the answer was lost") for _ in outcomes]
            return outcomes

        made.js.publish = lossy  # type: ignore[method-assign]

    async with FakeWorker(js, {"a": succeed(), "b": succeed()}) as worker:
        async with engine(nats_server, prepare=prepare) as only:
            await start(js, "two", "i", {"n": 1})
            final = await ended(js, "i")
            assert only.orchestrator._engine.counts["conflicts"] == 0
    assert len(lost) == 3
    assert final["commit"]["number"] == 3
    assert len(worker.ran) == 2


async def test_a_commit_that_truly_got_lost_is_made_again(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    lost: list[str] = []

    def prepare(made: Engine) -> None:
        publish = made.js.publish

        async def lossy(stream: str, batch: list[Outgoing], **more: Any) -> list[Outcome]:
            if stream == topology.WORKFLOW_STATES and len(lost) < 2:
                lost.append(stream)
                return [Unknown("the message was lost") for _ in batch]
            return await publish(stream, batch, **more)

        made.js.publish = lossy  # type: ignore[method-assign]

    async with FakeWorker(js, {"a": succeed(), "b": succeed()}) as worker:
        async with engine(nats_server, prepare=prepare):
            await start(js, "two", "i", {"n": 1})
            final = await ended(js, "i")
    assert final["status"] == "completed"
    assert len(worker.ran) == 2


async def test_a_forgotten_ack_brings_the_event_back_and_changes_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)

    def deaf(made: Engine) -> None:
        made.port.acks_lost = True

    async with FakeWorker(js, {"a": succeed(), "b": succeed()}) as worker:
        async with engine(nats_server, prepare=deaf):
            await start(js, "two", "i", {"n": 1})
            before = await ended(js, "i")
        assert await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) == 0
        async with engine(nats_server):
            await settled(js)
            assert await snapshot(js, "i") == before
        assert len(worker.ran) == 2
    assert len({(m["commit"], m["n"]) for m in await history(js, "i")}) == 3


async def test_every_event_again_after_three_later_commits_changes_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    async with FakeWorker(js, {"a": fail_first(1, retry={"max_attempts": 3}), "b": succeed()}):
        async with engine(nats_server) as only:
            await start(js, "two", "i", {"n": 1})
            before = await ended(js, "i")
            await settled(js)
            await js.reset_consumer(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, 1)
            await settled(js)
            counts = only.orchestrator._engine.counts
            await eventually(
                lambda: _is(counts["ignored.exists"] + counts["ignored.terminal"] >= 4),
                what="the replays",
            )
            assert await snapshot(js, "i") == before


async def _is(value: bool) -> bool:
    return value


async def test_duplicates_of_every_message_on_the_wire_change_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    """Published again under no message id, each stored anew: as after the dedupe window."""
    await deploy(js, TWO)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server) as only:
        await start(js, "two", "i", {"n": 1})
        before = await ended(js, "i")
        stored = await js.scan(topology.WORKFLOW_EVENTS, ">")
        for one in stored:
            bare = ".".join(one.subject.split(".")[:5])
            await js.publish(topology.WORKFLOW_EVENTS, [Outgoing(bare, one.data)])
        for activity in "ab":
            for task in await tasks(js, activity):
                again = Outgoing(subjects.task(activity), messages.encode(task))
                await js.publish(topology.ACTIVITY_TASKS, [again])
        await settled(js)
        await eventually(
            lambda: _is(only.orchestrator._engine.counts["ignored.terminal"] >= 2),
            what="the duplicates",
        )
        assert await snapshot(js, "i") == before


async def test_a_late_failure_of_an_earlier_attempt_is_not_counted(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    async with engine(nats_server):
        await start(js, "two", "i", {"n": 1})
        first = (await eventually(lambda: tasks(js, "a"), what="the task"))[0]
        failure = fail_first(9, retry={"max_attempts": 5})(first)
        await publish_result(js, "a", first, failure)

        async def second() -> list[JsonObject]:
            found = await tasks(js, "a")
            return found if len(found) == 2 else []

        await eventually(second, what="the second attempt")
        # The first attempt's failure once more, not deduplicated by the broker.
        await send(js, subjects.completed("i", "a"), failure)
        await settled(js)
        current = await snapshot(js, "i")
        assert current is not None
        assert current["runs"]["1"]["attempt"] == 2
        # A success counts from any attempt.
        await send(js, subjects.completed("i", "a"), succeed()(first))
        await eventually(lambda: tasks(js, "b"), what="the next task")


async def test_two_orchestrators_on_one_consumer_lose_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    """Stale caches and lost compare-and-sets all the time; never a wrong decision."""
    await deploy(js, TWO)
    names = [f"i{n}" for n in range(100)]
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}):
        async with engine(nats_server) as one, engine(nats_server) as two:
            for name in names:
                await start(js, "two", name, {"n": 1})
            for name in names:
                assert (await ended(js, name))["output"] == {"n": 2}
            await settled(js)
            shares = [e.orchestrator._engine.counts["applied"] for e in (one, two)]
            assert sum(shares) == 300
            assert all(shares), "one of them did nothing: this proves nothing"


async def test_a_late_result_is_not_dropped_on_the_word_of_a_stale_cache(
    js: JetStream, nats_server: RealServer
) -> None:
    """Orchestrator one knows a snapshot before run 2; the result of run 2 comes to it."""
    await deploy(js, TWO)
    async with engine(nats_server) as one:
        await start(js, "two", "i", {"n": 1})
        first = (await eventually(lambda: tasks(js, "a"), what="the task"))[0]
        await settled(js)
        stale = one.orchestrator._store.cache.get("i")
        assert stale is not None
        await publish_result(js, "a", first, succeed()(first))
        second = (await eventually(lambda: tasks(js, "b"), what="the second task"))[0]
        await settled(js)
        one.orchestrator._store.cache.put("i", stale)
        await publish_result(js, "b", second, succeed()(second))
        assert (await ended(js, "i"))["output"] == {"n": 2}
        assert one.orchestrator._engine.counts["stale"] == 1


async def test_an_unknown_instance_is_dropped_and_counted(
    js: JetStream, nats_server: RealServer
) -> None:
    async with engine(nats_server) as only:
        body = messages.completed_body(run=1, attempt=1, output=None)
        for _ in range(20):
            await send(js, subjects.completed("nobody", "a"), body)
        await settled(js)
        assert only.orchestrator._engine.counts["ignored.unknown"] == 20


async def test_an_event_that_overtakes_its_start_waits_for_it(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    await send(js, subjects.command("other", "cancel"), messages.command_body())
    sequence = await start(js, "sleeper", "i")
    await send(js, subjects.command("i", "cancel"), messages.command_body())
    async with engine(nats_server):
        # The start comes after the command: it is asked for again from there.
        assert sequence == 2
        assert (await ended(js, "i"))["status"] == "cancelled"


async def test_a_start_for_an_instance_that_exists_changes_nothing(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    async with engine(nats_server) as only:
        await start(js, "sleeper", "i", 1)
        before = await in_status(js, "i", "waiting")
        await start(js, "sleeper", "i", 2)
        await settled(js)
        assert await snapshot(js, "i") == before
        assert only.orchestrator._engine.counts["ignored.exists"] == 1


async def test_an_expired_instance_is_not_made_again(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}) as worker:
        async with engine(nats_server) as only:
            await start(js, "two", "i", {"n": 1})
            await ended(js, "i")
            await settled(js)
            only.orchestrator._store.cache.clear()
            marker = Outgoing(
                subjects.state("i"), b"", headers={"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
            )
            await js.publish(topology.WORKFLOW_STATES, [marker])
            await start(js, "two", "i", {"n": 1})
            await settled(js)
            assert await snapshot(js, "i") is None
            assert only.orchestrator._engine.counts["ignored.expired"] == 1
        assert len(worker.ran) == 2


async def test_an_expired_instance_is_not_made_again_when_the_first_look_fails(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    await js.publish(topology.WORKFLOW_HISTORY, [Outgoing(subjects.history("i"), b"{}")])
    failed: list[str] = []

    def shaky(made: Engine) -> None:
        last = made.js.last

        async def look(stream: str, subject: str, **more: Any) -> Any:
            if stream == topology.WORKFLOW_HISTORY and not failed:
                failed.append(subject)
                raise BrokerError("no answer")
            return await last(stream, subject, **more)

        made.js.last = look  # type: ignore[method-assign]

    async with engine(nats_server, prepare=shaky) as only:
        await start(js, "sleeper", "i")
        await settled(js)
        assert only.orchestrator._engine.counts["ignored.expired"] == 1
    assert failed
    assert await snapshot(js, "i") is None


async def test_an_instance_is_created_over_a_marker(js: JetStream, nats_server: RealServer) -> None:
    await deploy(js, SLEEPER)
    marker = Outgoing(
        subjects.state("i"), b"", headers={"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
    )
    await js.publish(topology.WORKFLOW_STATES, [marker])
    async with engine(nats_server):
        await start(js, "sleeper", "i")
        await in_status(js, "i", "waiting")


async def test_an_unknown_workflow_makes_a_faulted_instance_with_history(
    js: JetStream, nats_server: RealServer
) -> None:
    async with engine(nats_server):
        await start(js, "nonesuch", "i")
        final = await ended(js, "i")
        assert final["status"] == "faulted"
        assert "nonesuch" in final["error"]["detail"]
        await settled(js)
        assert len(await history(js, "i")) == 1


async def test_a_definition_deployed_right_before_the_start_is_found(
    js: JetStream, nats_server: RealServer
) -> None:
    async with engine(nats_server):
        for n in range(5):
            name = f"fresh{n}"
            await deploy(js, SLEEPER.replace("name: sleeper", f"name: {name}"))
            await start(js, name, f"i{n}")
        for n in range(5):
            await in_status(js, f"i{n}", "waiting")


async def test_a_message_that_breaks_the_protocol_is_set_aside_with_its_payload(
    js: JetStream, nats_server: RealServer
) -> None:
    async with engine(nats_server):
        await js.publish(
            topology.WORKFLOW_EVENTS, [Outgoing("workflow.start.two", b'{"v": 9, "x": 1}')]
        )
        await settled(js)
        (letter,) = await js.scan(topology.DEAD_LETTERS, "dead.message.>")
        evidence = orjson.loads(letter.data)["evidence"]
        assert evidence["payload"] == '{"v": 9, "x": 1}'
        assert "version 9" in evidence["reason"]


async def test_an_oversize_snapshot_faults_its_instance_and_no_other(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)

    def small(made: Engine) -> None:
        made.orchestrator._engine._limits = Limits(snapshot=20_000, message=1_000_000)

    async with FakeWorker(js, {"a": succeed(), "b": succeed()}):
        async with engine(nats_server, prepare=small):
            await start(js, "two", "big", {"n": "x" * 30_000})
            await start(js, "two", "small", {"n": 1})
            assert (await ended(js, "small"))["status"] == "completed"
            final = await ended(js, "big")
            assert final["status"] == "faulted"
            assert "20000" in final["error"]["detail"]


async def test_an_event_that_kills_the_orchestrator_is_set_aside_and_its_instance_faulted(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 8: it kills the orchestrator once, and then only two children that try it."""
    from orchestrator.engine import apply as applying
    from tests.support.mortal import Died

    await deploy(js, TWO)
    advance = applying.advance

    def poisoned(
        definition: Any, before: Any, event: JsonObject, *more: Any, **options: Any
    ) -> Any:
        if event.get("output") == "poison":
            raise Died("poison")
        return advance(definition, before, event, *more, **options)

    monkeypatch.setattr(applying, "advance", poisoned)
    deaths = 0
    async with FakeWorker(js, {"a": succeed("poison"), "b": succeed()}):
        await start(js, "two", "bad", {"n": 1})
        for _ in range(6):
            async with engine(nats_server) as one:
                assert one.task is not None
                look = asyncio.create_task(ended(js, "bad"))
                await asyncio.wait([look, one.task], return_when=asyncio.FIRST_COMPLETED)
                if look.done():
                    break
                look.cancel()
                deaths += 1
        final = await ended(js, "bad")
    assert deaths == 1
    assert final["status"] == "faulted"
    assert "ended the process 3 times" in final["error"]["detail"]
    (letter,) = await js.scan(topology.DEAD_LETTERS, "dead.>")
    assert b"poison" in letter.data


async def test_a_machine_that_raises_faults_that_instance_only(
    js: JetStream, nats_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.engine import apply as applying

    await deploy(js, TWO)
    advance = applying.advance

    def broken(definition: Any, before: Any, event: JsonObject, *more: Any, **options: Any) -> Any:
        if event.get("output") == {"n": 666}:
            raise ZeroDivisionError("a bug")
        return advance(definition, before, event, *more, **options)

    monkeypatch.setattr(applying, "advance", broken)
    async with FakeWorker(js, {"a": succeed(), "b": succeed()}), engine(nats_server):
        await start(js, "two", "bad", {"n": 666})
        await start(js, "two", "good", {"n": 1})
        assert (await ended(js, "good"))["status"] == "completed"
        final = await ended(js, "bad")
        assert final["status"] == "faulted"
        assert "ZeroDivisionError" in final["error"]["detail"]
        await settled(js)
        (letter,) = await js.scan(topology.DEAD_LETTERS, "dead.>")
        assert b"a bug" in letter.data


async def test_a_refused_task_leaves_the_others_alone_and_goes_out_when_there_is_room(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    narrow = one_task_per_activity(nats_server)
    async with engine(nats_server, settings=narrow) as only:
        await start(js, "two", "first", {"n": 1})
        await eventually(lambda: tasks(js, "a"), what="the first task")
        held = await start(js, "two", "second", {"n": 2})
        await in_status(js, "second", "running")
        assert await js.ack_floor(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR) < held
        # Another activity's queue is not affected.
        await deploy(js, TWO.replace("call: a", "call: c").replace("name: two", "name: other"))
        await start(js, "other", "third", {"n": 3})
        await eventually(lambda: tasks(js, "c"), what="the other activity's task")
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))

        async def second_task() -> bool:
            return any(task["instance"] == "second" for task in await tasks(js, "a"))

        await eventually(second_task, what="the refused task")
        await settled(js)
        assert not only.orchestrator._parking.holds("second")


async def test_a_task_that_stays_refused_is_parked_and_its_event_acked(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)
    narrow = one_task_per_activity(nats_server)

    def hasty(made: Engine) -> None:
        made.orchestrator._parking._park_after_s = 0.2
        made.orchestrator._parking._flush_after_s = 0.3

    async with engine(nats_server, prepare=hasty, settings=narrow):
        await start(js, "two", "first", {"n": 1})
        await eventually(lambda: tasks(js, "a"), what="the first task")
        parked = await start(js, "two", "second", {"n": 2})
        await acked_up_to(js, parked)
        current = await snapshot(js, "second")
        assert current is not None
        assert current["commit"]["parked"] is True
        assert current["commit"]["tasks"] == [1]
        # Parked across a crash, and an event in between, until there is room.
    async with engine(nats_server, prepare=hasty, settings=narrow):
        await send(js, subjects.command("second", "suspend"), messages.command_body())
        await in_status(js, "second", "suspended")
        await send(js, subjects.command("second", "resume"), messages.command_body())
        await js.purge(topology.ACTIVITY_TASKS, subject=subjects.task("a"))

        async def second_task() -> bool:
            return any(task["instance"] == "second" for task in await tasks(js, "a"))

        await eventually(second_task, what="the parked task")

        async def unparked() -> bool:
            found = await snapshot(js, "second")
            return found is not None and "parked" not in found["commit"]

        await eventually(unparked, what="unparked")


def one_task_per_activity(server: RealServer) -> Settings:
    settings = server.settings()
    limits = settings.orchestrator.limits.model_copy(update={"tasks_per_activity": 1})
    orchestrator = settings.orchestrator.model_copy(update={"limits": limits})
    return settings.model_copy(update={"orchestrator": orchestrator})


async def test_a_group_of_events_of_one_instance_is_one_snapshot_write(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)
    await start(js, "sleeper", "i")
    for verb in ("suspend", "resume") * 20:
        await send(js, subjects.command("i", verb), messages.command_body())
    async with engine(nats_server):
        await settled(js)
        current = await snapshot(js, "i")
        assert current is not None
        # The first may come alone; what gathered behind it is one group.
        assert current["commit"]["number"] <= 4
        assert len(await history(js, "i")) == 41


async def test_cancelling_takes_back_the_timer(js: JetStream, nats_server: RealServer) -> None:
    await deploy(js, SLEEPER)
    async with engine(nats_server):
        await start(js, "sleeper", "i")
        await in_status(js, "i", "waiting")
        await settled(js)
        assert await js.subjects(topology.WORKFLOW_TIMERS, topology.SCHEDULED_TIMERS)
        await send(js, subjects.command("i", "cancel"), messages.command_body(reason="enough"))
        final = await ended(js, "i")
        assert final["status"] == "cancelled"
        await settled(js)

        async def gone() -> bool:
            return not await js.subjects(topology.WORKFLOW_TIMERS, topology.SCHEDULED_TIMERS)

        await eventually(gone, what="the schedule")


async def test_a_timer_beyond_the_cap_waits_until_there_is_room(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, SLEEPER)

    def narrow(made: Engine) -> None:
        made.orchestrator._timer_cap._limit = 1

    async with engine(nats_server, prepare=narrow):
        await start(js, "sleeper", "first")
        await in_status(js, "first", "waiting")
        await settled(js)  # its timer is counted
        await start(js, "sleeper", "second")
        await in_status(js, "second", "waiting")
        pending = await js.subjects(topology.WORKFLOW_TIMERS, topology.SCHEDULED_TIMERS)
        assert list(pending) == [subjects.timer_scheduled("first", "1")]
        await send(js, subjects.command("first", "cancel"), messages.command_body())

        async def second_timer() -> bool:
            pending = await js.subjects(topology.WORKFLOW_TIMERS, topology.SCHEDULED_TIMERS)
            return list(pending) == [subjects.timer_scheduled("second", "1")]

        await eventually(second_timer, what="the timer of the second")
        await settled(js)


async def test_an_ended_snapshot_carries_its_time_to_live(
    js: JetStream, nats_server: RealServer
) -> None:
    await deploy(js, TWO)

    def brief(made: Engine) -> None:
        made.orchestrator._engine._retention = replace(
            made.orchestrator._engine._retention, completed_s=2
        )

    async with FakeWorker(js, {"a": succeed(), "b": succeed()}):
        async with engine(nats_server, prepare=brief):
            await start(js, "two", "i", {"n": 1})
            await ended(js, "i")

            async def gone() -> bool:
                return await snapshot(js, "i") is None

            await eventually(gone, what="the expiry")
