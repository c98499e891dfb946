"""External servers: TLS, client certificates, nkeys and passwords, as settings state them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from base64 import b32encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.support.server import RealServer, make_settings
from wf.errors import BrokerError
from wf.jetstream import topology
from wf.jetstream.client import connect
from wf.jetstream.connection import from_settings
from wf.jetstream.port import Accepted, Outgoing

CONNECT_S = 5.0


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server and client certificates that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test ca"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        *("-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem"),
    )
    for name in ("server", "client"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key"),
            *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"),
        )
    return folder


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Any]:
    """Starts servers with more configuration; they end with the test."""
    started: list[RealServer] = []

    def start(config: str) -> RealServer:
        server = RealServer(tmp_path / f"server{len(started)}", config=config)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill9()


async def works(server: RealServer, scheme: str = "nats", **nats: Any) -> None:
    """Connect, store, pull, survive a restart."""
    settings = make_settings(
        server.directory, embedded=False, servers=[f"{scheme}://127.0.0.1:{server.port}"], **nats
    )
    connection = from_settings(settings, "orchestrator")
    js = await connect(connection, role="orchestrator", name="test", timeout_s=CONNECT_S)
    await topology.ensure(js, settings)
    big = Outgoing("workflow.start.order", b"x" * 3_000_000)
    assert await js.publish("", [big]) == [Accepted(1)]
    pull = await js.pull(topology.WORKFLOW_EVENTS, topology.ORCHESTRATOR, window=5)
    async with asyncio.timeout(5):
        (delivery,) = await pull.next(1)
    assert len(delivery.data) == 3_000_000
    await asyncio.to_thread(server.restart)
    assert await js.last_sequence(topology.WORKFLOW_EVENTS) == 1
    await pull.stop()
    await js.close()


def tls(folder: Path, *, verify: bool) -> str:
    return (
        f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", '
        f'ca_file: "{folder}/ca.pem", verify: {str(verify).lower()} }}'
    )


async def test_tls_with_an_own_authority(servers: Any, certificates: Path) -> None:
    server = servers(tls(certificates, verify=False))
    await works(server, "tls", tls_ca=certificates / "ca.pem")


async def test_tls_with_a_client_certificate(servers: Any, certificates: Path) -> None:
    await works(
        servers(tls(certificates, verify=True)),
        tls_ca=certificates / "ca.pem",
        tls_cert=certificates / "client.pem",
        tls_key=certificates / "client.key",
    )


async def test_an_unknown_authority_is_refused(servers: Any, certificates: Path) -> None:
    server = servers(tls(certificates, verify=False))
    settings = make_settings(
        server.directory, embedded=False, servers=[f"tls://127.0.0.1:{server.port}"]
    )
    with pytest.raises(BrokerError, match="certificate"):
        await connect(
            from_settings(settings, "client"), role="client", name="test", timeout_s=CONNECT_S
        )


async def test_a_password_from_the_settings(servers: Any) -> None:
    server = servers('authorization { users = [ { user: "me", password: "secret" } ] }')
    await works(server, user="me", password="secret")


async def test_an_nkey_from_a_seed_file(servers: Any, tmp_path: Path) -> None:
    seed, public = nkey()
    path = tmp_path / "seed.nk"
    path.write_bytes(seed)
    server = servers(f'authorization {{ users = [ {{ nkey: "{public}" }} ] }}')
    await works(server, nkey=path)


def nkey() -> tuple[bytes, str]:
    """(seed, public key) of a user, as nkeys are written down."""
    key = SigningKey.generate()
    user = 20 << 3
    seed = bytes([(18 << 3) | (user >> 5), (user & 31) << 3]) + key.encode()
    public = bytes([user]) + key.verify_key.encode()
    return written(seed), written(public).decode()


def written(raw: bytes) -> bytes:
    return b32encode(raw + crc16(raw).to_bytes(2, "little")).rstrip(b"=")


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = ((value << 1) ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


@pytest.mark.parametrize("key", ["credentials", "nkey"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, key: str) -> None:
    settings = make_settings(
        tmp_path, embedded=False, servers=["nats://x"], **{key: tmp_path / "none"}
    )
    with pytest.raises(BrokerError, match=rf"\[nats\] {key} = .*none.*No such file"):
        from_settings(settings, "client").options()


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path, embedded=False, servers=["nats://x"], tls_ca=tmp_path / "none"
    )
    with pytest.raises(BrokerError, match="TLS files"):
        from_settings(settings, "client").options()


def test_no_servers_is_said_with_an_example(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, embedded=False, servers=[])
    with pytest.raises(BrokerError, match=r"needs servers, for example"):
        from_settings(settings, "client")
