"""Accounts of a broker: the engine's streams lie in one that only the engine enters. Pure.

Everybody else has an account of their own and sees of the engine's what their permissions name, as
imported services. The broker answers a request to whatever reply subject it names, and checks no
permission for that; but over a border of accounts the answer goes to that subject in the account of
who asked, where nothing is stored and nobody else listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wf.jetstream.permissions import Permissions

ENGINE = "ENGINE"
# Requests that are answered more than once: a pull, and a direct get of many.
_ANSWERED_OFTEN = ("$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.")
# An account without this import gets the server's own answer to every API request as well: that
# JetStream is not enabled for it.
_API_INFO = "$JS.API.INFO"


@dataclass(frozen=True, slots=True)
class Login:
    """One user of the broker. `account`: ENGINE, or one that nobody else has."""

    user: str
    password: str
    permissions: Permissions
    account: str


def accounts_text(logins: Sequence[Login]) -> str:
    """The `accounts` of a configuration of nats-server."""
    engine = [login for login in logins if login.account == ENGINE]
    others = [login for login in logins if login.account != ENGINE]
    blocks = [_account(ENGINE, engine, ["jetstream: enabled", _list("exports", _exports(others))])]
    blocks += [_account(one.account, [one], [_list("imports", _imports(one))]) for one in others]
    return "accounts {\n" + "".join(blocks) + "}\n"


def _account(name: str, logins: Sequence[Login], parts: Sequence[str]) -> str:
    users = _list("users", [_user(login) for login in logins])
    return f"  {quoted(name)} {{\n" + "".join(f"    {part}\n" for part in (*parts, users)) + "  }\n"


def _list(key: str, items: Sequence[str]) -> str:
    return f"{key}: [\n" + "".join(f"      {item}\n" for item in items) + "    ]"


def _exports(others: Sequence[Login]) -> list[str]:
    """Each subject once, to those accounts alone that may have it."""
    services: dict[str, list[str]] = {}
    streams: dict[str, list[str]] = {}
    for login in others:
        for subject in _services(login):
            services.setdefault(subject, []).append(login.account)
        for subject in _heard(login):
            streams.setdefault(subject, []).append(login.account)
    return [
        f"{{ service: {quoted(subject)}, response_type: {_responses(subject)},"
        f" accounts: {_quoted_list(accounts)} }}"
        for subject, accounts in services.items()
    ] + [
        f"{{ stream: {quoted(subject)}, accounts: {_quoted_list(accounts)} }}"
        for subject, accounts in streams.items()
    ]


def _imports(login: Login) -> list[str]:
    return [
        f"{{ {kind}: {{ account: {ENGINE}, subject: {quoted(subject)} }} }}"
        for kind, subjects in (("service", _services(login)), ("stream", _heard(login)))
        for subject in subjects
    ]


def _services(login: Login) -> list[str]:
    """What the login may publish, each message to one import: two would make it two messages."""
    wanted = dict.fromkeys((*login.permissions.publish, _API_INFO))
    return [
        subject
        for subject in wanted
        if not any(covers(other, subject) for other in wanted if other != subject)
    ]


def _heard(login: Login) -> list[str]:
    """What it may subscribe to that the engine publishes."""
    return [one for one in login.permissions.subscribe if not one.startswith("_INBOX")]


def _responses(subject: str) -> str:
    return "stream" if subject.startswith(_ANSWERED_OFTEN) else "singleton"


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that `narrow` matches is matched by `wide`."""
    left, right = wide.split("."), narrow.split(".")
    for place, token in enumerate(left):
        if token == ">":
            return len(right) > place
        if place >= len(right) or right[place] == ">":
            return False
        if token not in ("*", right[place]):
            return False
    return len(left) == len(right)


def _user(login: Login) -> str:
    allowed = login.permissions
    return (
        f"{{ user: {quoted(login.user)}, password: {quoted(login.password)}, permissions: {{\n"
        f"        publish: {{ allow: {_quoted_list(allowed.publish)} }}\n"
        f"        subscribe: {{ allow: {_quoted_list(allowed.subscribe)} }}\n"
        "      } }"
    )


def _quoted_list(items: Sequence[str]) -> str:
    return "[" + ", ".join(quoted(item) for item in items) + "]"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
