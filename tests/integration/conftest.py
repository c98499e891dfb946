"""A web service, and what a worker of built-in calls goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import make_settings
from tests.support.web import Web, serving
from wf.builtin.common import settings as configuration
from wf.settings import BuiltinSettings, HttpSettings, SecretsSettings


@pytest.fixture(scope="module")
def service() -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture
def web(service: Web) -> Web:
    service.seen.clear()
    service.tokens.clear()
    service.revoked.clear()
    service.expires_in = 3600
    service.documents.clear()
    service.told.clear()
    service.guarded.clear()
    return service


@pytest.fixture
def settle(tmp_path: Path) -> Callable[..., None]:
    """Says which settings hold; secrets are in `tmp_path`."""

    def settle(**http: Any) -> None:
        settings = make_settings(tmp_path).model_copy(
            update={
                "builtin": BuiltinSettings(http=HttpSettings(**http)),
                "secrets": SecretsSettings(dir=tmp_path),
            }
        )
        configuration.use(settings)

    settle()
    return settle


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str, str], None]:
    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)

    return put
