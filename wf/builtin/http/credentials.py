"""Authentications of the specification, made ready for one call."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import httpx

from wf.builtin.common.deferred_expressions import Request
from wf.builtin.http import failures
from wf.builtin.http.tokens import Token, Tokens

JsonObject = dict[str, Any]


@dataclass(slots=True)
class Credentials:
    """What authenticates a call: a header, or an answer to the service's challenge."""

    scheme: str | None = None
    parameter: str | None = None
    auth: httpx.Auth | None = None
    _token: tuple[str, JsonObject, Token] | None = None
    _was_kept: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def authorization(self) -> JsonObject | None:
        """As `$authorization`."""
        if self.scheme is None:
            return None
        return {"scheme": self.scheme, "parameter": self.parameter}

    def may_be_stale(self, tokens: Tokens) -> bool:
        """After a 401: whether it was a kept token, which is then forgotten."""
        if self._token is None or not self._was_kept:
            return False
        tokens.forget(*self._token)
        return True


async def credentials(given: Any, request: Request, tokens: Tokens) -> Credentials:
    """Those of an authentication whose expressions are filled. Raises ActivityError.

    What they hold is hidden from then on.
    """
    if given is None:
        return Credentials()
    ((scheme, fields),) = given.items()
    if "use" in fields:
        fields = _of_secret(scheme, fields["use"], request)
    if scheme in ("oauth2", "oidc"):
        return await _of_token(scheme, fields, request, tokens)
    if scheme == "bearer":
        made = Credentials("Bearer", _text(scheme, fields, "token"))
    else:
        user, password = _text(scheme, fields, "username"), _text(scheme, fields, "password")
        request.mask.add(password)
        if scheme == "digest":
            return Credentials("Digest", auth=httpx.DigestAuth(user, password))
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        made = Credentials("Basic", pair)
    return _with_header(made, request)


def _of_secret(scheme: str, name: str, request: Request) -> JsonObject:
    secret = request.secrets[name]
    if scheme == "bearer" and isinstance(secret, str):
        return {"token": secret}
    if not isinstance(secret, dict):
        raise failures.misconfigured(
            f"the secret {name} must be a JSON object with the fields of `{scheme}`"
        )
    if scheme in ("oauth2", "oidc"):
        for key in ("authority", "grant"):
            _text(scheme, secret, key)
    return secret


async def _of_token(
    scheme: str, fields: JsonObject, request: Request, tokens: Tokens
) -> Credentials:
    for part in (fields, fields.get("client") or {}):
        request.mask.add([part.get(key) for key in ("secret", "assertion", "password")])
    token, was_kept = await tokens.get(scheme, fields)
    made = Credentials(token.type, token.value, None, (scheme, fields, token), was_kept)
    return _with_header(made, request)


def _with_header(made: Credentials, request: Request) -> Credentials:
    request.mask.add(made.parameter)
    made.headers.append(("authorization", f"{made.scheme} {made.parameter}"))
    return made


def _text(scheme: str, fields: JsonObject, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise failures.misconfigured(f"`{scheme}` needs a text as its `{key}`")
    return value
