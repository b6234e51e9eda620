"""Plugins: modules outside this project that add kinds of paths, distillers, networks, data sets and
feature extractors.

An experiment lists them in `plugins`; installed packages declare theirs in the entry-point group
`kacflow.plugins`. Importing a plugin runs its code. The keys of its results contain the hash of its
source. The source of a single-file plugin is sent to the processes that need it; a module or a
package must be installed, with the same source, on every node."""

import hashlib
import importlib
import linecache
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from orchestrator.fields.faults import Fault, describe

GROUP = "kacflow.plugins"
KEY = "plugins"
FILE_MODULE = "kacflow_plugin_"  # prefix of the modules of single-file plugins
DIGITS = 12  # digits of a hash in keys and in messages
ORIGIN = "raised in the plugin "  # prefix of a note on an error


@dataclass(frozen=True)
class Plugin:
    """An imported plugin: its `name` in the experiment or the package, the `module` that defines its
    kinds, the sha256 of its source (hexadecimal), and its `file`. `source`: the text of a
    single-file plugin, else empty."""

    name: str
    module: str
    sha256: str
    file: str
    source: str = field(default="", repr=False)

    @property
    def package(self) -> str:
        """The name of its top-level module."""
        return top_level(self.module)

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:DIGITS]}, {self.file})"

    @property
    def content(self) -> dict[str, str]:
        """The part of its hash that enters the keys of its results."""
        return {"plugin": self.sha256[:DIGITS]}

    def imported(self) -> types.ModuleType:
        """Its module, imported in this process. Raises ValueError if this process finds another
        source, ImportError if it finds none."""
        if self.module in sys.modules and loaded(self.module) == self:
            return sys.modules[self.module]
        if self.source:
            return _executed(self)
        here = _installed(self.name)
        if here.sha256 != self.sha256:
            raise ValueError(
                f"plugin {self.name}: {here.file} has the sha256 {here.sha256[:DIGITS]} on this "
                f"node, expected {self.sha256[:DIGITS]}: install the same version on every node"
            )
        return _imported(here)


OWN_PACKAGES = ("orchestrator", "kaccore")
_WITH_KINDS: set[str] = set()  # the first parts of the names of modules that define kinds
_LOADED: dict[str, Plugin] = {}  # by top-level module name


def top_level(module: str) -> str:
    """The name of the top-level package or module that contains the module of this name."""
    return module.partition(".")[0]


def loaded(module: str) -> Plugin | None:
    """The plugin that contains this module; None if it belongs to no plugin."""
    return _LOADED.get(top_level(module))


def note_origin(error: BaseException) -> None:
    """Add to `error` a note of the line of a plugin that raised it, or that called what raised it. An
    error keeps its notes in another process, its traceback it does not."""
    where = ""
    trace = error.__traceback__
    while trace is not None:
        plugin = loaded(trace.tb_frame.f_globals.get("__name__") or "")
        if plugin is not None:
            file = trace.tb_frame.f_code.co_filename
            where = f"{file}, line {trace.tb_lineno}, in {trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    if where and not origin(error):
        error.add_note(f"{ORIGIN}{where}")


