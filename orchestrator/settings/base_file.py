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
MERGED_IN_SWEEP = ("space", "conditions")
EXPECTED = "the name of a shipped experiment, or a .yaml file, relative to this one"


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
    origins = {
        key: base.origins.get(key, str(base_path))
        for key in _keys(base.data)
        if not _given(own, key)
    }
    data = _merged(_with_absolute_plugins(base.data, base_path.parent), own)
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


def _keys(data: Any) -> list[str]:
    """The dotted keys of all settings, those of `sweep.space` and `sweep.conditions` one by one."""
    keys = []
    for name, value in data.items():
        if not isinstance(value, dict):
            keys.append(name)
            continue
        for key, inner in value.items():
            if name == "sweep" and key in MERGED_IN_SWEEP and isinstance(inner, dict):
                keys += [f"sweep.{key}.{each}" for each in inner]
            else:
                keys.append(f"{name}.{key}")
    return keys


def _given(own: Mapping[str, Any], key: str) -> bool:
    """Whether a file gives a setting itself, or replaces what holds it."""
    name, _, rest = key.partition(".")
    if name not in own:
        return False
    value = own[name]
    if not rest or not isinstance(value, dict):
        return True
    field_name, _, inner = rest.partition(".")
    if not (name == "sweep" and field_name in MERGED_IN_SWEEP and inner):
        return rest in value
    within = value.get(field_name, {})
    return not isinstance(within, dict) or inner in within


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in own.items():
        if name == plugins.KEY and isinstance(value, list) and isinstance(base.get(name), list):
            merged[name] = [*base[name], *(each for each in value if each not in base[name])]
        elif isinstance(value, dict) and isinstance(base.get(name), dict):
            merged[name] = _merged_block(name, base[name], value)
        else:
            merged[name] = value
    return merged


def _merged_block(block: str, base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **own}
    for name in MERGED_IN_SWEEP if block == "sweep" else ():
        if isinstance(base.get(name), dict) and isinstance(own.get(name), dict):
            both = {**base[name], **own[name]}
            removed = {
                key for key, value in own[name].items() if value is None and key in base[name]
            }
            merged[name] = {key: value for key, value in both.items() if key not in removed}
    return merged
