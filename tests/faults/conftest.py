"""The pool under fire: the repository's activities and order workflow in a directory of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import executions
from tests.support.executions import Execution
from tests.support.pool import RealPool

ROOT = Path(__file__).parents[2]

# The ack_wait is short so that a round takes seconds: what a killed worker held waits so long.
CONFIG = """
activities_dir = "activities"
workflows_dir = "workflows"
[supervisor]
state_dir = "state"
[nats]
embedded = true
[workers]
ack_wait = "1s"
[workers.charge_card]
processes = 2
[workers.mail]
activities = ["send_mail", "send_sms"]
"""


@dataclass(slots=True, frozen=True)
class Field:
    """The pool, and what its activities did."""

    pool: RealPool
    ledger: Path
    definition: str

    def executions(self) -> list[Execution]:
        return executions.read(self.ledger)


def make_field(root: Path, config: str = CONFIG) -> Field:
    ledger = root / "executions"
    (root / "activities").mkdir()
    for module in sorted((ROOT / "activities").glob("*.py")):
        text = executions.noted(module.read_text(), ledger)
        (root / "activities" / module.name).write_text(text)
    shutil.copytree(ROOT / "config" / "workflows", root / "workflows")
    (root / "pool.toml").write_text(config)
    definition = (root / "workflows" / "order.yaml").read_text()
    return Field(RealPool(root / "pool.toml"), ledger, definition)


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
