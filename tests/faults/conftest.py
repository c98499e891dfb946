"""The pool under fire, one for all tests of a module, and the seed of what happens to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.orders import Field, make_field


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    made = make_field(tmp_path_factory.mktemp("faults"))
    try:
        made.pool.start()
        yield made
        assert made.pool.stop() == 0
    finally:
        made.pool.clean_up()


@pytest.fixture(scope="session")
def seed() -> str:
    """Fresh each time; WF_FAULTS_SEED repeats a run's choices (not the machine's timing)."""
    return os.environ.get("WF_FAULTS_SEED") or os.urandom(4).hex()
