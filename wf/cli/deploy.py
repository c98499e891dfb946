"""`wf validate`, `wf deploy`, `wf definitions`, `wf schedules`."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from wf.cli import exit_status, json_documents, output, session
from wf.client import definitions as registry
from wf.client.activities import announced, unannounced
from wf.client.client import Client, parse_definition
from wf.client.definitions import RegisteredDefinition
from wf.client.schedules import Pending
from wf.errors import DefinitionConflict, DefinitionError, Problem

JsonObject = dict[str, Any]


def validate(files: Sequence[str], target: session.Target | None = None, *, json: bool) -> int:
    """Check every file; all problems of all files are reported.

    With a `target`, also ask that broker which activities workers have announced.
    """
    checked = [_check(file) for file in files]
    if target is not None:
        known = session.run(target, lambda client: announced(client.port))
        for found, shape in checked:
            _warn(found, shape, known)
    if json:
        output.print_json([shape for _, shape in checked])
    for definition, shape in checked:
        if definition is None:
            _complain(shape)
        elif not json:
            output.print_line(f"{shape['file']}: {definition.title} is valid")
        _tell_warnings(shape)
    return exit_status.OK if all(shape["valid"] for _, shape in checked) else exit_status.FAILED


def deploy(target: session.Target, files: Sequence[str], *, json: bool) -> int:
    """Validate all files first; register them only when all are valid."""
    checked = [_check(file) for file in files]
    broken = [shape for definition, shape in checked if definition is None]
    if broken:
        for shape in broken:
            _complain(shape)
        if len(files) > len(broken):
            output.note("nothing was deployed: mend these first")
        return exit_status.FAILED
    valid = [(shape["file"], found) for found, shape in checked if found is not None]
    done = session.run(target, lambda client: _register(client, valid))
    for shape in done:
        _tell_deployed(shape, json)
        _tell_warnings(shape)
    if json:
        output.print_json(done)
    return (
        exit_status.FAILED
        if any(shape["result"] == "conflict" for shape in done)
        else exit_status.OK
    )


def definitions(target: session.Target, *, json: bool) -> int:
    """All registered versions."""

    async def work(client: Client) -> tuple[list[RegisteredDefinition], list[Pending]]:
        return await client.definitions(), await client.schedules()

    found, pending = session.run(target, work)
    due = {(one.namespace, one.name): one.due_ms for one in pending}
    if json:
        output.print_json([json_documents.definition(definition) for definition in found])
    elif not found:
        output.note("no definition is registered yet: `wf deploy FILE`")
    else:
        from wf.cli import render

        output.print_rich(render.definitions_table(found, due))
    return exit_status.OK


def schedules(target: session.Target, *, json: bool) -> int:
    """When which workflow starts by itself."""
    found = session.run(target, lambda client: client.schedules())
    if json:
        output.print_json([json_documents.schedule(one) for one in found])
    elif not found:
        output.note("no workflow is waiting to start by itself (one with `after` waits for an end)")
    else:
        from wf.cli import render

        output.print_rich(render.schedules_table(found, time.time_ns() // 1_000_000))
    return exit_status.OK


def _check(file: str) -> tuple[RegisteredDefinition | None, JsonObject]:
    shape: JsonObject = {"file": file, "valid": False, "problems": [], "warnings": []}
    try:
        definition = parse_definition(Path(file))
    except DefinitionError as error:
        return None, {**shape, "problems": error.problems, "details": _parts(error.details)}
    except OSError as error:
        problem = f"cannot read it: {error.strerror or error}"
        return None, {**shape, "problems": [problem], "details": []}
    names = {
        "namespace": definition.namespace,
        "name": definition.name,
        "version": definition.version,
    }
    warnings = [str(warning) for warning in definition.warnings]
    return definition, {**shape, "valid": True, **names, "warnings": warnings}


def _parts(problems: Sequence[Problem]) -> list[JsonObject]:
    """Problems for programs; line and column are 0 where the source has none."""
    return [
        {"line": one.line, "column": one.column, "pointer": one.pointer, "problem": one.sentence}
        for one in problems
    ]


def _warn(found: RegisteredDefinition | None, shape: JsonObject, known: Collection[str]) -> None:
    if found is not None:
        warnings = (*found.warnings, *unannounced(found.calls, known))
        shape["warnings"] = [str(warning) for warning in warnings]


def _tell_warnings(shape: JsonObject) -> None:
    for warning in shape["warnings"]:
        output.note(f"warning: {warning}")


async def _register(
    client: Client, valid: Sequence[tuple[str, RegisteredDefinition]]
) -> list[JsonObject]:
    done: list[JsonObject] = []
    known = await announced(client.port)
    for file, found in valid:
        shape: JsonObject = {
            "file": file,
            "namespace": found.namespace,
            "name": found.name,
            "version": found.version,
        }
        try:
            shape["result"] = await registry.register(client.port, found)
        except DefinitionConflict as error:
            shape["result"] = "conflict"
            shape["error"] = str(error)
        _warn(found, shape, known)
        done.append(shape)
    return done


def _tell_deployed(shape: JsonObject, json: bool) -> None:
    if shape["result"] == "conflict":
        output.complain(f"{shape['file']}: {shape['error']}")
    elif not json:
        name = registry.title(shape["namespace"], shape["name"], shape["version"])
        output.print_line(f"{shape['result']}: {name}")


def _complain(shape: JsonObject) -> None:
    for problem in shape["problems"]:
        prefix = "" if shape["file"] in problem else f"{shape['file']}: "
        output.complain(prefix + problem)
