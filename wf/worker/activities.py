"""The user's modules, imported in the worker process."""

from __future__ import annotations

from collections.abc import Sequence

from wf.authoring.activity import ActivityDefinition
from wf.authoring.module_loading import clashes, load
from wf.errors import ConfigError


def load_definitions(modules: Sequence[str], wanted: Sequence[str]) -> list[ActivityDefinition]:
    """The activities `wanted` (all that are found if empty) of the modules at these paths.

    Raises ConfigError for names that are missing or provided twice, and whatever a module raises.
    """
    found = [definition for path in dict.fromkeys(modules) for definition in load(path)]
    names = {definition.name for definition in found}
    chosen = [d for d in found if not wanted or d.name in wanted]
    problems = clashes((d.name, f"{d.path}:{d.line}") for d in chosen)
    problems += [
        f"activity {name!r} is not provided by {', '.join(modules) or 'any module'}:"
        f" found {', '.join(sorted(names)) or 'no activity'}"
        for name in sorted(set(wanted) - names)
    ]
    if not chosen and not problems:
        problems.append(
            f"{', '.join(modules) or 'no module'}: no activity found: mark functions with @activity"
        )
    if problems:
        raise ConfigError(problems)
    return chosen
