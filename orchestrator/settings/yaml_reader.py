"""Reads a YAML file (or a value) into plain dicts, lists and scalars, and says exactly where it
cannot.

YAML 1.1 reads some texts in ways nobody means: 010 is eight, 1:30 is ninety. Those are refused
here, dates stay text, and what is left (`2e-4` is text, `no` is false) the fields' types catch."""

import codecs
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.fields.faults import ConfigError, Fault, describe

MAX_BYTES = 1_000_000  # a file of settings has a few kilobytes
MAX_NODES = (
    50_000  # with every alias written out: nine lines of aliases can stand for a billion values
)
MAX_DEPTH = 50

UTF_16 = (
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
)  # that of UTF-32 begins with the same bytes, or a zero
CORE = "tag:yaml.org,2002:"
PLAIN_TAGS = {
    CORE + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
}
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
OCTAL = re.compile(r"[-+]?0[0-7_]+")


class Loader(yaml.SafeLoader):
    """SafeLoader without dates and without the `=` scalar; a scalar that does not fit its tag is a
    YAML error."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the name and the type are PyYAML's)
        start: [
            (tag, pattern)
            for tag, pattern in pairs
            if tag not in (CORE + "timestamp", CORE + "value")
        ]
        for start, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError):  # `!!int abc`, `!!bool maybe`, `0x_`
            name = node.tag.removeprefix(CORE)
            problem = f"cannot read {describe(node.value)} as {name}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def read(path: str | Path) -> dict[str, Any]:
    """The mapping in the file `path`; raises ConfigError that says what is wrong and where."""
    source = str(path)
    data = load_text(_text(Path(path), source), source)
    if data is None:
        raise _error(source, "the file is empty, expected settings such as name: and data:")
    if not isinstance(data, dict):
        raise _error(
            source, f"the top level is {describe(data)}, expected a mapping such as name: my-run"
        )
    return data


def load_text(text: str, source: str) -> Any:
    """The one YAML document in `text`, None where there is none; faults are named after
    `source`."""
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        faults = list(_faults(node))
        if faults:
            raise ConfigError(Fault(source, "", message) for message in faults)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _error(source, _explain(error, text)) from None
    except RecursionError:
        raise _error(source, f"nested deeper than {MAX_DEPTH} levels") from None
    finally:
        if loader is not None:
            loader.dispose()


def _text(path: Path, source: str) -> str:
    try:
        found = path.stat()
        regular = stat.S_ISREG(found.st_mode)
        raw = path.read_bytes() if regular and found.st_size <= MAX_BYTES else None
    except FileNotFoundError:
        raise _error(source, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise _error(source, f"cannot be read: {reason}") from None
    if stat.S_ISDIR(found.st_mode):
        raise _error(source, "this is a directory, expected a YAML file")
    if not regular:  # a pipe or a device may never end
        raise _error(source, "this is not a regular file, expected a YAML file")
    if raw is None:
        raise _error(source, f"larger than {MAX_BYTES} bytes, expected a file of settings")
    if (
        raw.startswith(UTF_16) or b"\0" in raw[:2]
    ):  # without a mark every other byte of plain text is zero
        raise _error(
            source, "UTF-16 text, as Windows writes it, expected UTF-8: save the file as UTF-8"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise _error(
            source, f"line {line}: not UTF-8 text ({byte}), save the file as UTF-8"
        ) from None


def _error(source: str, message: str) -> ConfigError:
    return ConfigError([Fault(source, "", message)])


def _explain(error: yaml.YAMLError, text: str) -> str:
    """A PyYAML error with line and column, counted from 1."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: character U+{int(error.character):04X} is not allowed in YAML"
    if not isinstance(error, yaml.MarkedYAMLError):
        return str(error)
    problem = ", ".join(part for part in (error.problem, error.context) if part)
    if error.context == "expected a single document in the stream":
        problem = "a second document starts here, expected one document in a file"
    elif "cannot start any token" in problem and "\\t" in problem:
        problem = (
            "a tab, indent with spaces"
            if _indents(text, error.problem_mark)
            else "a tab, write a space"
        )
    mark = error.problem_mark or error.context_mark
    return f"{_place(mark)}: {problem}" if mark else problem


