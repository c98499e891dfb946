"""Versions sort as versions, and a conflict shows the difference and the remedy."""

import random

import pytest

from wf.client.definitions import (
    RegisteredDefinition,
    conflict_text,
    from_stored,
    version_key,
)
from wf.errors import WfError
from wf.jetstream.port import Stored
from wf.process import engine_functions


def test_versions_sort_by_number_and_a_release_after_its_candidates():
    ordered = ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0"]
    ordered += ["1.9.0", "1.10.0", "2.0.0"]
    mixed = random.Random(4711).sample(ordered, len(ordered))
    assert sorted(mixed, key=version_key) == ordered


def test_the_subject_names_namespace_name_and_version():
    stored = Stored("$KV.WORKFLOW_DEFINITIONS.sales.order.1.2.3-rc.1", b"{}", None, 4, 5)
    found = from_stored(stored)
    assert (found.namespace, found.name, found.version) == ("sales", "order", "1.2.3-rc.1")
    assert found.subject == stored.subject
    assert found.title == "sales.order 1.2.3-rc.1"


def test_a_conflict_shows_the_changed_lines_and_the_remedy():
    deployed = RegisteredDefinition("default", "order", "1.0.0", b'{"do":[{"pay":{"n":2}}]}')
    text = conflict_text(deployed, b'{"do":[{"pay":{"n":1}}]}')
    assert '-        "n": 1' in text
    assert '+        "n": 2' in text
    assert "new document.version" in text


def test_a_part_that_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(engine_functions.ENTRY_POINTS, "absent", "no_such_package.module:function")
    with pytest.raises(WfError, match=r"no_such_package\.module, which is not installed"):
        engine_functions.resolve("absent")


def test_key_order_is_no_difference_but_a_number_written_otherwise_is():
    deployed = RegisteredDefinition("default", "order", "1.0.0", b'{"a":1,"b":2}')
    assert "\n-" not in conflict_text(deployed, b'{"b":2,"a":1}')
    assert "\n-" in conflict_text(deployed, b'{"b":2,"a":1.0}')
