"""The Python client: deploy definitions, start instances, wait for them, steer them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from wf.client import definitions, instances
from wf.client import retry as retrying
from wf.client.activities import announced, unannounced
from wf.client.connect import CONNECT_S, dial
from wf.client.definitions import RegisteredDefinition
from wf.client.instances import HistoryEntry, Instance, Recent
from wf.client.schedules import Pending, pending, triggered
from wf.client.start import Start, Started, fresh_id, start_all
from wf.errors import ClientClosed, DefinitionError, IdTaken, NotEnded, Problem
from wf.jetstream import topology
from wf.jetstream.cloud_event_message import cloud_event_message
from wf.jetstream.port import Outgoing, Port, Rejected
from wf.jetstream.publish_until_stored import refused, store_one
from wf.process.engine_functions import resolve
from wf.protocol import cloudevents, messages, subjects

CLIENT_SOURCE = "/clients/wf"  # of events that name no other
UNCHANGED: Any = object()  # in place of an input: what it was before
RETRIED_S = 5.0  # how long a retry waits for the orchestrator to take it up
REREAD_S = 2.0  # a lost `finished` notice delays a waiter by no more than this

JsonObject = dict[str, Any]


class Client:
    """A connection to one pool. Make it with `await Client.connect(…)`, use it with `async with`.

    Every method may be called side by side with others. What the broker does not answer is
    repeated for 15 s where that is safe, then raises BrokerError.
    """

    def __init__(self, port: Port) -> None:
        self._open_port: Port | None = port
        self._process = os.getpid()

    @classmethod
    async def connect(
        cls,
        config: str | Path | None = None,
        servers: str | Sequence[str] | None = None,
        *,
        name: str = "wf-client",
        timeout_s: float = CONNECT_S,
    ) -> Self:
        """Connect to `servers`, or as the settings in `config` say (see
        `wf.client.connect.dial`).
        """
        return cls(await dial(config, servers, name=name, timeout_s=timeout_s))

    @property
    def port(self) -> Port:
        """The JetStream port below, for what this class does not offer.

        Raises ClientClosed after `close`, and in a process that was forked with the client: two
        processes that share one connection would tear each other's messages.
        """
        if self._process != os.getpid():
            raise ClientClosed(
                f"this client belongs to process {self._process}, of which this one is a fork: "
                "make a client of its own here"
            )
        if self._open_port is None:
            raise ClientClosed("this client is closed: make a new one")
        return self._open_port

    _port = port

    async def close(self) -> None:
        """Close the connection. Closing twice is fine; in a fork only its copy is let go."""
        port, self._open_port = self._open_port, None
        if port is not None and self._process == os.getpid():
            await port.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # Definitions

    async def deploy(
        self, source: str | bytes | Path
    ) -> tuple[RegisteredDefinition, Literal["created", "unchanged"]]:
        """Validate and register one workflow definition: a Path is read, text is the document.

        Raises DefinitionError with every problem, DefinitionConflict when the version is
        registered with another body, OSError when the file cannot be read.
        """
        definition = parse_definition(source)
        return definition, await definitions.register(self._port, definition)

    async def definitions(self) -> list[RegisteredDefinition]:
        """Every registered version."""
        return await definitions.registered(self._port)

    async def schedules(self) -> list[Pending]:
        """Every workflow that starts by itself, and when it does next; or with which events."""
        found = [*(await pending(self._port)).values(), *triggered(await self.definitions())]
        return sorted(found, key=lambda one: one.workflow)

    async def unannounced(self, definition: RegisteredDefinition) -> list[Problem]:
        """A warning for every activity that a parsed definition calls and no worker has announced:
        what calls it waits until one does."""
        return unannounced(definition.calls, await announced(self._port))

    # Instances

    async def start(
        self,
        workflow: str,
        input: Any = None,
        *,
        id: str | None = None,
        version: str | None = None,
        namespace: str = subjects.DEFAULT_NAMESPACE,
        traceparent: str | None = None,
    ) -> str:
        """Start an instance and return its id when the broker has stored the start.

        Idempotent by id: an instance that exists is left as it is. `version` None means the
        newest registered one. Raises MessageError for bad names or input, IdTaken when the id
        belongs to another workflow's instance, BrokerError.
        """
        wish = Start(
            workflow, input, fresh_id() if id is None else id, version, namespace, traceparent
        )
        if id is not None:
            await self.check_ids([wish])
        return (await self.start_many([wish]))[0].id

    async def start_many(self, starts: Sequence[Start]) -> list[Started]:
        """Start many instances, pipelined and in atomic batches; returns when all are stored.

        Raises as `start` does; that an id belongs to another workflow is noticed here only for
        those that the broker has just seen.
        """
        started = await start_all(self._port, starts)
        repeated = [start for start, one in zip(starts, started, strict=True) if one.duplicate]
        await self.check_ids(repeated)
        return started

    async def check_ids(self, starts: Sequence[Start]) -> None:
        """Raise IdTaken when an id belongs to an instance of another workflow."""
        for start in starts:
            subjects.check_name("instance", start.id)
        found = await instances.find_many(self._port, [start.id for start in starts])
        owners = {instance.id: instance for instance in found}
        for start in starts:
            owner = owners.get(start.id)
            if owner is not None and owner.workflow != start.title:
                raise IdTaken(
                    f"{start.id} is an instance of {owner.workflow} ({owner.status}), not of "
                    f"{start.title}: choose another id"
                )

    async def get(self, id: str) -> Instance:
        """The instance as it is now. Raises NotFound."""
        return await instances.get(self._port, id)

    async def history(self, id: str) -> list[HistoryEntry]:
        """All that happened to the instance, in order; [] when nothing is recorded."""
        return await instances.history(self._port, id)

    async def recent(
        self, *, limit: int = 20, status: str | None = None, window: int = instances.WINDOW
    ) -> Recent:
        """The newest instances, from a bounded tail of history."""
        return await instances.recent(self._port, limit=limit, status=status, window=window)

    async def result(self, id: str, *, timeout_s: float | None = None) -> Instance:
        """Wait until the instance completes and return it; its `.output` is the result.

        Raises WorkflowFaulted (with `.error`), WorkflowCancelled, or NotEnded after `timeout_s`.
        Without a timeout it waits for as long as it takes, also for an id that nobody started.
        """
        instance = await self.wait(id, timeout_s=timeout_s)
        instance.raise_unless_completed()
        return instance

    async def wait(self, id: str, *, timeout_s: float | None = None) -> Instance:
        """Like `result`, but a faulted or cancelled instance is returned too."""
        return await self.wait_until(id, lambda i: i.is_terminal, timeout_s=timeout_s)

    async def wait_until(
        self,
        id: str,
        accept: Callable[[Instance], bool],
        *,
        timeout_s: float | None = None,
        reread_s: float = REREAD_S,
    ) -> Instance:
        """Return the instance once `accept` says so, or raise NotEnded after `timeout_s`.

        Reads the snapshot at once, on the orchestrator's notice that the instance ended, and every
        `reread_s`.
        """
        subjects.check_name("instance", id)
        notice = asyncio.Event()

        async def noticed(subject: str, data: bytes) -> None:
            notice.set()

        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        unsubscribe = await self._port.subscribe_core(subjects.finished(id), noticed)
        try:
            while True:
                notice.clear()
                instance = await instances.find(self._port, id)
                if instance is not None and accept(instance):
                    return instance
                left_s = reread_s if deadline is None else deadline - time.monotonic()
                if left_s <= 0:
                    raise _not_ended(id, instance, timeout_s or 0)
                await _wait(notice, min(left_s, reread_s))
        finally:
            await unsubscribe()

    # Steering

    async def signal(self, id: str, name: str, data: Any = None) -> None:
        """Send a signal to the instance; returns when the broker has stored it.

        `name` is that of a listen task, which takes it whatever its filters say, or a type of
        events, for every listen of the instance whose filters it fits. When none waits for it, it
        is kept for `[orchestrator] event_buffer`.
        """
        subjects.check_name("instance", id)
        subjects.check_text("signal", name)
        await self._send(subjects.signal(id, name), messages.signal_body(data=data))

    async def emit(
        self,
        type: str,
        data: Any = None,
        *,
        source: str = CLIENT_SOURCE,
        id: str | None = None,
        **attributes: Any,
    ) -> JsonObject:
        """Publish a CloudEvent and return it when the broker has stored it.

        `attributes`: subject, time, dataschema, and extensions (names of a-z 0-9). The same `id`
        within two minutes is stored once. Raises MessageError for what is no CloudEvent.
        """
        event: JsonObject = {
            "specversion": cloudevents.SPEC_VERSION,
            "id": fresh_id() if id is None else id,
            "source": source,
            "type": type,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **attributes,
        }
        if data is not None:
            event["data"] = data
        cloudevents.check(event)
        message = cloud_event_message(event, f"{event['source']}:{event['id']}")
        outcome = await store_one(self._port, topology.CLOUD_EVENTS, message)
        if isinstance(outcome, Rejected):
            raise refused(topology.CLOUD_EVENTS, outcome)
        return event

    async def cancel(self, id: str, reason: str | None = None, *, now: bool = False) -> None:
        """Ask for the instance to be cancelled; returns when the broker has stored the wish.

        What its definition says how to undo (`compensate`) is undone first; `now`: it is set aside
        as dead letters instead, also when it is being undone already.
        """
        await self._command(id, "cancel", reason, **({"now": True} if now else {}))

    async def suspend(self, id: str, reason: str | None = None) -> None:
        """Ask for the instance to be suspended: what runs may end, nothing new begins."""
        await self._command(id, "suspend", reason)

    async def resume(self, id: str, reason: str | None = None) -> None:
        """Ask for a suspended instance to go on."""
        await self._command(id, "resume", reason)

    async def retry(
        self,
        id: str,
        reason: str | None = None,
        *,
        from_: str | None = None,
        input: Any = UNCHANGED,
        timeout_s: float = RETRIED_S,
    ) -> Instance:
        """Let a faulted instance go on, from the task that failed or from the one at the JSON
        pointer `from_`, which begins with `input`, else with what it was given before. Returns the
        instance when the orchestrator has taken it up, so that `result` waits for its new end.

        Raises NotFound, WfError when it is not faulted or cannot go on from there, NotEnded when
        the wish is stored and not carried out after `timeout_s`.
        """
        subjects.check_name("instance", id)
        given = [] if input is UNCHANGED else [input]
        revision, more = await retrying.command(self._port, id, from_, given)
        await self._command(id, "retry", reason, **more)
        try:
            return await self.wait_until(
                id, lambda found: found.revision != revision, timeout_s=timeout_s, reread_s=0.1
            )
        except NotEnded:
            raise NotEnded(
                f"retry is stored, but {id} is faulted still: the orchestrator has not carried it "
                "out yet"
            ) from None

    async def _command(self, id: str, verb: str, reason: str | None, **more: Any) -> None:
        subjects.check_name("instance", id)
        await self._send(subjects.command(id, verb), messages.command_body(reason=reason, **more))

    async def _send(self, subject: str, body: JsonObject) -> None:
        # A message id of its own: an unanswered publish may be repeated, two calls are two events.
        message = Outgoing(subject, messages.encode(body), message_id=f"client:{fresh_id()}")
        outcome = await store_one(self._port, topology.WORKFLOW_EVENTS, message)
        if isinstance(outcome, Rejected):
            raise refused(topology.WORKFLOW_EVENTS, outcome)


def parse_definition(source: str | bytes | Path) -> RegisteredDefinition:
    """Validate a definition, offline. Raises DefinitionError, or OSError for an unreadable file."""
    place = str(source) if isinstance(source, Path) else "<text>"
    data = source.read_bytes() if isinstance(source, Path) else source
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise DefinitionError([f"{place}: not UTF-8 text: {error}"]) from error
    document = resolve("definition.parse")(text, place)
    body: bytes = resolve("definition.canonical_bytes")(document)
    return RegisteredDefinition(
        document.namespace,
        document.name,
        document.version,
        body,
        calls=document.calls,
        warnings=document.warnings,
    )


def _not_ended(id: str, instance: Instance | None, timeout_s: float) -> NotEnded:
    state = f"is {instance.status}" if instance else "has not been taken by an orchestrator yet"
    return NotEnded(
        f"instance {id} {state} after {timeout_s:g} s; it goes on: look with `wf show {id}`"
    )


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return  # time to read again
