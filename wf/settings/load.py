"""Load the settings: defaults < pool.toml < WF_… environment < command line."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from wf.errors import ConfigError
from wf.settings import checks
from wf.settings.models import (
    BuiltinSettings,
    NatsSettings,
    OrchestratorSettings,
    PoolSettings,
    SecretsSettings,
    Settings,
    SupervisorSettings,
)
from wf.settings.problems import explain, located
from wf.settings.sources import (
    Key,
    Layer,
    Tree,
    environment_layer,
    override_layer,
    toml_layer,
)

SEARCHED = ("pool.toml", "config/pool.toml", "/etc/wf-supervisor/pool.toml")


class _Document(BaseSettings):
    """pool.toml as a whole, [workers] taken apart into defaults and pools."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    activities_dir: Path = Path("activities")
    workflows_dir: Path = Path("workflows")
    supervisor: SupervisorSettings = SupervisorSettings()
    nats: NatsSettings = NatsSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    builtin: BuiltinSettings = BuiltinSettings()
    secrets: SecretsSettings = SecretsSettings()
    worker_defaults: PoolSettings = PoolSettings()
    pools: dict[str, PoolSettings] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _split_workers(cls, data: Tree) -> Tree:
        rest = {key: value for key, value in data.items() if key != "workers"}
        if "workers" not in data:
            return rest
        defaults, pools = split_workers(data["workers"])
        inherited = _without(defaults, ("activities",))
        merged = {name: _merge(inherited, table) for name, table in pools.items()}
        return {**rest, "worker_defaults": defaults, "pools": merged}


def split_workers(workers: Any) -> tuple[Any, dict[str, Tree]]:
    """(defaults, pools): tables of [workers] whose name is no key of a pool are pools."""
    if not isinstance(workers, dict):
        return workers, {}
    pools = {
        name: table
        for name, table in workers.items()
        if isinstance(table, dict) and name not in PoolSettings.model_fields
    }
    return {key: value for key, value in workers.items() if key not in pools}, pools


