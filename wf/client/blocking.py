"""The client for programs without asyncio: the same methods, each blocking until done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from wf.client.client import CLIENT_SOURCE, RETRIED_S, UNCHANGED, Client
from wf.client.connect import CONNECT_S
from wf.client.definitions import RegisteredDefinition
from wf.client.instances import WINDOW, HistoryEntry, Instance, Recent
from wf.client.schedules import Pending
from wf.client.start import Start, Started
from wf.errors import ClientClosed, Problem
from wf.protocol import subjects

T = TypeVar("T")


class BlockingClient:
    """`wf.Client` behind blocking calls, on an event loop in a thread of its own.

    May be used from several threads. Close it, or use it with `with`.
    """

    def __init__(
        self,
        config: str | Path | None = None,
        servers: str | Sequence[str] | None = None,
        *,
        name: str = "wf-client",
        timeout_s: float = CONNECT_S,
    ) -> None:
        """Connect; arguments and errors as for `Client.connect`."""
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="wf-client", daemon=True
        )
        self._thread.start()
        try:
            self._client = self._run(
                Client.connect(config, servers, name=name, timeout_s=timeout_s)
            )
        except BaseException:
            self._stop()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._process != os.getpid() or self._loop.is_closed():
            work.close()  # in a fork nothing runs the loop
            raise ClientClosed(
                f"this client is closed, or belongs to process {self._process} of which this one "
                "is a fork: make a new one"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C while waiting must not leave the work behind
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def close(self) -> None:
        """Close the connection and end the thread. Closing twice is fine, and so is closing what a
        fork has inherited."""
        if self._loop.is_closed() or self._process != os.getpid():
            return
        try:
            self._run(self._client.close())
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def deploy(
        self, source: str | bytes | Path
    ) -> tuple[RegisteredDefinition, Literal["created", "unchanged"]]:
        """See `Client.deploy`."""
        return self._run(self._client.deploy(source))

    def definitions(self) -> list[RegisteredDefinition]:
        """See `Client.definitions`."""
        return self._run(self._client.definitions())

    def schedules(self) -> list[Pending]:
        """See `Client.schedules`."""
        return self._run(self._client.schedules())

    def unannounced(self, definition: RegisteredDefinition) -> list[Problem]:
        """See `Client.unannounced`."""
        return self._run(self._client.unannounced(definition))

    def start(
        self,
        workflow: str,
        input: Any = None,
        *,
        id: str | None = None,
        version: str | None = None,
        namespace: str = subjects.DEFAULT_NAMESPACE,
        traceparent: str | None = None,
    ) -> str:
        """See `Client.start`."""
        return self._run(
            self._client.start(
                workflow,
                input,
                id=id,
                version=version,
                namespace=namespace,
                traceparent=traceparent,
            )
        )

    def start_many(self, starts: Sequence[Start]) -> list[Started]:
        """See `Client.start_many`."""
        return self._run(self._client.start_many(starts))

    def get(self, id: str) -> Instance:
        """See `Client.get`."""
        return self._run(self._client.get(id))

    def history(self, id: str) -> list[HistoryEntry]:
        """See `Client.history`."""
        return self._run(self._client.history(id))

    def recent(self, *, limit: int = 20, status: str | None = None, window: int = WINDOW) -> Recent:
        """See `Client.recent`."""
        return self._run(self._client.recent(limit=limit, status=status, window=window))

    def result(self, id: str, *, timeout_s: float | None = None) -> Instance:
        """See `Client.result`."""
        return self._run(self._client.result(id, timeout_s=timeout_s))

    def wait(self, id: str, *, timeout_s: float | None = None) -> Instance:
        """See `Client.wait`."""
        return self._run(self._client.wait(id, timeout_s=timeout_s))

    def signal(self, id: str, name: str, data: Any = None) -> None:
        """See `Client.signal`."""
        self._run(self._client.signal(id, name, data))

    def emit(
        self,
        type: str,
        data: Any = None,
        *,
        source: str = CLIENT_SOURCE,
        id: str | None = None,
        **attributes: Any,
    ) -> dict[str, Any]:
        """See `Client.emit`."""
        return self._run(self._client.emit(type, data, source=source, id=id, **attributes))

    def cancel(self, id: str, reason: str | None = None, *, now: bool = False) -> None:
        """See `Client.cancel`."""
        self._run(self._client.cancel(id, reason, now=now))

    def suspend(self, id: str, reason: str | None = None) -> None:
        """See `Client.suspend`."""
        self._run(self._client.suspend(id, reason))

    def resume(self, id: str, reason: str | None = None) -> None:
        """See `Client.resume`."""
        self._run(self._client.resume(id, reason))

    def retry(
        self,
        id: str,
        reason: str | None = None,
        *,
        from_: str | None = None,
        input: Any = UNCHANGED,
        timeout_s: float = RETRIED_S,
    ) -> Instance:
        """See `Client.retry`."""
        return self._run(
            self._client.retry(id, reason, from_=from_, input=input, timeout_s=timeout_s)
        )
