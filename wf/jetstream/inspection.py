"""Whether an external broker will do, said before a pool is started on it. Nothing changes there.

What may be created or published is tried with requests that the server must refuse for their
content: who may not make them at all is told so by its permissions, which come first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loguru import logger

from wf.errors import BrokerError
from wf.jetstream import client, mending, topology
from wf.jetstream.api import ApiError
from wf.jetstream.assets import StreamAsset
from wf.jetstream.client import JetStream
from wf.jetstream.connection import from_settings
from wf.jetstream.port import Outgoing, Rejected
from wf.jetstream.replies import DENIED
from wf.process import paths
from wf.protocol.durations import format_size
from wf.settings import Settings

LIMIT_S = 15.0  # for all of it
CONNECT_S = 5.0
ANSWER_S = 3.0
SKEW_S = 2.0
MARGIN_BYTES = 64 * 1024  # headers, and the frame around a value
LEAST_PAYLOAD = 256 * 1024
LEAST_STORAGE = 64 * 1024 * 1024
NO_JETSTREAM = frozenset({10039, 10076})  # not enabled for the account, or at all
TOKEN = "wf-check"
FIXED = frozenset({"retention", "storage"})  # of a stream: no update changes these
HEARD_BY_OTHERS = topology.CLOUD_EVENTS  # whose subscribers would take a trial for an event


@dataclass(slots=True)
class Findings:
    """`facts` for people; `problems` that keep a pool from running there, with their remedies."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect(settings: Settings, activities: int = 0) -> tuple[list[str], list[str]]:
    """(facts, problems) of the broker of these settings. `activities`: how many queues it needs.

    Takes LIMIT_S at most.
    """
    findings = Findings()
    logger.disable("wf")  # what goes wrong is told as a problem, not as a log line
    try:
        asyncio.run(_bounded(settings, activities, findings))
    except TimeoutError:
        findings.problems.append(
            f"the broker took longer than {LIMIT_S:g} s to answer: is it overloaded, or electing?"
        )
    except BrokerError as error:
        findings.problems.append(str(error))
    finally:
        logger.enable("wf")
    return findings.facts, findings.problems


async def _bounded(settings: Settings, activities: int, findings: Findings) -> None:
    async with asyncio.timeout(LIMIT_S):
        js = await client.connect(
            from_settings(settings, "orchestrator"),
            role="orchestrator",
            name="wf-supervisor --check",
            timeout_s=CONNECT_S,
        )
        try:
            await Inspection(js, settings, activities, findings).run()
        finally:
            await js.close()


