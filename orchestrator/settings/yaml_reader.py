"""Reads a YAML file (or a value) into plain dicts, lists and scalars; an error names its line and
column.

YAML 1.1 reads some texts in unexpected ways: 010 is eight, 1:30 is ninety. These are refused here,
and dates stay text. The types of the fields catch the rest (`2e-4` is text, `no` is false)."""

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
# with all aliases expanded: nine lines of aliases can expand to a billion values
MAX_NODES = 50_000
MAX_DEPTH = 50

# the mark of UTF-32 starts with the same bytes, or with a zero
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
CORE = "tag:yaml.org,2002:"
PLAIN_TAGS = {
    CORE + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
}
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
OCTAL = re.compile(r"[-+]?0[0-7_]+")


class Loader(yaml.SafeLoader):
    """SafeLoader without dates and without the `=` scalar; a scalar that does not match its tag is
    a YAML error."""

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
    """The mapping in the file `path`; raises ConfigError with the fault and its position."""
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
    """The single YAML document in `text`, None if it is empty; faults have this `source`."""
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
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        raw = path.read_bytes() if regular and status.st_size <= MAX_BYTES else None
    except FileNotFoundError:
        raise _error(source, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise _error(source, f"cannot be read: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        raise _error(source, "this is a directory, expected a YAML file")
    if not regular:  # a pipe or a device may never end
        raise _error(source, "this is not a regular file, expected a YAML file")
    if raw is None:
        raise _error(source, f"larger than {MAX_BYTES} bytes, expected a file of settings")
    # without a mark every other byte of plain UTF-16 text is zero
    if raw.startswith(UTF_16) or b"\0" in raw[:2]:
        raise _error(
            source, "UTF-16 text, as Windows writes it, expected UTF-8: save the file as UTF-8"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        message = f"line {line}: not UTF-8 text ({byte}), save the file as UTF-8"
        raise _error(source, message) from None


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
        if _indents(text, error.problem_mark):
            problem = "a tab, indent with spaces"
        else:
            problem = "a tab, write a space"
    mark = error.problem_mark or error.context_mark
    return f"{_place(mark)}: {problem}" if mark else problem


def _indents(text: str, mark: yaml.Mark | None) -> bool:
    """Whether only blanks precede `mark` in its line."""
    return mark is None or not text[: mark.index].rpartition("\n")[2].strip()


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _faults(root: Node) -> Iterator[str]:
    """The faults of the tree, before values are built from it. A tree that is too large is not
    traversed."""
    too_large = _unbounded(root)
    if too_large:
        yield too_large
        return
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias: report its faults once
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
    """Why the tree is too large: an anchor that contains itself, too many levels, or too many values
    once expanded; None if its size is fine."""
    measured: dict[int, tuple[int, int]] = {}  # by the node's id: number of values, of levels
    open_nodes: set[int] = set()

    def measure(node: Node, depth: int) -> tuple[int, int]:
        place = _place(node.start_mark)
        if id(node) in open_nodes:
            raise ValueError(f"{place}: an anchor that contains itself")
        if depth > MAX_DEPTH:  # checked before Python's own recursion limit
            raise ValueError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        if id(node) not in measured:
            open_nodes.add(id(node))
            inner = [measure(child, depth + 1) for child in _children(node)]
            values = 1 + sum(size for size, _ in inner)
            depth_below = 1 + max((levels for _, levels in inner), default=0)
            measured[id(node)] = (values, depth_below)
            open_nodes.discard(id(node))
        size, levels = measured[id(node)]
        if size > MAX_NODES:
            raise ValueError(f"{place}: more than {MAX_NODES} values once its aliases are expanded")
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
        yield f'{place}: YAML 1.1 reads {text} in base 60, write a decimal number, or "{text}" for text'
    elif OCTAL.fullmatch(text) and text.strip("+-0_"):
        yield f'{place}: YAML 1.1 reads {text} in base 8, write {_decimal(text)} or "{text}" for text'


def _decimal(text: str) -> str:
    """Text that looks octal, as the decimal number that its author most likely meant."""
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
            shown = "made of a list or mapping"
            if isinstance(key, ScalarNode):
                shown = f"{key.value} ({key.tag.removeprefix(CORE)})"
            yield f"{place}: the key {shown} is not text, put quotes around it"
            continue
        if name in first:
            yield f"{place}: duplicate key {describe(name)}, first given at {_place(first[name].start_mark)}"
        first.setdefault(name, key)
