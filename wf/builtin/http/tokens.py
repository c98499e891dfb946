"""Access tokens: got from an authority, kept in memory until shortly before they expire.

Nothing is stored: a worker that starts anew gets new ones. A token that is being got when its
call is cancelled is simply not there; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from wf.builtin.http import failures
from wf.builtin.http.client import Answer, Client

JsonObject = dict[str, Any]

KEPT = 1000  # tokens; the oldest goes
UNSTATED_S = 300.0  # how long a token is used when its authority does not say
EARLY_S = 30.0  # it is renewed so long before it expires, or at half of a short life
DISCOVERY = "/.well-known/openid-configuration"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    type: str
    renew_at_s: float  # time.monotonic()


class Tokens:
    """The tokens of one worker."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[str, Token] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, scheme: str, fields: JsonObject) -> tuple[Token, bool]:
        """A token that is good for a while, and whether it was there already. Raises ActivityError.

        Calls that need the same one wait for each other: the authority is asked once.
        """
        key = _key(scheme, fields)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self._kept.get(key)
                if known is not None and time.monotonic() < known.renew_at_s:
                    return known, True
                token = await self._ask(scheme, fields)
                self._kept.pop(key, None)
                self._kept[key] = token
                while len(self._kept) > KEPT:
                    del self._kept[next(iter(self._kept))]
                return token, False
        finally:
            if not lock.locked() and self._locks.get(key) is lock:
                del self._locks[key]

    def forget(self, scheme: str, fields: JsonObject, token: Token) -> None:
        """A service refused this token: the next call gets a new one."""
        key = _key(scheme, fields)
        if self._kept.get(key) == token:
            del self._kept[key]

    async def _ask(self, scheme: str, fields: JsonObject) -> Token:
        place = await self._place(scheme, fields)
        form, headers = _form(fields)
        asked_s = time.monotonic()
        if (fields.get("request") or {}).get("encoding") == "application/json":
            headers.append(("content-type", "application/json"))
            content = orjson.dumps(form)
        else:
            headers.append(("content-type", FORM))
            content = urlencode(form).encode()
        answer = await self._client.exchange("POST", place, headers=headers, content=content)
        if answer.status != 200:
            raise _refused(answer, place)
        return _token(answer, place, fields, asked_s)

    async def _place(self, scheme: str, fields: JsonObject) -> str:
        authority = str(fields["authority"]).rstrip("/")
        if scheme == "oauth2":
            path = str((fields.get("endpoints") or {}).get("token") or "/oauth2/token")
            return path if "://" in path else f"{authority}/{path.lstrip('/')}"
        discovery = authority if authority.endswith(DISCOVERY) else authority + DISCOVERY
        answer = await self._client.exchange("GET", discovery)
        if answer.status != 200:
            raise failures.of_status(
                answer.status,
                answer.reason,
                f"{discovery} answered {answer.status}",
                answer.retry_after_s,
            )
        place = _object(answer).get("token_endpoint")
        if not isinstance(place, str):
            raise failures.not_authenticated(f"{discovery} names no token_endpoint")
        return place


def _key(scheme: str, fields: JsonObject) -> str:
    """Not the secrets themselves, so that a dump of the process shows fewer of them."""
    data = orjson.dumps([scheme, fields], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()


def _form(fields: JsonObject) -> tuple[JsonObject, list[tuple[str, str]]]:
    """The token request (RFC 6749), and headers of the client's authentication."""
    form: JsonObject = {"grant_type": fields["grant"]}
    headers = [("accept", "application/json")]
    client = fields.get("client") or {}
    method = client.get("authentication", "client_secret_post")
    identity, secret = str(client.get("id", "")), str(client.get("secret", ""))
    if method == "client_secret_basic":
        pair = f"{quote(identity, safe='')}:{quote(secret, safe='')}"
        headers.append(("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
    elif identity:
        form["client_id"] = identity
    if method == "client_secret_post" and secret:
        form["client_secret"] = secret
    if method == "private_key_jwt":
        form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form["client_assertion"] = str(client.get("assertion"))
    for key, name in (("scopes", "scope"), ("audiences", "audience")):
        if fields.get(key):
            form[name] = " ".join(str(one) for one in fields[key])
    if fields["grant"] == "password":
        form["username"], form["password"] = fields.get("username"), fields.get("password")
    return form, headers


def _refused(answer: Answer, place: str) -> Exception:
    detail = f"{place} gave no token: it answered {answer.status} {answer.reason}".rstrip()
    try:
        told = _object(answer)
    except Exception:  # noqa: BLE001 - it need not explain itself
        told = {}
    for key in ("error", "error_description"):
        if isinstance(told.get(key), str):
            detail += f": {told[key][:200]}"
    if answer.status >= 500 or answer.status in failures.TRANSIENT:
        return failures.of_status(answer.status, answer.reason, detail, answer.retry_after_s)
    return failures.not_authenticated(detail)


def _token(answer: Answer, place: str, fields: JsonObject, asked_s: float) -> Token:
    told = _object(answer)
    value = told.get("access_token")
    if not isinstance(value, str) or not value:
        raise failures.not_authenticated(f"{place} answered without an access_token")
    if fields.get("issuers"):
        _check_issuer(value, [str(one) for one in fields["issuers"]])
    life_s = told.get("expires_in")
    try:
        life_s = float(life_s) if life_s is not None else UNSTATED_S
    except (TypeError, ValueError):
        life_s = UNSTATED_S
    type_ = told.get("token_type")
    scheme = type_ if isinstance(type_, str) and type_.lower() != "bearer" else "Bearer"
    return Token(value, scheme, asked_s + max(life_s - EARLY_S, life_s * 0.5, 0.0))


def _check_issuer(value: str, issuers: list[str]) -> None:
    try:
        payload = value.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        issuer = claims.get("iss")
    except (IndexError, ValueError, AttributeError):
        raise failures.not_authenticated(
            "`issuers` is given, but the token is no JWT that names its issuer: remove `issuers`"
        ) from None
    if issuer not in issuers:
        raise failures.not_authenticated(
            f"the token's issuer {issuer!r} is not one of {', '.join(issuers)}"
        )


def _object(answer: Answer) -> JsonObject:
    try:
        told = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        where = answer.request.url.copy_with(query=None)
        raise failures.unusable_answer(f"{where} did not answer with a JSON object")
    return told
