"""An experiment file as a checked value: `load`, `parse`, `override`.

A faulty file is refused before anything starts, and all its faults are reported at once. No heavy
module is imported here, so a refusal takes a fraction of a second."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as File
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.fields import plugins
from orchestrator.fields.addresses import not_text
from orchestrator.fields.elements import element, element_problem
from orchestrator.fields.faults import ConfigError, Fault, describe, unknown_key
from orchestrator.fields.kind import FAMILIES, without_foreign
from orchestrator.fields.messages import translate
from orchestrator.fields.options import setting
from orchestrator.fields.schema import inner_block, leaves
from orchestrator.settings import base_file, written, yaml_reader
from orchestrator.settings.base_file import Written
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules import broken
from orchestrator.settings.space import left_out, names_kind, space_faults, with_values

# Placeholders for required settings that are missing or wrong, so that the rules about the other
# settings can still be checked.
STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    **{
        f"{block}.{family.key}": family.names()[0]
        for block, family in FAMILIES.items()
        if family.default is None
    },
}
STAND_IN_SPACE = {"seed": {"grid": [0]}}
NO_BASE = Written({})


def minimal(name: str) -> dict[str, Any]:
    """The settings of the smallest experiment with this `name`: the first kind of each block that
    requires one."""
    return with_values({}, {**STAND_INS, "name": name})


def load(path: str | File, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment in the file `path` with the `overrides` (`a.b=value`) applied; raises
    ConfigError with all faults."""
    values = []
    origins = []
    faults = []
    for text in overrides:
        try:
            key, value = assignment(text, setting(text))
        except ConfigError as error:
            faults += error.faults
            continue
        values.append((key, value))
        origins.append((key, setting(text)))
    try:
        file = base_file.read(path)
    except ConfigError as error:
        raise ConfigError([*error.faults, *faults]) from None
    folder = File(path).absolute().parent
    return _checked(file.data, str(path), values, origins, faults, True, folder, file=file)


def build(settings: Mapping[str, Any], values: Mapping[str, Any]) -> Experiment:
    """The experiment in `settings`, written by a user as a file in this folder would have them, with
    the dotted keys `values`; raises ConfigError with all faults."""
    origins = [(key, setting(f"{key}={describe(value)}")) for key, value in values.items()]
    file = base_file.of(settings, "experiment", File())
    return _checked(
        file.data, "experiment", list(values.items()), origins, (), True, File(), file=file
    )


def parse(
    data: Any, source: str = "experiment", kept: Mapping[str, str] | None = None
) -> Experiment:
    """The experiment in `data`, a mapping as YAML returns it; raises ConfigError with all faults,
    each with this `source`. `kept`: sources, by name, that replace the files of plugins."""
    return _checked(data, source, folder=File(), kept=kept)


def override(
    experiment: Experiment,
    values: Mapping[str, Any],
    origin: Callable[[str], str] = "override {}".format,
) -> Experiment:
    """`experiment` with other values for dotted keys; raises ConfigError whose source is `origin` of
    `key=value`."""
    origins = [(key, origin(f"{key}={describe(value)}")) for key, value in values.items()]
    return _checked(
        experiment.model_dump(mode="json"), experiment.name, list(values.items()), origins
    )


def examine(data: Any) -> tuple[Experiment, list[Fault]]:
    """The experiment in `data` and its faults, without sources.

    If there are faults, the experiment has defaults in place of the faulty settings and must not be
    run."""
    faults: list[Fault] = []
    try:
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        faults = translate(error, Experiment, data)
        sound = _sound_part(data, {fault.key for fault in faults})
        try:
            experiment = Experiment.model_validate(sound)
        except ValidationError:  # a kind needs settings that nothing can stand in for
            raise ConfigError(faults) from None
    faults += broken(experiment, {fault.key for fault in faults})
    return experiment, faults + space_faults(experiment)


def _checked(
    data: Any,
    source: str,
    values: Iterable[tuple[str, Any]] = (),
    origins: Iterable[tuple[str, str]] = (),
    faults: Iterable[Fault] = (),
    typed: bool = False,
    folder: File | None = None,
    kept: Mapping[str, str] | None = None,
    file: Written = NO_BASE,
) -> Experiment:
    """The experiment in `data` with `values` set; `origins` gives the source of each dotted key.
    `typed`: `data` was written by a user and not by this project. `folder`: where its plugins are
    searched; None: they are imported already. `kept`: sources that replace files of plugins. `file`:
    what of `data` comes from a base."""
    all_faults = list(faults)
    sources = dict(origins)  # if a key is set twice, the last value applies
    values = list(values)
    if isinstance(data, dict) and plugins.KEY in sources:
        data = {**data, plugins.KEY: dict(values)[plugins.KEY]}
    # before keys are checked: some may be those of plugins
    plugin_faults: list[Fault] = []
    if folder is not None or plugins.KEY in sources:
        data, plugin_faults = _with_plugins(data, folder or File(), kept)
    places = {**sources, **{k: v for k, v in file.origins.items() if k not in sources}}
    if plugin_faults:  # a missing plugin may cause all other faults
        raise ConfigError([_from(fault, source, places) for fault in plugin_faults])
    values = [(key, value) for key, value in values if key != plugins.KEY]
    data, ignored = base_file.without_foreign_keys(data, file.origins)
    dropped = [Fault("", "", line) for line in ignored]  # may explain faults, and is none itself
    ignored += left_out(data, dict(values))
    for key, value in sorted(values, key=lambda item: not names_kind(item[0])):
        problem = _key_problem(key, data)
        if problem is not None:
            all_faults.append(Fault(sources[key], key, problem))
        elif isinstance(data, dict):
            data = with_values(data, {key: value})
    place_faults: list[Fault] = []
    if typed:
        data, place_faults = written.settled(data)
    data = written.with_hash(data, place_faults)
    try:
        experiment, value_faults = examine(data)
    except ConfigError as error:
        found = [*place_faults, *error.faults]
        raise ConfigError([_from(fault, source, places) for fault in found] + dropped) from None
    reported = {fault.key for fault in place_faults}
    # each key is reported once
    value_faults = [fault for fault in value_faults if fault.key not in reported]
    all_faults += [_from(fault, source, places) for fault in (*place_faults, *value_faults)]
    if all_faults:
        raise ConfigError(all_faults + dropped)
    if typed:
        experiment._left_out = tuple(ignored)
        experiment._bases = file.bases
    return experiment


