"""Workflow definitions: Open Workflow Specification DSL 1.0, checked and compiled. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.definition import reachability
from orchestrator.definition.activities import calls
from orchestrator.definition.compiler.budget import NEW, REGISTERED
from orchestrator.definition.compiler.nodes import Workflow
from orchestrator.definition.compiler.problems import Enough, Problems, kind_of
from orchestrator.definition.compiler.versions import version_key
from orchestrator.definition.source.read import read
from orchestrator.definition.workflow import compile_workflow
from wf.errors import DefinitionError, Problem
from wf.protocol.subjects import qualified

__all__ = ["Definition", "canonical_bytes", "diff", "parse", "version_key"]


class Definition:
    """A valid definition. `document` is the plain JSON, `workflow` the compiled tree, `calls` the
    activities that it needs: name → the warning to give where no worker has announced it;
    `warnings`: the others."""

    __slots__ = ("calls", "document", "name", "namespace", "version", "warnings", "workflow")

    def __init__(
        self,
        document: dict[str, Any],
        workflow: Workflow,
        calls: Mapping[str, Problem],
        warnings: tuple[Problem, ...] = (),
    ) -> None:
        header = document["document"]
        self.namespace: str = header["namespace"]
        self.name: str = header["name"]
        self.version: str = header["version"]
        self.document = document
        self.workflow = workflow
        self.calls = calls
        self.warnings = warnings

    def is_scheduled(self, event: dict[str, Any]) -> bool:
        """Whether a start was made by the schedule of this version."""
        schedule = self.workflow.schedule
        return schedule is not None and event["scheduled"]["schedule"] == schedule.text

    @property
    def qualified(self) -> str:
        return qualified(self.namespace, self.name)


def parse(
    source: str | bytes | dict[str, Any], file: str = "<definition>", *, registered: bool = False
) -> Definition:
    """Read YAML, JSON or a plain document.

    `registered`: it was accepted before, maybe by an older version of this program; what only a new
    definition is refused for is let pass, because instances depend on it.

    Raises DefinitionError with all problems at once, or the first of very many, each
    `<file>:<line>:<column>: <JSON pointer>: <sentence with the remedy>`.
    """
    budget = REGISTERED if registered else NEW
    document, positions = read(source, file, budget)
    problems = Problems(file, positions, registered=registered)
    if not isinstance(document, dict):
        raise DefinitionError([f"{file}: must be an object, found {kind_of(document)}"])
    try:
        workflow = compile_workflow(document, problems, budget)
        if not registered:
            reachability.check(problems, document)
    except Enough:
        raise DefinitionError(
            [*problems.ordered(), f"{file}: and more: mend these first"]
        ) from None
    if problems.found:
        raise DefinitionError(problems.ordered())
    return Definition(document, workflow, calls(workflow, problems), tuple(problems.warnings))


def canonical_bytes(definition: Definition) -> bytes:
    """Stable JSON: equal for documents that differ in layout, comments or key order only."""
    return orjson.dumps(definition.document, option=orjson.OPT_SORT_KEYS)


def diff(old_document: dict[str, Any], new_document: dict[str, Any]) -> str:
    """A unified diff of two documents, for people; empty when they are the same."""
    lines = difflib.unified_diff(
        _lines(old_document), _lines(new_document), "registered", "new", n=2, lineterm=""
    )
    return "\n".join(lines)


def _lines(document: dict[str, Any]) -> list[str]:
    option = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2
    return orjson.dumps(document, option=option).decode().splitlines()
