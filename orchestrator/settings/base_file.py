"""A file that builds on another: `base: nfe_sweep` takes all settings of that file but those that
this one gives.

Blocks are merged key by key, and so are `sweep.space` and `sweep.conditions`, where null removes a
key. Other values replace those of the base. Plugins are added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.fields import plugins
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.kind import FAMILIES, without_foreign
from orchestrator.settings import shipped, yaml_reader

KEY = "base"
ENDINGS = (".yaml", ".yml")
MERGED_IN_SWEEP = (("sweep", "space"), ("sweep", "conditions"))
EXPECTED = "the name of a shipped experiment, or a .yaml file, relative to this one"


Keys = tuple[str, ...]  # from a block to a value in it


@dataclass(frozen=True)
class Written:
    """What a file and its bases say together.

    `origins`: by dotted key, the base that gives the value. `bases`: their files, the nearest
    first."""

    data: Any
    origins: Mapping[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()


def read(path: str | Path) -> Written:
    """The settings of the file `path` and of its bases; raises ConfigError with the fault."""
    return _read(str(path), [])


def of(settings: Mapping[str, Any], source: str, folder: Path) -> Written:
    """What `settings`, as a file in `folder` would have them, and their bases say; raises ConfigError
    with this `source`."""
    return _on_base(dict(settings), source, folder, [])


def without_foreign_keys(data: Any, origins: Mapping[str, str]) -> tuple[Any, list[str]]:
    """`data` without the keys of a base (see `Written.origins`) that the kinds in `data` do not have,
    and a message for each kind about them. All plugins must be imported."""
    lines: list[str] = []
    if not isinstance(data, dict):
        return data, lines
    kept = dict(data)
    for block, family in FAMILIES.items():
        settings = data.get(block)
        if not isinstance(settings, dict):
            continue
        _, foreign = without_foreign(settings, block)
        removed = [name for name in foreign if f"{block}.{name}" in origins]
        if not removed:
            continue
        kept[block] = {name: value for name, value in settings.items() if name not in removed}
        keys = ", ".join(f"{block}.{name}" for name in removed)
        base = origins[f"{block}.{removed[0]}"]
        kind = describe(settings.get(family.key, family.default))
        lines.append(f"left out {keys} of {base}: {block}.{family.key} {kind} has no such key")
    return kept, lines


def _read(source: str, above: list[Path]) -> Written:
    """`above`: the files that build on this one."""
    path = Path(source)
    return _on_base(yaml_reader.read(path), source, path.parent, [*above, path.resolve()])


def _on_base(own: dict[str, Any], source: str, folder: Path, chain: list[Path]) -> Written:
    """The settings `own` of a file in `folder`, the last of `chain`, and of its bases."""
    if KEY not in own:
        return Written(own)
    base_path = _file_of(own.pop(KEY), source, folder)
    if base_path.resolve() in chain:
        circle = " -> ".join(each.name for each in (*chain, base_path))
        raise ConfigError([Fault(source, KEY, f"a circle of files: {circle}")])
    base = _read(str(base_path), chain)
    data, inherited = _merged(_with_absolute_plugins(base.data, base_path.parent), own)
    keys = (".".join(map(str, path)) for path in inherited)
    origins = {key: base.origins.get(key, str(base_path)) for key in keys}
    return Written(data, origins, (str(base_path), *base.bases))


def _file_of(name: Any, source: str, folder: Path) -> Path:
    """The file that `base` names; raises ConfigError if there is none."""
    if not isinstance(name, str) or not name:
        raise ConfigError([Fault(source, KEY, f"got {describe(name)}, expected {EXPECTED}")])
    if name.endswith(ENDINGS):
        path = folder / Path(name).expanduser()
        if not path.exists():
            problem = f"got {describe(name)}, but there is no file {path}"
            raise ConfigError([Fault(source, KEY, problem)])
        return path
    found = shipped.file_of(name)
    if found is None:
        choices = shipped.choices(name)
        problem = f"got {describe(name)}, expected {EXPECTED}; shipped are {choices}"
        raise ConfigError([Fault(source, KEY, problem)])
    return found


def _with_absolute_plugins(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`data` whose plugins can be found from another folder."""
    names = data.get(plugins.KEY)
    if not isinstance(names, list):
        return data
    found = [
        str((folder / name).resolve()) if isinstance(name, str) and name.endswith(".py") else name
        for name in names
    ]
    return {**data, plugins.KEY: found}


def _flat(data: Mapping[str, Any]) -> dict[Keys, Any]:
    """Every value by the keys that lead to it: of a block (block, key), and of what is merged in
    `sweep` also the keys there. An empty mapping is a value, too."""
    flat: dict[Keys, Any] = {}

    def add(path: Keys, value: Any) -> None:
        opened = len(path) == 1 or path in MERGED_IN_SWEEP
        if opened and isinstance(value, dict) and value:
            for key, inner in value.items():
                add((*path, key), inner)
        else:
            flat[path] = value

    for key, value in data.items():
        add((key,), value)
    return flat


def _nested(flat: Mapping[Keys, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    data: dict[str, Any] = {}
    for path, value in flat.items():
        block = data
        for key in path[:-1]:
            block = block.setdefault(key, {})
        block[path[-1]] = value
    return data


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[Keys]]:
    """`own` on `base`, and the keys whose values are those of the base."""
    flat, given = _flat(base), _flat(own)
    inherited = dict.fromkeys(flat)
    for path, value in given.items():
        within = [other for other in flat if other != path and other[: len(path)] == path]
        if value == {} and isinstance(value, dict) and within:
            continue  # a mapping that adds nothing
        around = [path[:length] for length in range(1, len(path)) if path[:length] in flat]
        for other in (*within, *around):
            del flat[other]
        if path == (plugins.KEY,) and isinstance(value, list) and isinstance(flat.get(path), list):
            value = [*flat[path], *(each for each in value if each not in flat[path])]
        if value is None and path[:-1] in MERGED_IN_SWEEP and path in flat:
            del flat[path]
            if not any(other[:-1] == path[:-1] for other in flat):
                flat[path[:-1]] = {}
        else:
            flat[path] = value
        for other in (path, *within, *around):
            inherited.pop(other, None)
    return _nested(flat), list(inherited)
