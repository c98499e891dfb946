"""Making a stream or a consumer as it should be, and putting right what differs."""

from __future__ import annotations

from typing import Any

from loguru import logger

from wf.errors import BrokerRefused
from wf.jetstream.api import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError
from wf.jetstream.assets import Api, ConsumerAsset, StreamAsset

Config = dict[str, Any]

# A consumer that differs in one of these cannot be changed in place: it is made anew.
FIXED = frozenset(
    {"deliver_subject", "deliver_policy", "ack_policy", "replay_policy", "max_waiting"}
)
# A stream that has one of these cannot be rid of it.
LASTING = ("sealed", "deny_delete", "deny_purge")


async def ensure_stream(js: Api, asset: StreamAsset) -> bool:
    """Make the stream, or update it where it differs; whether anything was done."""
    return await mend_stream(js, asset, await stream_info(js, asset.name)) is not None


async def stream_info(js: Api, stream: str) -> Config | None:
    """Its config, state and time of creation; None without such a stream."""
    try:
        return await js.api(f"STREAM.INFO.{stream}")
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
    return None


async def mend_stream(
    js: Api, asset: StreamAsset, info: Config | None, *, first_seq: int = 0
) -> Config | None:
    """Make the stream, or update it where it differs from what `stream_info` said; the server's
    answer, None when there was nothing to do. A new one counts from `first_seq`, if that is given.
    Raises BrokerRefused."""
    if info is None:
        config = {**asset.config, **asset.at_first}
        if first_seq:
            config["first_seq"] = first_seq
        made = await _apply(js, f"STREAM.CREATE.{asset.name}", config)
        logger.bind(stream=asset.name).info("stream.created")
        return made
    changes = differences(info["config"], asset.config)
    if not changes:
        return None
    config = {**info["config"], **asset.config}
    changed = await _apply(js, f"STREAM.UPDATE.{asset.name}", config)
    logger.bind(stream=asset.name, changed=changes).info("stream.updated")
    return changed


def unmendable(asset: StreamAsset, info: Config) -> str | None:
    """What somebody has set that keeps the stream from its work and that the server never takes
    back; None: nothing."""
    config = info["config"]
    found = [key for key in LASTING if config.get(key) and not asset.config.get(key)]
    if not found:
        return None
    return (
        f"the stream {asset.name} was given {', '.join(found)}, which the server does not take "
        f"back: stop the pool, `nats stream backup` what is needed of it, and delete the stream; "
        "it is made again as it should be"
    )


async def ensure_consumer(js: Api, asset: ConsumerAsset) -> bool:
    """Make the consumer, or put right what differs; whether anything was done."""
    where = f"{asset.stream}.{asset.name}"
    log = logger.bind(stream=asset.stream, consumer=asset.name)
    try:
        info = await js.api(f"CONSUMER.INFO.{where}")
    except ApiError as error:
        if error.code != CONSUMER_NOT_FOUND:
            raise
        await _make_consumer(js, asset, asset.config, "")
        log.info("consumer.created")
        return True
    current = info["config"]
    changes = differences(current, asset.config)
    if FIXED & set(changes):
        await _apply(js, f"CONSUMER.DELETE.{where}", None)
        await _make_consumer(js, asset, asset.config, "")
        log.bind(changed=changes).warning("consumer.replaced")
        return True
    if changes:
        await _make_consumer(js, asset, {**current, **asset.config}, "update")
        log.bind(changed=changes).info("consumer.updated")
    if info.get("paused"):
        await _apply(js, f"CONSUMER.PAUSE.{where}", {})
        log.bind(remedy="to hold a pool back: `wf-supervisor pause POOL`").warning(
            "consumer.unpaused"
        )
    return bool(changes) or bool(info.get("paused"))


async def _make_consumer(js: Api, asset: ConsumerAsset, config: Config, action: str) -> None:
    body = {"stream_name": asset.stream, "config": config, "action": action}
    await _apply(js, f"CONSUMER.CREATE.{asset.stream}.{asset.name}", body)


async def _apply(js: Api, request: str, body: Config | None) -> Config:
    try:
        return await js.api(request, body)
    except ApiError as error:
        raise BrokerRefused(
            f"{error}; the server refuses this shape: compare [nats] replicas with the number of "
            "servers, and the account's JetStream limits with what is stored"
        ) from error


def differences(current: Config, wanted: Config) -> list[str]:
    """Keys whose value the server holds otherwise; absent, empty and zero are the same."""
    return sorted(key for key, value in wanted.items() if _plain(current.get(key)) != _plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value) or None
    return value or None
