"""Requests whose expressions over `$secrets` and `$authorization` are evaluated here.

The engine leaves null where such an expression was, and sends the expression with the data that it
needs (orchestrator/definition/tasks/deferred_secrets.py). Data is never evaluated: only what the
definition
itself has as an expression is under `expressions`.
"""

from __future__ import annotations

import copy
from collections.abc import Coroutine
from typing import Any

from wf.builtin.common import secrets, settings
from wf.builtin.common.redaction import Mask
from wf.errors import ActivityError, NonRetryable
from wf.process import engine_functions
from wf.protocol import problem_details

JsonObject = dict[str, Any]


class Request:
    """One request of a built-in activity, and what must not leave the worker."""

    def __init__(self, request: JsonObject, deferred: JsonObject | None) -> None:
        """Reads the secrets. Raises SecretUnusable."""
        self.mask = Mask()  # secrets
        self.own = Mask()  # besides, what the request shows of them: only for its own description
        self.data = request
        self.secrets: JsonObject = {}
        self._variables: JsonObject = {}
        self._input: Any = None
        self._open: dict[str, str] = {}
        if deferred is not None:
            self.data = copy.deepcopy(request)
            self._variables = deferred.get("variables", {})
            self._input = deferred.get("input")
            self._open = dict(deferred.get("expressions", {}))
            directory = settings.settings().secrets.dir
            self.secrets = secrets.read_all(deferred.get("secrets", ()), directory)
            self.mask.add(self.secrets)

    def fill(self, *parts: str, authorization: JsonObject | None = None) -> None:
        """Evaluate what is open below these keys of the request; without any, everything."""
        for pointer in list(self._open):
            if not parts or pointer.split("/")[1] in parts:
                value = self._evaluate(self._open.pop(pointer), authorization)
                if isinstance(value, str):
                    self.own.add(value)
                _put(self.data, pointer, value)

    def _evaluate(self, source: str, authorization: JsonObject | None) -> Any:
        given = {
            **self._variables,
            "secrets": self.secrets,
            "authorization": authorization,
        }
        try:
            compiled = engine_functions.resolve("expression.compile")(source)
            return compiled.evaluate(
                self._input, {name: given[name] for name in compiled.variables}
            )
        except Exception:  # noqa: BLE001 - its text may quote a part of a secret
            raise NonRetryable(
                f"expression `{source[:120]}` failed; why is not said: it may quote a secret",
                type=problem_details.EXPRESSION,
                title="Expression failed",
                status=400,
            ) from None


def _put(data: Any, pointer: str, value: Any) -> None:
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    for token in way:
        data = data[int(token)] if isinstance(data, list) else data[token]
    if isinstance(data, list):
        data[int(last)] = value
    else:
        data[last] = value


async def guarded(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` gives, or its error, without secrets in it."""
    try:
        return request.mask.data(await work)
    except ActivityError as error:
        error.detail = request.own.text(request.mask.text(error.detail))
        error.args = (error.detail,)
        raise error.with_traceback(None) from None
    except Exception as error:  # noqa: BLE001 - its text is not known to be free of secrets
        detail = request.own.text(request.mask.text(f"{type(error).__name__}: {error}"))
        raise ActivityError(detail, title="Built-in activity failed") from None
