"""The kinds of a block of the file, ours and those of plugins.

A kind is one class. It holds the settings of the kind, which of them are hashed, its rules, and the
methods that the program calls. A `Family` contains the kinds of one block. The kind that a file
names is looked up during validation, so that kinds of plugins are found."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from orchestrator.fields import plugins, schema
from orchestrator.fields.block import Block
from orchestrator.fields.content import stated
from orchestrator.fields.faults import describe, nearest
from orchestrator.fields.messages import UNKNOWN_KIND
from orchestrator.fields.plugins import Plugin
from orchestrator.fields.rule import Rule, rules_of


class Settings(Block):
    """Settings that a plugin may define: another process imports the plugin before it unpickles
    them."""

    @classmethod
    def plugin(cls) -> Plugin | None:
        """The plugin that defines this class; None for a class of this project."""
        return plugins.loaded(cls.__module__)

    def content(self) -> dict[str, Any]:
        """What is hashed into the keys of results: all settings that have an effect, and the hash of
        the plugin's source."""
        plugin = self.plugin()
        return stated(self.model_dump(mode="json")) | (plugin.content if plugin else {})

    def __reduce__(self) -> Any:
        plugin = self.plugin()
        if plugin is None:
            return super().__reduce__()
        stated = set(self.model_fields_set)
        return _restored, (plugin, type(self).__qualname__, dict(self.__dict__), stated)


def _restored(plugin: Plugin, name: str, values: dict[str, Any], stated: set[str]) -> Settings:
    settings = attrgetter(name)(plugin.imported()).model_construct(stated, **values)
    assert isinstance(settings, Settings)
    return settings


class Kind(Settings):
    """One kind of a block. Its docstring's first line is its meaning in docs/reference.md."""

    family: ClassVar["Family[Any]"]
    is_default: ClassVar[bool] = False  # whether a file that names no kind gets this one
    # a key with which a block that names no kind is of this one
    marked_by: ClassVar[str | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **settings: Any) -> None:
        family = getattr(cls, "family", None)
        if family is not None and family.key in cls.model_fields:
            cls.model_fields[family.key].description = meaning(cls)

    @classmethod
    def name_of(cls) -> str:
        """The name of this kind in a file."""
        field = cls.model_fields.get(cls.family.key)
        names = () if field is None else get_args(field.annotation)
        if len(names) != 1 or not isinstance(names[0], str):
            expected = f'{cls.family.key}: Literal["my_name"] = "my_name"'
            raise ValueError(f"{cls.__name__} has no name of its kind, expected {expected}")
        return names[0]

    @classmethod
    def missing(cls) -> list[str]:
        """What a kind must define and this class does not: methods and attributes."""
        return sorted(getattr(cls, "__abstractmethods__", ()))

    @property
    def called(self) -> str:
        """The name of this kind in a file."""
        return self.name_of()

    def rules(self) -> Iterator[Rule]:
        """The rules between its settings, and with other blocks."""
        return rules_of(self)

    def parts(self) -> Iterable["Kind"]:
        """The kinds that are settings of this one."""
        return ()

    def absolute(self) -> "Kind":
        """A copy whose paths are absolute, valid for processes in other working folders."""
        return self


K = TypeVar("K", bound=Kind)