class Inspection:
    def __init__(
        self, js: JetStream, settings: Settings, activities: int, findings: Findings
    ) -> None:
        self._js = js
        self._settings = settings
        self._activities = activities
        self._found = findings
        self._denied: set[str] = set()
        js.on_denied(self._was_denied)

    async def run(self) -> None:
        self._found.facts.append(f"nats-server {self._js.server_version}")
        self._version()
        self._payload()
        await self._inboxes()
        if self._denied:
            self._tell_denied()
            return  # no answer would arrive
        account = await self._account()
        if account is None:
            return
        missing = await self._streams()
        self._limits(account, missing)
        await self._rights(missing)
        self._tell_denied()

    def _problem(self, text: str) -> None:
        self._found.problems.append(text)

    def _was_denied(self, kind: str, subject: str) -> None:
        self._denied.add(f"{'publish to' if kind == 'publish' else 'subscribe to'} {subject}")

    def _tell_denied(self) -> None:
        for what in sorted(self._denied):
            self._problem(
                f"this user may not {what}: add it to its permissions at the broker "
                "(docs/protocol.md, Permissions)"
            )

    def _version(self) -> None:
        try:
            topology.check_version(self._js.server_version)
        except BrokerError as error:
            self._problem(str(error))

    def _payload(self) -> None:
        payload, wanted = self._js.max_payload, self._settings.orchestrator.limits.snapshot
        if payload < LEAST_PAYLOAD:
            self._problem(
                f"max_payload of the broker is {format_size(payload)}, and "
                f"{format_size(LEAST_PAYLOAD)} is the least: set max_payload: 8MB in its "
                "configuration"
            )
        elif payload - MARGIN_BYTES < wanted:
            self._found.facts.append(
                f"max_payload {format_size(payload)}: instances and values are limited to that, "
                f"not to [orchestrator.limits] snapshot ({format_size(wanted)}); max_payload: 8MB "
                "there lifts it"
            )

    async def _inboxes(self) -> None:
        """Every role hears its answers below a prefix of its own."""
        connection = from_settings(self._settings, "orchestrator")

        async def nobody(_subject: str, _data: bytes) -> None: ...

        for role in paths.ROLES:
            leave = await self._js.subscribe_core(
                f"{connection.inbox_prefix(role)}.{TOKEN}.>", nobody
            )
            await leave()
        await self._js.flush()

    async def _account(self) -> dict[str, Any] | None:
        try:
            return await self._js.api("INFO", timeout_s=ANSWER_S)
        except ApiError as error:
            if error.code not in NO_JETSTREAM:
                raise
            self._problem(
                "JetStream is not enabled for this user's account: add `jetstream: enabled` to the "
                "account, and `jetstream {}` to the server, in the broker's configuration"
            )
        except BrokerError as error:
            self._tell_denied()
            if not self._denied:
                self._problem(f"{error}; add `jetstream {{}}` to the broker's configuration")
        return None

    async def _streams(self) -> list[StreamAsset]:
        """Look at what is there; what is not."""
        missing, skews = [], []
        for asset in topology.assets(self._settings):
            before_s = time.time()
            info = await mending.stream_info(self._js, asset.name)
            if info is None:
                missing.append(asset)
                await self._overlaps(asset)
                continue
            self._compare(asset, info)
            if "ts" in info:
                skews.append(_seconds(info["ts"]) - (before_s + time.time()) / 2)
        there = len(topology.assets(self._settings)) - len(missing)
        self._found.facts.append(f"{there} streams are there, {len(missing)} are to be made")
        if skews and abs(min(skews, key=abs)) > SKEW_S:
            self._problem(
                f"the clocks of the broker and of this host differ by {abs(skews[0]):.0f} s, by "
                "which timers, deadlines and schedules are wrong: have both synchronised (NTP)"
            )
        return missing

    def _compare(self, asset: StreamAsset, info: dict[str, Any]) -> None:
        changes = mending.differences(info["config"], asset.config)
        problem = mending.unmendable(asset, info)
        if problem is not None:
            self._problem(problem)
        if FIXED & set(changes):
            self._problem(
                f"the stream {asset.name} has another {' and '.join(FIXED & set(changes))}, which "
                "cannot be changed: back it up and delete it, it is made anew"
            )
        elif changes:
            self._found.facts.append(f"the stream {asset.name} would get new {', '.join(changes)}")

    async def _overlaps(self, asset: StreamAsset) -> None:
        for subject in asset.config["subjects"]:
            answer = await self._js.api("STREAM.NAMES", {"subject": subject}, timeout_s=ANSWER_S)
            for other in answer.get("streams") or ():
                self._problem(
                    f"the subjects {subject} of {asset.name} belong to the stream {other} already: "
                    "delete that stream, or give this pool an account of its own"
                )

    def _limits(self, account: dict[str, Any], missing: Sequence[StreamAsset]) -> None:
        tier = account.get("tiers", {}).get(f"R{self._settings.nats.replicas}", account)
        limits = tier.get("limits", {})
        consumers = sum(len(asset.consumers) for asset in missing) + self._activities
        for what, needed in (("streams", len(missing)), ("consumers", consumers)):
            most, used = limits.get(f"max_{what}", -1), tier.get(what, 0)
            if 0 <= most < used + needed:
                self._problem(
                    f"the account may have {most} {what} and has {used}, and {needed} more are "
                    f"needed: raise max_{what} of the account"
                )
        most, used = limits.get("max_storage", -1), tier.get("storage", 0)
        if 0 <= most < used + LEAST_STORAGE:
            self._problem(
                f"the account may store {format_size(most)} in files and stores "
                f"{format_size(used)}: raise its max_file, or delete what is not needed"
            )
        if limits.get("max_bytes_required"):
            self._problem(
                "the account demands max_bytes of every stream, which the pool's have not: take "
                "max_bytes_required from the account"
            )
        if self._settings.nats.replicas > 1 and not self._js.in_cluster:
            self._problem(
                f"[nats] replicas = {self._settings.nats.replicas} needs a cluster, and this "
                "server is alone: set replicas = 1"
            )

    async def _rights(self, missing: Sequence[StreamAsset]) -> None:
        """Requests that are refused for what they hold, unless they are not allowed at all."""
        absent = {asset.name for asset in missing}
        for asset in topology.assets(self._settings):
            verb = "CREATE" if asset.name in absent else "UPDATE"
            await self._refused(f"STREAM.{verb}.{asset.name}", {"name": TOKEN})
            for consumer in asset.consumers:
                await self._refused(
                    f"CONSUMER.CREATE.{asset.name}.{consumer.name}", {"stream_name": TOKEN}
                )
            if asset.name != HEARD_BY_OTHERS:
                await self._publish(asset)

    async def _refused(self, subject: str, body: dict[str, Any]) -> None:
        try:
            await self._js.api(subject, body, timeout_s=ANSWER_S)
        except ApiError as error:
            if error.code == DENIED:
                self._denied.add(f"publish to $JS.API.{subject}")

    async def _publish(self, asset: StreamAsset) -> None:
        """To another stream, so that this one refuses it, and where none is nobody takes it."""
        header = {"Nats-Expected-Stream": TOKEN}
        trials = [Outgoing(subject, b"", headers=header) for subject in _examples(asset)]
        outcomes = await self._js.publish(asset.name, trials, timeout_s=ANSWER_S)
        for trial, outcome in zip(trials, outcomes, strict=True):
            if isinstance(outcome, Rejected) and outcome.code == DENIED:
                self._denied.add(f"publish to {trial.subject.replace(TOKEN, '*')}")


def _examples(asset: StreamAsset) -> Iterator[str]:
    """A subject of each kind that the stream takes; advisories are the server's to publish."""
    for subject in asset.config["subjects"]:
        if not subject.startswith("$JS."):
            yield subject.replace("*", TOKEN).replace(">", TOKEN)


def _seconds(timestamp: str) -> float:
    """Seconds since 1970 of the server's RFC 3339, which has nanoseconds."""
    head, _, rest = timestamp.partition(".")
    digits = "".join(one for one in rest if one.isdigit())[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{head.rstrip('Z')}.{digits}+00:00").timestamp()
