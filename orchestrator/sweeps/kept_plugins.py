"""The sources of a sweep's single-file plugins, kept in its folder: a sweep is read with the code that
made it, also when the file has changed or is gone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.fields import plugins
from orchestrator.settings.experiment import Experiment
from orchestrator.store import layout
from orchestrator.store.place import Place


def write(folder: Place, experiment: Experiment) -> None:
    """Write the sources to the sweep's `folder`."""
    used = {plugin.file: plugin.source for plugin in experiment.used_plugins()}
    for number, name in enumerate(experiment.plugins):
        source = used.get(name) or plugins.resolved(name, Path()).source
        if source:
            (folder / layout.PLUGINS).mkdir(exist_ok=True)
            _file(folder, number, name).put(source.encode())


def read(folder: Place, settings: Any) -> Mapping[str, str]:
    """The sources in the sweep's `folder` by the names that its `settings` list; without those that
    an earlier version did not keep."""
    names = settings.get(plugins.KEY) if isinstance(settings, dict) else None
    kept = {}
    for number, name in enumerate(names if isinstance(names, list) else ()):
        file = _file(folder, number, str(name))
        if file.exists():
            kept[name] = file.read_text()
    return kept


def _file(folder: Place, number: int, name: str) -> Place:
    return folder / layout.PLUGINS / f"{number}_{Path(name).name}"