def origin(error: BaseException) -> str:
    """The note of `note_origin`; empty if no code of a plugin was running."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note for note in notes if note.startswith(ORIGIN)), "")


def load(
    names: Iterable[str], folder: Path, kept: Mapping[str, str] | None = None
) -> tuple[list[str], list[Fault]]:
    """Import the plugins that an experiment in `folder` lists as `names`, and those of installed
    packages. `kept`: sources, by name, that are used in place of the files.

    Returns the names with which any other folder finds the same plugins, a file's absolute path,
    and a fault, without a source, for each that cannot be imported."""
    lasting = []
    faults = []
    for name in names:
        try:
            plugin = resolved(name, folder, kept)
            _check_kinds(plugin)
            lasting.append(plugin.file if plugin.source else name)
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            faults.append(Fault("", KEY, f"got {describe(name)}: {_reason(error)}"))
    return lasting, [*faults, *_package_faults()]


def _check_kinds(plugin: Plugin) -> None:
    """Import `plugin`; raises ValueError if it adds nothing, or is this project itself."""
    if plugin.package in OWN_PACKAGES:
        raise ValueError("this project is no plugin of itself, expected a module of your own")
    plugin.imported()
    if plugin.package not in _WITH_KINDS:
        raise ValueError("it adds no kind: decorate its class, as in @PathKind.family.register")


def adds_kind(module: str) -> None:
    """Note that a class of the module of this name was registered as a kind."""
    _WITH_KINDS.add(top_level(module))


def resolved(name: str, folder: Path, kept: Mapping[str, str] | None = None) -> Plugin:
    """The plugin that an experiment in `folder` lists as `name`: the path of a .py file, the name of
    a .py file in `folder`, or an importable module; `kept`: sources that replace files. Nothing is
    executed. Raises ImportError, with the remedy, if there is none."""
    if kept is not None and name in kept:
        return _of_file(Path(name), kept[name])
    path = folder / name if name.endswith(".py") else None
    beside = folder / f"{name}.py"
    if path is None and beside.is_file():
        path = beside
    if path is None:
        return _installed(name)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImportError(f"cannot read {path} ({reason}): give the path of a .py file") from None
    return _of_file(path, source)


def _of_file(path: Path, source: str) -> Plugin:
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    module = f"{FILE_MODULE}{path.stem}_{sha256[:DIGITS]}"
    return Plugin(path.name, module, sha256, str(path.resolve()), source)


def all_loaded() -> list[Plugin]:
    """The plugins that this process has imported."""
    return list(_LOADED.values())


def problem(plugin: Plugin) -> str:
    """Why this process cannot import `plugin`; empty if it can."""
    try:
        plugin.imported()
    except (Exception, SystemExit) as error:
        return _reason(error)
    return ""


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _installed(name: str) -> Plugin:
    """The importable module called `name`. Its hash covers all .py files of its top-level package,
    since modules that it imports may change its results too."""
    top = top_level(name)
    spec = find_spec(top) if _importable(name) else None
    if spec is None:
        raise ImportError(
            f"there is no module of this name, and no file {name}.py next to the experiment: install "
            "it, correct the name, or give the path of a .py file"
        )
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files = files or ([Path(spec.origin)] if spec.origin else [])
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return Plugin(name, name, digest.hexdigest(), str(files[0]) if files else top)


def _imported(plugin: Plugin) -> types.ModuleType:
    _LOADED[plugin.package] = plugin
    try:
        return importlib.import_module(plugin.module)
    except BaseException as error:
        note_origin(error)
        _LOADED.pop(plugin.package)
        raise


def _executed(plugin: Plugin) -> types.ModuleType:
    """The module of a single-file plugin, executed from its source."""
    module = types.ModuleType(plugin.module)
    module.__file__ = plugin.file
    lines = plugin.source.splitlines(keepends=True)
    # lets tracebacks show source lines on nodes without the file
    linecache.cache[plugin.file] = (len(plugin.source), None, lines, plugin.file)
    sys.modules[plugin.module] = module
    _LOADED[plugin.module] = plugin
    try:
        exec(compile(plugin.source, plugin.file, "exec"), module.__dict__)
    except BaseException as error:
        note_origin(error)
        sys.modules.pop(plugin.module)
        _LOADED.pop(plugin.module)
        raise
    return module


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _package_faults() -> Iterable[Fault]:
    """Import the plugins of installed packages; a fault for each that cannot be imported."""
    for entry in _entry_points():
        try:
            _installed(entry.module).imported()
        except (Exception, SystemExit) as error:
            package = entry.dist.name if entry.dist is not None else entry.module
            what = f"the plugin {entry.name} of the installed package {package}: {_reason(error)}"
            yield Fault("", KEY, f"{what}: repair or uninstall {package}")


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else "no reason given"
    if isinstance(error, ImportError | ValueError) and type(error) in (ImportError, ValueError):
        return first
    where = f" ({origin(error)})" if origin(error) else ""
    return f"importing it raised {type(error).__name__}: {first}{where}"
