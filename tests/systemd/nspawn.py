"""A Debian 12 with systemd 252 in a container: made, booted, thrown away.

Made with mmdebstrap from the host's package mirror, booted with systemd-nspawn without network.
The product is installed into it as systemd/README.md says, from this checkout; its dependencies are
those of the running interpreter, mounted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PREFIX = "opt/wf-supervisor"
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter")
_SUITE = "bookworm"
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"
_BUILD_LIMIT_S = 240
_BOOT_LIMIT_S = 30.0
_HALT_LIMIT_S = 20.0
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")


def why_not() -> str | None:
    """Why no such machine can be made here; None when it can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return "only root may boot a container"
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install systemd-container mmdebstrap)"
    if sys.version_info[:2] != (3, 11):
        return "the dependencies are mounted into Debian 12, whose Python is 3.11: run it with 3.11"
    if _setuptools() < 77:
        return "setuptools is too old to build the product: run it with `make test-systemd`"
    return None


def _setuptools() -> int:
    try:
        return int(metadata.version("setuptools").split(".")[0])
    except metadata.PackageNotFoundError:
        return 0


class Machine:
    """A directory tree, and the container that runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = root / "tree"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._cgroups: list[Path] = []
        self._leader = 0

    def make(self) -> None:
        """Build the tree and install the product. Skips the test when the mirror is unreachable."""
        # In a mount namespace of its own: what it mounts ends with it, however it ends.
        private = ["unshare", "--mount", "--propagation", "private"]
        wanted = ["--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(self.tree)]
        made = subprocess.Popen(
            [*private, "mmdebstrap", *wanted],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, said = made.communicate(timeout=_BUILD_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(made.pid, signal.SIGKILL)  # apt and dpkg too, or they go on writing
            made.communicate()
            pytest.skip(f"mmdebstrap was not done in {_BUILD_LIMIT_S} s")
        if made.returncode != 0:
            pytest.skip(f"mmdebstrap cannot make a Debian 12: {said[-500:]}")
        source = self.tree / "opt" / "source"
        source.mkdir()
        for name in ("wf", "orchestrator", "supervisor", "systemd"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, source / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(PROJECT / name, source)
        (self.tree / "opt" / "packages").mkdir()

    def boot(self) -> None:
        """Start the container and wait until its systemd answers."""
        command = ["systemd-nspawn", "--quiet", "--register=no", "--private-network", "--boot"]
        if not Path("/run/systemd/system").exists():
            command.append("--keep-unit")  # no systemd out here that could give it a scope
            self._make_cgroups()
        nats_server = Path(sys.executable).with_name("nats-server")
        command += [
            "--console=pipe",
            f"--directory={self.tree}",
            f"--bind-ro={sysconfig.get_path('purelib')}:/opt/packages",
            f"--bind-ro={nats_server}:/usr/local/bin/nats-server",
        ]
        with open(self.root / "console", "wb") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=self._enter_cgroups,
            )
        until(self._booted, lambda: (self.root / "console").read_text(), _BOOT_LIMIT_S)

    def install(self) -> None:
        """What systemd/README.md says, but for the download of the dependencies."""
        self.run("python3", "-m", "venv", f"/{PREFIX}")
        [site] = (self.tree / PREFIX).glob("lib/python3*/site-packages")
        (site / "dependencies.pth").write_text("/opt/packages\n")
        self.run(f"/{PREFIX}/bin/pip", "uninstall", "--quiet", "--yes", "setuptools")  # too old
        pip = (f"/{PREFIX}/bin/pip", "install", "--quiet", "--no-index", "--no-deps")
        # the mounted packages hold an installation of this very project: see past it
        self.run(*pip, "--no-build-isolation", "--ignore-installed", "/opt/source")
        for kind in ("sysusers.d", "tmpfiles.d"):
            source = f"/opt/source/systemd/{kind}/wf-supervisor.conf"
            self.run("install", "-m", "644", source, f"/usr/lib/{kind}/")
        for unit in ("wf-supervisor.service", "wf-supervisor@.service"):
            source = f"/opt/source/systemd/{unit}"
            self.run("install", "-m", "644", source, "/etc/systemd/system/")
        self.run("systemd-sysusers")
        self.run("systemd-tmpfiles", "--create", "wf-supervisor.conf")
        self.run(f"/{PREFIX}/bin/wf-supervisor", "init", "/etc/wf-supervisor")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its output as text."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", *command],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
        )
        if check and done.returncode != 0:
            log = self.run("journalctl", "--no-pager", "-n", "40", check=False).stdout
            pytest.fail(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{log}")
        return done

    def halt(self) -> None:
        """End the container; nothing of it stays."""
        if self._nspawn is not None:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(_HALT_LIMIT_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._leader or self._nspawn.pid, signal.SIGKILL)
                self._nspawn.wait(_HALT_LIMIT_S)
        for cgroup in self._cgroups:
            until(lambda here=cgroup: _remove(here), lambda here=cgroup: f"busy: {here}", 10.0)

    def _booted(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            pytest.skip(f"nspawn does not work here: {(self.root / 'console').read_text()[-500:]}")
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        if not self._leader:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _make_cgroups(self) -> None:
        for parent in map(Path, _CGROUPS):
            if (parent / "cgroup.procs").exists():
                cgroup = parent / f"wf-test-{os.getpid()}"
                cgroup.mkdir()
                self._cgroups.append(cgroup)

    def _enter_cgroups(self) -> None:
        for cgroup in self._cgroups:
            (cgroup / "cgroup.procs").write_text("0")


def _remove(cgroup: Path) -> bool:
    try:
        for folder, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False  # its last process is on its way out
    return True


def until(condition: Callable[[], Any], what: Callable[[], str], limit_s: float) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s} s: {what()}")
        time.sleep(0.1)


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """A running machine with the product installed; removed at the end."""
    one = Machine(root)
    try:
        one.make()
        one.boot()
        one.install()
        yield one
    finally:
        one.halt()
        shutil.rmtree(root, ignore_errors=True)
