"""The fixture of the process tests; what it gives is in pool_directory.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are not packages

from pool_directory import PoolDirectory


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolDirectory]:
    directory = PoolDirectory(tmp_path)
    yield directory
    directory.clean_up()