def load(
    path: Path | None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read, merge and check the settings.

    `path` is None where there is no file: defaults, and the current directory as the base of
    relative paths. `overrides` have dotted keys, {"nats.port": 0}; None in them means unset.
    Raises ConfigError with every problem at once.
    """
    base = Path(path) if path is not None else Path("pool.toml")
    toml = toml_layer(base) if path is not None else Layer({}, "defaults")
    _, tables = split_workers(toml.tree.get("workers", {}))
    environment, problems = environment_layer(environ, list(tables))
    layers = [override_layer(overrides or {}), environment, toml]

    document, errors = _validate(layers)
    problems += _explained(errors, layers)
    broken = {_written_key(error["loc"], layers) for error in errors}
    if document is None:
        document, _ = _validate([_pruned(layer, broken) for layer in layers])
    if document is not None:
        document = _resolved(document, Path(os.path.abspath(base)).parent, layers)
        for keys, message in _findings(document, layers):
            if broken.isdisjoint(keys):
                problems.append(located(layers, keys[0], message))
    if problems or document is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _settings(document, Path(os.path.abspath(base)), layers)


def find_config(
    argument: str | Path | None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Path:
    """The pool.toml to use: `--config`, WF_CONFIG, then the usual places.

    `directory` stands for the current one. Raises ConfigError that lists where it looked.
    """
    root = directory or Path()
    for origin, named in (("--config", argument), ("WF_CONFIG", environ.get("WF_CONFIG"))):
        if not named:
            continue
        path = root / named
        if path.is_dir():
            raise ConfigError([f"{origin}: {named} is a directory: name the file, pool.toml"])
        if not path.is_file():
            raise ConfigError([f"{origin}: there is no file {named}"])
        return path
    for place in SEARCHED:
        if (root / place).is_file():
            return root / place
    places = ", ".join(place if place.startswith("/") else f"./{place}" for place in SEARCHED)
    raise ConfigError(
        [
            f"no pool.toml found: looked at --config and WF_CONFIG (not given), {places}."
            " `wf-supervisor init DIR` writes one"
        ]
    )


def _validate(layers: Sequence[Layer]) -> tuple[_Document | None, list[Any]]:
    class Document(_Document):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, layer.tree) for layer in layers)

    try:
        return Document(), []
    except ValidationError as error:
        return None, list(error.errors())


def _explained(errors: Sequence[Any], layers: Sequence[Layer]) -> list[str]:
    keyed = [(_written_key(error["loc"], layers), error) for error in errors]
    return [located(layers, key, explain(error, key)) for key, error in keyed]


def _written_key(location: Sequence[str | int], layers: Sequence[Layer]) -> Key:
    """The key as pool.toml spells it: a pool's inherited value is one of [workers]."""
    parts = tuple(str(part) for part in location if not isinstance(part, int))
    if parts[0] == "worker_defaults":
        return ("workers", *parts[1:])
    if parts[0] != "pools":
        return parts
    return _stated_key(layers, parts[1], *parts[2:])


def _stated_key(layers: Sequence[Layer], pool: str, *key: str) -> Key:
    own = ("workers", pool, *key)
    shared = ("workers", *key)
    held = any(layer.holds(own) for layer in layers)
    return own if held or not any(layer.holds(shared) for layer in layers) else shared


def _pruned(layer: Layer, broken: set[Key]) -> Layer:
    """The layer without what is already reported, so that the rest can be checked too."""
    tree = layer.tree
    for key in broken:
        tree = _without(tree, key)
    return Layer(tree, layer.label, layer.places)


def _without(tree: Tree, key: Key) -> Tree:
    if not isinstance(tree, dict) or key[0] not in tree:
        return tree
    rest = {name: value for name, value in tree.items() if name != key[0]}
    return rest if len(key) == 1 else {**rest, key[0]: _without(tree[key[0]], key[1:])}


def _merge(base: Any, table: Tree) -> Tree:
    """`table` over `base`, key by key, tables inside included."""
    merged = copy.copy(base) if isinstance(base, dict) else {}
    for key, value in table.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = _merge(inner, value) if both else value
    return merged


def _stated(layers: Sequence[Layer], key: Key) -> bool:
    return any(layer.holds(key) for layer in layers)


def _resolved(document: _Document, base: Path, layers: Sequence[Layer]) -> _Document:
    """Absolute paths, and the defaults that follow from other settings."""

    def absolute(path: Path | None) -> Path | None:
        return path and Path(os.path.abspath(base / os.path.expanduser(path)))

    state_dir = absolute(document.supervisor.state_dir)
    files = ("credentials", "nkey", "tls_ca", "tls_cert", "tls_key")
    nats: dict[str, Any] = {name: absolute(getattr(document.nats, name)) for name in files}
    if _stated(layers, ("nats", "store_dir")):
        nats["store_dir"] = absolute(document.nats.store_dir)
    elif state_dir is not None:
        nats["store_dir"] = state_dir / "jetstream"
    if document.nats.servers and not _stated(layers, ("nats", "embedded")):
        nats["embedded"] = False
    http = document.builtin.http
    http = http.model_copy(update={"ca": absolute(http.ca)})
    return document.model_copy(
        update={
            "activities_dir": absolute(document.activities_dir),
            "workflows_dir": absolute(document.workflows_dir),
            "supervisor": document.supervisor.model_copy(update={"state_dir": state_dir}),
            "nats": document.nats.model_copy(update=nats),
            "builtin": document.builtin.model_copy(update={"http": http}),
            "secrets": SecretsSettings(dir=absolute(document.secrets.dir)),
        }
    )


def _findings(document: _Document, layers: Sequence[Layer]) -> Iterator[checks.Finding]:
    stated = _stated(layers, ("nats", "embedded"))
    yield from checks.check_nats(document.nats, embedded_stated=stated)
    if document.nats.servers:
        yield from checks.check_files(document.nats)
    ack_waits: dict[Key, float] = {("workers", "ack_wait"): document.worker_defaults.ack_wait}
    for name, pool in document.pools.items():
        ack_waits[_stated_key(layers, name, "ack_wait")] = pool.ack_wait
    yield from checks.check_retention(document.orchestrator, ack_waits)
    if _stated(layers, ("workers", "activities")):
        message = "`activities` belongs in the table of a pool, such as [workers.mail]"
        yield (("workers", "activities"),), message
    longest = document.orchestrator.limits.retry_delay
    yield from checks.check_pool(document.worker_defaults, lambda *key: ("workers", *key), longest)
    for name, pool in document.pools.items():
        where = _key_finder(layers, name)
        yield from checks.check_pool(pool, where, longest)
    yield from checks.check_pools(document.pools)


def _key_finder(layers: Sequence[Layer], pool: str) -> Callable[..., Key]:
    return lambda *key: _stated_key(layers, pool, *key)


def _settings(document: _Document, path: Path, layers: Sequence[Layer]) -> Settings:
    own = {
        name: {key for key in PoolSettings.model_fields if _stated(layers, ("workers", name, key))}
        for name in document.pools
    }
    pools = {
        name: PoolSettings.model_construct(_fields_set=own[name], **dict(pool))
        for name, pool in document.pools.items()
    }
    return Settings.model_construct(
        path=path,
        activities_dir=document.activities_dir,
        workflows_dir=document.workflows_dir,
        supervisor=document.supervisor,
        nats=document.nats,
        orchestrator=document.orchestrator,
        builtin=document.builtin,
        secrets=document.secrets,
        worker_defaults=document.worker_defaults,
        pools=pools,
    )
