"""`wf signal`, `wf emit`, `wf cancel`, `wf suspend`, `wf resume`, `wf retry`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from wf.cli import arguments, exit_status, output, session
from wf.cli.start import tell_ended
from wf.client import definitions
from wf.client.client import UNCHANGED, Client
from wf.client.instances import Instance
from wf.errors import NotEnded, WfError
from wf.process.engine_functions import resolve

CONFIRM_S = 5.0  # how long to look whether the orchestrator has carried out a command


def signal(target: session.Target, id: str, name: str, data: str | None, *, json: bool) -> int:
    """Send one signal to an instance that has not ended."""
    arguments.check_name("instance", id)
    arguments.check_text("signal", name)
    value = arguments.read_json(data, "--data")

    async def work(client: Client) -> int:
        before = await client.get(id)
        _refuse_ended(before, f"signal {name}")
        await _refuse_unheard(client, before, name)
        await client.signal(id, name, value)
        taken = await _is_taken(client, before, name)
        if json:
            output.print_json({"id": id, "signal": name, "taken": taken})
        else:
            output.print_line(f"signal {name} sent to {id}")
            if taken is not True:
                output.note(_not_taken(name, id, taken))
        return exit_status.OK

    return session.run(target, work)


async def _refuse_unheard(client: Client, instance: Instance, name: str) -> None:
    """Raise WfError when no listen task of the definition could ever take the signal."""
    found = await definitions.find_of(client.port, instance.snapshot)
    if found is None:
        return  # the engine knows, or says so itself
    document = orjson.loads(found.body)
    names = resolve("signal.receivers")(resolve("definition.parse")(document, registered=True))
    if names is None or name in names:
        return
    known = ", ".join(sorted(names)) or "it has no listen task"
    raise WfError(
        f"signal {name} refused: nothing in {found.title} ever listens for it; what it listens "
        f"for: {known}"
    )


async def _is_taken(client: Client, before: Instance, name: str) -> bool | None:
    """Whether a listen task has taken the signal. False: it is kept for one that begins later;
    None: the orchestrator has not said so in time."""
    try:
        after = await client.wait_until(
            before.id,
            lambda found: found.revision != before.revision,
            timeout_s=CONFIRM_S,
            reread_s=0.1,
        )
    except NotEnded:
        return None
    kept: list[Any] = after.snapshot.get("signals", [])
    return not any(one[0] == name for one in kept)


def _not_taken(name: str, id: str, taken: bool | None) -> str:
    if taken is None:
        return f"the orchestrator has not taken it up yet; see `wf history {id}`"
    return (
        f"no listen task of {id} waits for {name!r} now: it is kept for [orchestrator] "
        "event_buffer, for one that begins by then"
    )


def emit(
    target: session.Target, type: str, data: str | None, given: dict[str, str | None], *, json: bool
) -> int:
    """Publish one CloudEvent; `given` are its other attributes, None where left out."""
    value = arguments.read_json(data, "--data")
    attributes: dict[str, Any] = {name: text for name, text in given.items() if text is not None}

    async def work(client: Client) -> int:
        event = await client.emit(type, value, **attributes)
        if json:
            output.print_json(event)
        else:
            output.print_line(f"event {event['id']} of type {type} is stored")
        return exit_status.OK

    return session.run(target, work)


def command(
    target: session.Target, verb: str, id: str, reason: str | None, *, json: bool, now: bool = False
) -> int:
    """Send a command and look whether it takes effect. `now`: cancel and undo nothing."""
    arguments.check_name("instance", id)

    async def work(client: Client) -> int:
        _refuse_ended(await client.get(id), verb)
        if verb == "cancel":
            await client.cancel(id, reason, now=now)
        else:
            await {"suspend": client.suspend, "resume": client.resume}[verb](id, reason)
        return _tell(verb, await _confirmed(client, verb, id, now=now), json)

    return session.run(target, work)


@dataclass(slots=True, frozen=True)
class Retry:
    """The command line of `wf retry`, as typed."""

    id: str
    place: str | None
    input: str | None
    reason: str | None
    wait: bool
    timeout: str | None
    json: bool


def retry(target: session.Target, wish: Retry) -> int:
    """Let a faulted instance go on, and look whether it does; maybe wait for its end."""
    arguments.check_name("instance", wish.id)
    if wish.timeout is not None and not wish.wait:
        raise arguments.UsageError("--timeout says how long to wait: it needs --wait")
    timeout_s = arguments.read_duration(wish.timeout, "--timeout")
    given = UNCHANGED if wish.input is None else arguments.read_json(wish.input, "--input")

    async def work(client: Client) -> int:
        try:
            found = await client.retry(
                wish.id, wish.reason, from_=wish.place, input=given, timeout_s=CONFIRM_S
            )
        except NotEnded as error:
            if not wish.json:
                output.note(str(error))
            if wish.wait:
                raise
            return _tell_retried(wish, "faulted", confirmed=False)
        if wish.wait:
            return tell_ended(await client.wait(wish.id, timeout_s=timeout_s), json=wish.json)
        return _tell_retried(wish, found.status, confirmed=True)

    return session.run(target, work)


def _tell_retried(wish: Retry, status: str, *, confirmed: bool) -> int:
    if wish.json:
        output.print_json({"id": wish.id, "status": status, "confirmed": confirmed})
    elif confirmed:
        output.print_line(f"{wish.id} is {status}")
    return exit_status.OK


def _refuse_ended(instance: Instance, what: str) -> None:
    if instance.is_terminal:
        raise WfError(f"{what} refused: instance {instance.id} is {instance.status} already")


def has_taken_effect(verb: str, instance: Instance, *, now: bool = False) -> bool:
    """Whether the instance is as `verb` wants it: `cancel` has it undo what it has done, if it does
    not want it to end `now`. Pure."""
    if instance.is_terminal:
        return True
    if verb == "cancel" and not now and instance.status == "compensating":
        return True
    return (instance.status == "suspended") == (verb == "suspend") and verb != "cancel"


async def _confirmed(client: Client, verb: str, id: str, *, now: bool) -> Instance:
    try:
        return await client.wait_until(
            id, lambda i: has_taken_effect(verb, i, now=now), timeout_s=CONFIRM_S, reread_s=0.1
        )
    except NotEnded:
        return await client.get(id)


def _tell(verb: str, instance: Instance, json: bool) -> int:
    carried_out = has_taken_effect(verb, instance)
    if json:
        shape = {"id": instance.id, "status": instance.status, "confirmed": carried_out}
        output.print_json(shape)
    elif carried_out:
        output.print_line(f"{instance.id} is {instance.status}")
    else:
        output.note(
            f"{verb} is stored, but {instance.id} is {instance.status} still: the orchestrator "
            "has not carried it out yet"
        )
    if verb == "cancel" and carried_out and instance.status == "compensating":
        ending = instance.snapshot.get("ending", {}).get("status", "cancelled")
        output.note(f"it undoes what it has done, then it is {ending} (`wf show {instance.id}`)")
        return exit_status.OK
    if verb == "cancel" and carried_out and instance.status != "cancelled":
        output.complain(f"{instance.id} had {instance.status} before it could be cancelled")
        return exit_status.FAILED
    return exit_status.OK
