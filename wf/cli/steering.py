"""`wf signal`, `wf emit`, `wf cancel`, `wf suspend`, `wf resume`, `wf retry`."""

from __future__ import annotations

from typing import Any

from wf.cli import exits, inputs, output, session
from wf.client import UNCHANGED, Client
from wf.errors import NotEnded, WfError
from wf.instances import Instance

CONFIRM_S = 5.0  # how long to look whether the orchestrator has carried out a command


def signal(target: session.Target, id: str, name: str, data: str | None, *, json: bool) -> int:
    """Send one signal to an instance that has not ended."""
    inputs.check_name("instance", id)
    inputs.check_text("signal", name)
    value = inputs.read_json(data, "--data")

    async def work(client: Client) -> int:
        _refuse_ended(await client.get(id), f"signal {name}")
        await client.signal(id, name, value)
        if json:
            output.print_json({"id": id, "signal": name})
        else:
            output.print_line(f"signal {name} sent to {id}")
        return exits.OK

    return session.run(target, work)


def emit(
    target: session.Target, type: str, data: str | None, given: dict[str, str | None], *, json: bool
) -> int:
    """Publish one CloudEvent; `given` are its other attributes, None where left out."""
    value = inputs.read_json(data, "--data")
    attributes: dict[str, Any] = {name: text for name, text in given.items() if text is not None}

    async def work(client: Client) -> int:
        event = await client.emit(type, value, **attributes)
        if json:
            output.print_json(event)
        else:
            output.print_line(f"event {event['id']} of type {type} is stored")
        return exits.OK

    return session.run(target, work)


def command(
    target: session.Target, verb: str, id: str, reason: str | None, *, json: bool, now: bool = False
) -> int:
    """Send a command and look whether it takes effect. `now`: cancel and undo nothing."""
    inputs.check_name("instance", id)

    async def work(client: Client) -> int:
        _refuse_ended(await client.get(id), verb)
        if verb == "cancel":
            await client.cancel(id, reason, now=now)
        else:
            await {"suspend": client.suspend, "resume": client.resume}[verb](id, reason)
        return _tell(verb, await _confirmed(client, verb, id, now=now), json)

    return session.run(target, work)


def retry(
    target: session.Target,
    id: str,
    place: str | None,
    input: str | None,
    reason: str | None,
    *,
    json: bool,
) -> int:
    """Let a faulted instance go on, and look whether it does."""
    inputs.check_name("instance", id)
    given = UNCHANGED if input is None else inputs.read_json(input, "--input")

    async def work(client: Client) -> int:
        try:
            found = await client.retry(id, reason, from_=place, input=given, timeout_s=CONFIRM_S)
        except NotEnded as error:
            if not json:
                output.note(str(error))
            shape = {"id": id, "status": "faulted", "confirmed": False}
        else:
            shape = {"id": id, "status": found.status, "confirmed": True}
            if not json:
                output.print_line(f"{id} is {found.status}")
        if json:
            output.print_json(shape)
        return exits.OK

    return session.run(target, work)


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
        return exits.OK
    if verb == "cancel" and carried_out and instance.status != "cancelled":
        output.complain(f"{instance.id} had {instance.status} before it could be cancelled")
        return exits.FAILED
    return exits.OK