def _with_plugins(
    data: Any, folder: File, kept: Mapping[str, str] | None
) -> tuple[Any, list[Fault]]:
    """Import the plugins of `data`, searching `folder`. Returns `data`, in which a plugin that is a
    file now has its absolute path, and the faults of the plugins."""
    names = data.get(plugins.KEY) if isinstance(data, dict) else None
    if isinstance(names, str):
        what = f"got {describe(names)}, expected a list: write [{names}]"
        return data, [Fault("", plugins.KEY, what)]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return data, plugins.load((), folder)[1]  # validation reports other values as faults
    lasting, faults = plugins.load(names, folder, kept)
    if faults or not names:
        return data, faults
    return {**data, plugins.KEY: lasting}, []


def _from(fault: Fault, source: str, sources: Mapping[str, str]) -> Fault:
    """The fault with its source: the override of its key, else the override of a setting that its
    rule reads, else `source`."""
    for key in (fault.key, *fault.involves):
        for name, origin in sources.items():
            if key == name or key.startswith(f"{name}."):
                return Fault(origin, fault.key, fault.message, fault.involves, fault.pairing)
    return Fault(source, fault.key, fault.message, fault.involves, fault.pairing)


def assignment(text: str, source: str) -> tuple[str, Any]:
    """The key and the value of `a.b=value`, the value parsed as YAML; raises ConfigError with this
    `source`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([Fault(source, "", "expected KEY=VALUE such as path.damping=5.0")])
    if not value.strip():
        raise ConfigError(
            [Fault(source, key.strip(), "the value is missing: write null for no value")]
        )
    if value.lstrip().startswith("#"):  # a colour, which YAML would read as a comment
        return key.strip(), value.strip()
    if problem := not_text(text):
        raise ConfigError([Fault(source, key.strip(), problem)])
    return key.strip(), yaml_reader.load_text(value, source)


def _key_problem(key: str, data: Any) -> str | None:
    if (where := element(key)) is not None:
        return element_problem(data, where)  # validation reports a setting that it does not have
    settings = leaves(Experiment)
    blocks = list(Experiment.model_fields)
    if key in settings or key in blocks or key.startswith("sweep.space."):
        return None
    block, _, field = key.partition(".")
    siblings = [name.removeprefix(f"{block}.") for name in settings if name.startswith(f"{block}.")]
    if field and siblings:
        return unknown_key(field, siblings, settings)
    return unknown_key(key, blocks, settings)


def _sound_part(data: Any, bad: set[str]) -> dict[str, Any]:
    """The known and valid settings of `data`, with placeholders for required ones."""
    sound = _keep(Experiment, data, bad) if isinstance(data, dict) else {}
    if sound.get("sweep") is not None and not sound["sweep"].get("space"):
        sound["sweep"]["space"] = STAND_IN_SPACE
    missing = {key: value for key, value in STAND_INS.items() if not _has(sound, key)}
    return with_values(sound, missing)


def _keep(
    model: type[BaseModel], part: Mapping[str, Any], bad: set[str], prefix: str = ""
) -> dict[str, Any]:
    """The keys of `part` that `model` has and that are not in `bad`."""
    settings: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = prefix + name
        if name not in part or key in bad:
            continue
        value = part[name]
        block = inner_block(field)
        if name in FAMILIES and isinstance(value, dict):
            family = FAMILIES[name]
            if family.chosen(value) is None:  # then the other keys cannot be checked
                value = {family.key: family.names()[0]}
            block = family.chosen(value)
            value = without_foreign(value, name)[0]
        if block is not None and isinstance(value, dict):
            value = _keep(block, value, bad, f"{key}.")
        elif key == "sweep.space":
            value = {k: v for k, v in value.items() if f"{key}.{k}" not in bad}
        settings[name] = value
    return settings


def _has(data: Mapping[str, Any], key: str) -> bool:
    block, _, field = key.partition(".")
    return block in data and (not field or field in data[block])
