"""Authentications: basic, bearer, digest, oauth2 and oidc, in place or by name.

What comes out is what wf/builtin/http/credentials.py reads: the one scheme, its fields as
templates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.definition.compiler.compiler import INSIDE, NOTHING, Compiler, Scope
from orchestrator.definition.compiler.nodes import Template
from orchestrator.definition.compiler.problems import escape, kind_of, no_template
from orchestrator.definition.tasks import deferred_secrets
from orchestrator.expressions.jq import strip_marks

KNOWN = INSIDE | {"secrets"}
GRANTS = ("client_credentials", "password")
CLIENT_AUTHENTICATIONS = ("client_secret_post", "client_secret_basic", "private_key_jwt", "none")
ENCODINGS = ("application/x-www-form-urlencoded", "application/json")

_UNUSED = ("revocation", "introspection")
_NO_GRANT = (
    "only client_credentials and password can run without a person: have a service of your own"
    " exchange the token"
)


class Authentication(NamedTuple):
    """`template` gives {scheme: fields}; `secrets` are those that it names with `use`."""

    template: Template
    secrets: frozenset[str] = NOTHING


NONE = Authentication(Template(NOTHING))


def authentication(compiler: Compiler, place: str, value: Any, scope: Scope) -> Authentication:
    """One authentication: `{use: name}`, a name alone, or an object with one scheme."""
    if type(value) is str:
        value = {"use": value}
    elif compiler.problems.mapping(place, value, "an authentication") is None:
        return NONE
    if "use" not in value:
        return _scheme(compiler, place, value, scope)
    compiler.problems.keys(place, value, ("use",))
    name = compiler.problems.text(f"{place}/use", value["use"], "`use`")
    if name is None:
        return NONE
    if name not in compiler.authentications:
        meant = compiler.problems.meant(name, compiler.authentications)
        compiler.problems.add(
            f"{place}/use", f'no authentication "{name}" in `use.authentications`{meant}'
        )
        return NONE
    place = f"/use/authentications/{escape(name)}"
    compiler.used.add(place)
    return _scheme(compiler, place, compiler.authentications[name], scope)


def unused(compiler: Compiler) -> None:
    """Check the authentications that nothing refers to."""
    for name, body in compiler.authentications.items():
        place = f"/use/authentications/{escape(name)}"
        if place not in compiler.used:
            _scheme(compiler, place, body, Scope())


def _scheme(compiler: Compiler, place: str, value: Any, scope: Scope) -> Authentication:
    problems = compiler.problems
    if problems.mapping(place, value, "an authentication") is None:
        return NONE
    problems.keys(place, value, tuple(_SCHEMES))
    found = [name for name in _SCHEMES if name in value]
    if len(found) != 1:
        problems.add(place, f"needs one of {', '.join(_SCHEMES)}, and only one")
        return NONE
    (name,) = found
    place, body = f"{place}/{name}", value[name]
    if problems.mapping(place, body, f"`{name}`") is None:
        return NONE
    secrets: frozenset[str] = NOTHING
    if "use" in body:
        problems.keys(place, body, ("use",))
        secret = problems.text(f"{place}/use", body["use"], "`use`")
        if secret is not None:
            deferred_secrets.declared(compiler, f"{place}/use", secret)
            secrets = frozenset({secret})
        fields = Template(NOTHING, value={"use": secret})
    else:
        _SCHEMES[name](compiler, place, body)
        fields = compiler.template(place, body, KNOWN, scope)
        deferred_secrets.check(compiler, place, fields)
    return Authentication(Template(fields.variables, fields=((name, fields),)), secrets)


def _fields(*names: str) -> Callable[[Compiler, str, dict[str, Any]], None]:
    """A scheme whose fields are all texts, and all needed."""

    def check(compiler: Compiler, place: str, body: dict[str, Any]) -> None:
        compiler.problems.keys(place, body, (*names, "use"))
        for name in names:
            if name not in body:
                compiler.problems.add(place, f"needs `{name}`, or `use` with a secret that has it")
            else:
                compiler.problems.text(f"{place}/{name}", body[name], f"`{name}`")

    return check


def _oauth2(compiler: Compiler, place: str, body: dict[str, Any]) -> None:
    _token(compiler, place, body, ("endpoints",))
    endpoints = body.get("endpoints", {})
    if compiler.problems.mapping(f"{place}/endpoints", endpoints, "`endpoints`") is not None:
        compiler.problems.keys(f"{place}/endpoints", endpoints, ("token", *_UNUSED))
        for key in _UNUSED:
            if key in endpoints:
                compiler.problems.warn(
                    f"{place}/endpoints/{key}",
                    "is not asked: tokens are kept until they expire, not revoked or introspected",
                )
        if "token" in endpoints:
            no_template(compiler.problems, f"{place}/endpoints/token", endpoints["token"])


def _oidc(compiler: Compiler, place: str, body: dict[str, Any]) -> None:
    _token(compiler, place, body, ())


def _token(compiler: Compiler, place: str, body: dict[str, Any], more: tuple[str, ...]) -> None:
    """What oauth2 and oidc have in common."""
    problems = compiler.problems
    keys = ("authority", "grant", "client", "request", "issuers", "scopes", "audiences")
    problems.keys(
        place,
        body,
        (*keys, *more, "username", "password", "use"),
        {"subject": _NO_GRANT, "actor": _NO_GRANT},
    )
    for key in ("authority", "grant"):
        if key not in body:
            problems.add(place, f"needs `{key}`")
    for key in ("authority", "username", "password"):
        if key in body:
            problems.text(f"{place}/{key}", body[key], f"`{key}`")
    if "authority" in body:
        no_template(problems, f"{place}/authority", body["authority"])
    if "grant" in body:
        _one_of(compiler, f"{place}/grant", body["grant"], GRANTS, _NO_GRANT)
    if body.get("grant") == "password":
        for key in ("username", "password"):
            if key not in body:
                problems.add(place, f"the grant `password` needs `{key}`")
    for key in ("issuers", "scopes", "audiences"):
        if key in body and type(body[key]) is not list and not _is_expression(body[key]):
            problems.add(f"{place}/{key}", f"must be a list, found {kind_of(body[key])}")
    request = body.get("request", {})
    if problems.mapping(f"{place}/request", request, "`request`") is not None:
        problems.keys(f"{place}/request", request, ("encoding",))
        if "encoding" in request:
            _one_of(compiler, f"{place}/request/encoding", request["encoding"], ENCODINGS)
    _client(compiler, f"{place}/client", body.get("client", {}))


def _client(compiler: Compiler, place: str, client: Any) -> None:
    problems = compiler.problems
    if problems.mapping(place, client, "`client`") is None:
        return
    problems.keys(place, client, ("id", "secret", "assertion", "authentication"))
    method = client.get("authentication", "client_secret_post")
    remedy = "client_secret_jwt is not supported: use private_key_jwt with an `assertion`"
    _one_of(compiler, f"{place}/authentication", method, CLIENT_AUTHENTICATIONS, remedy)
    needed = {
        "client_secret_post": ("id", "secret"),
        "client_secret_basic": ("id", "secret"),
        "private_key_jwt": ("id", "assertion"),
    }
    for key in needed.get(str(method), ()):
        if key not in client:
            problems.add(place, f"needs `{key}` for {method}")
    for key in ("id", "secret", "assertion"):
        if key in client:
            problems.text(f"{place}/{key}", client[key], f"`{key}`")


def _one_of(
    compiler: Compiler, place: str, value: Any, allowed: tuple[str, ...], remedy: str = ""
) -> None:
    if value not in allowed:
        listed = ", ".join(allowed)
        more = f" ({remedy})" if remedy else ""
        compiler.problems.add(place, f"must be one of {listed}, found {kind_of(value)}{more}")


def _is_expression(value: Any) -> bool:
    return type(value) is str and strip_marks(value) is not None


_SCHEMES: dict[str, Callable[[Compiler, str, dict[str, Any]], None]] = {
    "basic": _fields("username", "password"),
    "bearer": _fields("token"),
    "digest": _fields("username", "password"),
    "oauth2": _oauth2,
    "oidc": _oidc,
}