def _indents(text: str, mark: yaml.Mark | None) -> bool:
    """Whether nothing but blanks is before `mark` in its line."""
    return mark is None or not text[: mark.index].rpartition("\n")[2].strip()


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _faults(root: Node) -> Iterator[str]:
    """What is wrong in the tree before anything is built from it; stops at a tree that must not be
    walked on."""
    too_large = _unbounded(root)
    if too_large:
        yield too_large
        return
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias: told about once
            continue
        seen.add(id(node))
        if node.tag not in PLAIN_TAGS:
            tag = node.tag.replace(CORE, "!!")
            yield f"{_place(node.start_mark)}: the tag {tag} is not allowed, expected plain YAML values"
        if isinstance(node, ScalarNode):
            yield from _misread_number(node)
        if isinstance(node, MappingNode):
            yield from _key_faults(node)
        waiting.extend(reversed(_children(node)))


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _unbounded(root: Node) -> str | None:
    """Why the tree has no usable size: an alias inside its own anchor, too deep, or too many values
    when expanded."""
    measured: dict[int, tuple[int, int]] = {}  # of each node seen: how many values, how many levels
    open_nodes: set[int] = set()

    def measure(node: Node, depth: int) -> tuple[int, int]:
        place = _place(node.start_mark)
        if id(node) in open_nodes:
            raise ValueError(f"{place}: an anchor that contains itself")
        if depth > MAX_DEPTH:  # said here, before Python's own limit
            raise ValueError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        if id(node) not in measured:
            open_nodes.add(id(node))
            inner = [measure(child, depth + 1) for child in _children(node)]
            measured[id(node)] = (
                1 + sum(size for size, _ in inner),
                1 + max((levels for _, levels in inner), default=0),
            )
            open_nodes.discard(id(node))
        size, levels = measured[id(node)]
        if size > MAX_NODES:
            raise ValueError(
                f"{place}: more than {MAX_NODES} values once its aliases are written out"
            )
        if depth + levels > MAX_DEPTH + 1:  # through aliases
            raise ValueError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        return size, levels

    try:
        measure(root, 0)
    except ValueError as error:
        return str(error)
    return None


def _misread_number(node: ScalarNode) -> Iterator[str]:
    if node.style is not None or node.tag not in (CORE + "int", CORE + "float"):
        return
    text, place = node.value, _place(node.start_mark)
    if SEXAGESIMAL.fullmatch(text):
        yield f'{place}: YAML 1.1 reads {text} in base 60, write the number out or "{text}" for text'
    elif OCTAL.fullmatch(text) and text.strip("+-0_"):
        yield f'{place}: YAML 1.1 reads {text} in base 8, write {_decimal(text)} or "{text}" for text'


def _decimal(text: str) -> str:
    """An octal-looking text as its writer most likely meant it."""
    return ("-" if text[0] == "-" else "") + text.replace("_", "").lstrip("+-0")


def _key_faults(node: MappingNode) -> Iterator[str]:
    first: dict[str, Node] = {}
    for key, _ in node.value:
        place = _place(key.start_mark)
        if key.tag == CORE + "merge":
            name = "<<"
        elif isinstance(key, ScalarNode) and key.tag == CORE + "str":
            name = key.value
        else:
            shown = (
                f"{key.value} ({key.tag.removeprefix(CORE)})" if isinstance(key, ScalarNode) else ""
            )
            yield f"{place}: the key {shown or 'made of a list or mapping'} is not text, put quotes around it"
            continue
        if name in first:
            yield f"{place}: duplicate key {describe(name)}, first given at {_place(first[name].start_mark)}"
        first.setdefault(name, key)
