"""Advisories about messages that are delivered no more: one was delivered as often as allowed and
not acknowledged (MAX_DELIVERIES), or somebody ended its delivery with +TERM (MSG_TERMINATED).

The server says so once and forgets the message; the stream ADVISORIES keeps the saying. An
advisory stays unhandled, and protects its message from the sweeper, until it is acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass

from loguru import logger

from wf.errors import MessageError
from wf.jetstream.port import Delivery, Port, Pull
from wf.jetstream.topology import ADVISORIES, ADVISORY_READER
from wf.protocol import gate

_WINDOW = 100


@dataclass(frozen=True, slots=True)
class Advisory:
    """`stream_seq` of `stream` was delivered `deliveries` times to `consumer` in vain;
    `terminated`: somebody said that it is not to be delivered again."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int
    terminated: bool = False


def parse_advisory(data: bytes) -> Advisory:
    """The facts of one advisory. Raises MessageError."""
    body = gate.decode(data, "advisory")
    if not isinstance(body, dict):
        raise MessageError("advisory: is no object")
    texts, numbers = ("stream", "consumer"), ("stream_seq", "deliveries")
    wrong = [key for key in texts if type(body.get(key)) is not str]
    wrong += [key for key in numbers if type(body.get(key)) is not int or body[key] < 0]
    if wrong:
        raise MessageError(f"not an advisory of a message: {wrong} of {data[:200]!r}")
    terminated = gate.text(body.get("type", ""), 200).endswith(".terminated")
    return Advisory(**{key: body[key] for key in (*texts, *numbers)}, terminated=terminated)


def subject_of(stream: str, consumer: str) -> str:
    """The subjects of advisories about this consumer."""
    return f"$JS.EVENT.ADVISORY.CONSUMER.*.{stream}.{consumer}"


class AdvisoryReader:
    """Advisories one after the other, each until it is marked as handled."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._pull: Pull | None = None

    async def next(self) -> list[tuple[Advisory, Delivery]]:
        """Wait for advisories; [] once stopped. What is not one is logged and passed over."""
        if self._pull is None:
            self._pull = await self._port.pull(ADVISORIES, ADVISORY_READER, window=_WINDOW)
        while deliveries := await self._pull.next(_WINDOW):
            found = []
            for delivery in deliveries:
                try:
                    found.append((parse_advisory(delivery.data), delivery))
                except MessageError as error:
                    logger.bind(error=str(error), sequence=delivery.sequence).error("advisory.bad")
                    self._port.ack(delivery)
            if found:
                return found
        return []

    def handled(self, delivery: Delivery) -> None:
        """Its message became an outcome that is stored: the sweeper may delete the message."""
        self._port.ack(delivery)

    async def stop(self) -> None:
        """Hand back what was not taken."""
        if self._pull is not None:
            for delivery in await self._pull.stop():
                self._port.nak(delivery)
