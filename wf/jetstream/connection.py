"""Where the broker is and who we are to it: worked out from settings and the role."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from wf.errors import BrokerError
from wf.process import paths
from wf.settings import Settings


@dataclass(frozen=True, slots=True)
class Connection:
    """Servers and credentials. `user`/`password`, `credentials`, `nkey` and TLS as configured."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    credentials: Path | None = None
    nkey: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments for nats-py. Raises BrokerError when a file cannot be read."""
        options: dict[str, Any] = {"servers": list(self.servers)}
        if self.user is not None:
            options["user"] = self.user
            options["password"] = self.password or ""
        if self.credentials is not None:
            options["user_credentials"] = str(_readable(self.credentials, "credentials"))
        if self.nkey is not None:
            options["nkeys_seed"] = str(_readable(self.nkey, "nkey"))
        context = tls_context(self)
        if context is not None:
            options["tls"] = context
        return options

    def inbox_prefix(self, role: str) -> str:
        """Inboxes of a role; its permissions cover no other."""
        return f"_INBOX_{role}"

    def failed(self, role: str, error: BaseException | None, timeout_s: float) -> str:
        """Why connecting did not work, and what to do; `error` None: no answer in time."""
        if error is None:
            return (
                f"{self._where()}: no broker answered within {timeout_s:g} s; is wf-supervisor "
                "(or nats-server) running there?"
            )
        if "authorization" in str(error).lower():
            who = f"user {self.user!r}" if self.user else "this connection"
            return (
                f"{self._where()}: the broker refused {who} (role {role}); check [nats] user, "
                "password, credentials or nkey"
            )
        if isinstance(error, ssl.SSLError):
            return f"{self._where()}: {error}; check [nats] tls_ca, tls_cert and tls_key"
        return f"{self._where()}: cannot connect: {error}"

    def _where(self) -> str:
        return ", ".join(server.rpartition("@")[2] for server in self.servers)


def from_settings(settings: Settings, role: str) -> Connection:
    """The connection that the settings describe. Raises BrokerError with the remedy."""
    nats = settings.nats
    if nats.embedded:
        return _embedded(settings, role)
    if not nats.servers:
        raise BrokerError(
            f"{settings.path}: [nats] embedded = false needs servers, "
            'for example servers = ["nats://localhost:4222"]'
        )
    return Connection(
        servers=tuple(nats.servers),
        user=nats.user,
        password=nats.password,
        credentials=nats.credentials,
        nkey=nats.nkey,
        tls_ca=nats.tls_ca,
        tls_cert=nats.tls_cert,
        tls_key=nats.tls_key,
    )


def tls_context(target: Connection) -> ssl.SSLContext | None:
    """A context when any TLS file is set or a server says tls://; else None."""
    wanted = target.tls_ca or target.tls_cert or target.tls_key
    if not wanted and not any(server.startswith("tls://") for server in target.servers):
        return None
    try:
        context = ssl.create_default_context(cafile=str(target.tls_ca) if target.tls_ca else None)
        if target.tls_cert:
            context.load_cert_chain(
                str(target.tls_cert), str(target.tls_key) if target.tls_key else None
            )
    except (OSError, ssl.SSLError) as error:
        raise BrokerError(
            f"TLS files of [nats] (tls_ca, tls_cert, tls_key) cannot be used: {error}"
        ) from error
    return context


def _embedded(settings: Settings, role: str) -> Connection:
    endpoint = _read_json(
        paths.broker_file(settings),
        f"is wf-supervisor running with {settings.path}? start it with "
        f"`wf-supervisor --config {settings.path}`",
    )
    login = _read_json(
        paths.credentials_file(settings, role),
        "run this as the user that runs wf-supervisor",
    )
    try:
        return Connection(
            servers=(str(endpoint["url"]),),
            user=str(login["user"]),
            password=str(login["password"]),
        )
    except KeyError as error:
        raise BrokerError(
            f"{paths.state_dir(settings)}: {error} is missing in the broker's files; "
            "restart wf-supervisor, which writes them again"
        ) from error


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BrokerError(f"{path} does not exist: {remedy}") from error
    except OSError as error:
        raise BrokerError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except orjson.JSONDecodeError as error:
        raise BrokerError(f"{path} is not JSON ({error}): restart wf-supervisor") from error
    if not isinstance(value, dict):
        raise BrokerError(f"{path} is not a JSON object: restart wf-supervisor")
    return value


def _readable(path: Path, key: str) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise BrokerError(f"[nats] {key} = {str(path)!r}: {error.strerror}") from error
