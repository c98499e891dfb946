"""Who may log in at the embedded broker: a credentials file each, made at first use.

`<role>.json` for the roles of the pool, `worker-<name>.json` for workers of some activities only.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from wf.errors import BrokerError
from wf.jetstream.accounts import ENGINE, Login
from wf.jetstream.permissions import permissions, worker_permissions
from wf.process import paths
from wf.protocol import subjects
from wf.settings import Settings

WORKER_PREFIX = "worker-"
SEPARATOR = "+"  # between the activities in a name that is made of them; no name has it
MAX_NAME = 128


def logins(settings: Settings) -> list[Login]:
    """All of them, the pool's own roles first. Raises BrokerError that names the file."""
    own = [_of_role(role, _password(settings, role)) for role in paths.ROLES]
    return own + [_of_worker(path) for path in _worker_files(settings)]


def placeholders() -> list[Login]:
    """The pool's roles with passwords to be replaced, for the configuration of another broker."""
    return [_of_role(role, f"PASSWORD_OF_{role.upper()}") for role in paths.ROLES]


def make_worker(settings: Settings, activities: Sequence[str], name: str | None = None) -> Path:
    """The credentials file of a worker that serves only `activities`, with a fresh password if it
    is new. Raises BrokerError, MessageError for a name that no activity may have."""
    for activity in activities:
        subjects.check_name("activity", activity)
    wanted = list(dict.fromkeys(activities))
    title = SEPARATOR.join(wanted) if name is None else subjects.check_name("login", name)
    if not 1 <= len(title) <= MAX_NAME:
        raise BrokerError(f"the login of {len(wanted)} activities needs a name: give --name")
    user = WORKER_PREFIX + title
    path = paths.credentials_file(settings, user)
    paths.make_private(paths.state_dir(settings))
    paths.make_private(path.parent)
    known = _read(path)
    if known is not None and known.get("activities") == wanted:
        return path
    content = {"user": user, "password": secrets.token_urlsafe(24), "activities": wanted}
    paths.write_private(path, orjson.dumps(content) + b"\n")
    return path


def _of_role(role: str, password: str) -> Login:
    return Login(
        user=role,
        password=password,
        permissions=permissions(role),
        account=ENGINE if role == "orchestrator" else role,
    )


def _of_worker(path: Path) -> Login:
    known = _read(path) or {}
    user, password, activities = (known.get(key) for key in ("user", "password", "activities"))
    if (
        user != path.stem
        or not isinstance(password, str)
        or not isinstance(activities, list)
        or not all(isinstance(one, str) and subjects.is_name(one) for one in activities)
    ):
        raise BrokerError(
            f"{path} does not hold user, password and activities: delete it, and make it again with"
            " `wf-supervisor credentials worker --activities …`"
        )
    return Login(str(user), password, worker_permissions(activities), str(user))


def _worker_files(settings: Settings) -> list[Path]:
    return sorted(paths.credentials_file(settings, "any").parent.glob(f"{WORKER_PREFIX}*.json"))


def _password(settings: Settings, role: str) -> str:
    """The role's password, made and stored at first use. Raises BrokerError."""
    path = paths.credentials_file(settings, role)
    known = _read(path)
    if known is not None and isinstance(known.get("password"), str):
        return str(known["password"])
    made = secrets.token_urlsafe(24)
    paths.write_private(path, orjson.dumps({"user": role, "password": made}) + b"\n")
    return made


def _read(path: Path) -> dict[str, Any] | None:
    """None when there is none yet, or it is damaged. Raises BrokerError."""
    try:
        known = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    except OSError as error:
        raise BrokerError(
            f"{path}: cannot be read ({error.strerror}); run as the user that owns it"
        ) from error
    return known if isinstance(known, dict) else None