class Family(Generic[K]):
    """The kinds of the block `block`, by the name that a file has under `key`."""

    def __init__(self, block: str, key: str = "kind") -> None:
        self.block = block
        self.key = key
        self.kinds: dict[str, type[K]] = {}

    def register(self, kind: type[K]) -> type[K]:
        """Add `kind`, as a decorator of its class. Raises ValueError if the name is taken, or if the
        class lacks what a kind must define."""
        if not (isinstance(kind, type) and issubclass(kind, Kind)):
            raise ValueError(f"{kind!r} is no subclass of the kinds of {self.block}")
        name = kind.name_of()
        _check_module(kind)
        existing = self.kinds.get(name)
        if existing is not None and not _replaces(existing, kind):
            raise ValueError(
                f"{self.block}.{self.key} {name} is already defined by {existing.__module__}: "
                "choose another name"
            )
        if missing := kind.missing():
            raise ValueError(
                f"{kind.__name__} lacks {', '.join(missing)}: the docstrings of its base class "
                f"{kind.__mro__[1].__name__} say what it must define"
            )
        self.kinds[name] = kind
        schema.forget()
        return kind

    def __getitem__(self, name: str) -> type[K]:
        return self.kinds[name]

    def __iter__(self) -> Iterator[type[K]]:
        return iter(self.kinds.values())

    def names(self) -> list[str]:
        """The names of all kinds."""
        return list(self.kinds)

    @property
    def default(self) -> str | None:
        """The kind of a file that names none; None: a file must name one."""
        return next((name for name, kind in self.kinds.items() if kind.is_default), None)

    def expected(self) -> str:
        """The admitted names, for a message."""
        return f"one of {', '.join(map(describe, self.kinds))}"

    def expected_block(self) -> str:
        """The expected form of the block, for a message."""
        return f"a mapping with {self.key}, which is {self.expected()}, and the keys of that {self.key}"

    def chosen(self, settings: Any) -> type[K] | None:
        """The kind that a block of the file names; None if it names none that exists."""
        if not isinstance(settings, Mapping):
            return None
        name = settings.get(self.key, self._unnamed(settings))
        return self.kinds.get(name) if isinstance(name, str) else None

    def _unnamed(self, settings: Mapping[str, Any]) -> str | None:
        """The kind of a block that names none."""
        marked = (name for name, kind in self.kinds.items() if kind.marked_by in settings)
        return next(marked, self.default)

    def having(self, field: str) -> list[str]:
        """The names of the kinds that have this setting."""
        return [name for name, kind in self.kinds.items() if field in kind.model_fields]

    def validated(self, value: Any) -> K:
        """`value` as a block of the kind that it names. Raises ValidationError or ValueError."""
        if isinstance(value, Kind):
            return value  # type: ignore[return-value]
        kind = self.chosen(value)
        if kind is not None:
            return kind.model_validate(value)
        if not isinstance(value, Mapping):
            raise ValueError(f"got {describe(value)}, expected {self.expected_block()}")
        raise self._unknown(value)

    def of_content(self, content: Mapping[str, Any]) -> K:
        """The kind that has this `content`."""
        kind = self.kinds[content[self.key]]
        return kind.model_validate({k: v for k, v in content.items() if k != "plugin"})

    def _unknown(self, value: Mapping[str, Any]) -> ValidationError:
        if self.key not in value:
            message = f"missing, expected {self.expected()}"
        else:
            name = value[self.key]
            close = nearest(name, self.names()) if isinstance(name, str) else None
            hint = f"; did you mean {describe(close)}?" if close else ""
            message = f"got {describe(name)}, expected {self.expected()}{hint}"
        error = PydanticCustomError(UNKNOWN_KIND, "{message}", {"message": message})
        details = InitErrorDetails(type=error, loc=(self.key,), input=value.get(self.key))
        return ValidationError.from_exception_data(self.block, [details])


def meaning(kind: type[Kind]) -> str:
    """The meaning of a kind: the first paragraph of its docstring."""
    paragraph = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _check_module(kind: type[Kind]) -> None:
    """Raise ValueError for a kind that neither this project nor a plugin defines: the source of its
    module would be in no key."""
    if kind.plugin() is None and plugins.top_level(kind.__module__) not in plugins.OWN_PACKAGES:
        where = f"{kind.__name__} is defined in the module {kind.__module__}, which is no plugin"
        raise ValueError(f"{where}: list it in plugins, before what imports it")
    plugins.adds_kind(kind.__module__)


def _replaces(existing: type[Kind], kind: type[Kind]) -> bool:
    """Whether `kind` is a new version of `existing`: from the same module or the same plugin."""
    if existing.__module__ == kind.__module__:
        return True
    old = existing.plugin()
    new = kind.plugin()
    return old is not None and new is not None and (old.name, old.file) == (new.name, new.file)


FAMILIES: dict[str, Family[Any]] = {}  # by block


def family(block: str, key: str = "kind") -> Callable[[type[K]], type[K]]:
    """Decorator for the base class of all kinds of `block`; sets its `family`."""

    def decorate(base: type[K]) -> type[K]:
        FAMILIES[block] = base.family = Family(block, key)
        return base

    return decorate


def without_foreign(settings: Mapping[str, Any], block: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of `block` without those that only other kinds have, and the names of the
    removed ones."""
    kinds = FAMILIES[block]
    kind = kinds.chosen(settings)
    if kind is None:
        return dict(settings), []
    foreign = [k for k in settings if k not in kind.model_fields and kinds.having(k)]
    return {k: v for k, v in settings.items() if k not in foreign}, foreign
