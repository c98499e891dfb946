"""The operator's orders are kept over restarts, and a broken file of them does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.control import overrides
from supervisor.control.overrides import Overrides


def test_orders_are_kept_and_read_again(tmp_path: Path) -> None:
    orders = Overrides().scale("mail", 4, "2").pause("pdf").pause("sms").resume("sms")
    assert overrides.write(tmp_path, orders) is None
    assert overrides.read(tmp_path) == orders
    assert (tmp_path / overrides.NAME).stat().st_mode & 0o077 == 0


def test_no_file_means_no_orders(tmp_path: Path) -> None:
    assert overrides.read(tmp_path) == Overrides()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"scaled": {"mail": 3}, "paused": []}', "nonsense"]
)
def test_a_broken_file_means_no_orders(tmp_path: Path, text: str) -> None:
    (tmp_path / overrides.NAME).write_text(text)
    assert overrides.read(tmp_path) == Overrides()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    problem = overrides.write(tmp_path / "gone", Overrides())
    assert problem
    assert str(tmp_path / "gone") in problem


def test_a_count_that_pool_toml_has_changed_since_is_overtaken() -> None:
    orders = Overrides().scale("mail", 4, "2").scale("pdf", 1, "3")
    left = orders.overtaken({"mail": "2", "pdf": "5"})
    assert dict(left.scaled) == {"mail": orders.scaled["mail"]}


def test_a_pool_that_is_missing_for_a_while_keeps_its_order() -> None:
    orders = Overrides().scale("mail", 4, "2")
    assert orders.overtaken({}) == orders
