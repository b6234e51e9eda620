"""Images in Arrow or Parquet tables of Hugging Face's `datasets`, read by pyarrow.

A row has an image file's bytes, in a column `{bytes, path}` or of bytes alone, and its label. The
schema's metadata name these columns and the classes."""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaccore.data.class_names import number_labels
from kaccore.data.endings import list_text
from kaccore.data.table_files import read_json
from kaccore.data.undecoded import UndecodedImages

IMAGES, LABELS = ("image", "img", "images"), ("label", "labels")
MEASURED = 32  # images, all in the first part of the first file
ROWS = 64  # of an Arrow file in memory at a time


class Schema(NamedTuple):
    """The columns of images and of labels, if there is one; the class names, if they are known."""

    image: str
    label: str | None
    names: list[str] | None
    notes: tuple[str, ...]


def find(root: Path, files: list[Path]) -> UndecodedImages:
    """The images in the table `files`. Raises ValueError if they have none or are damaged."""
    try:
        rows = Rows(root, files)
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise ValueError(f"cannot read {files[0]} or its shards ({error})") from error
    labels, class_names, notes = _numbered_labels(rows, str(root))
    return UndecodedImages(
        len(rows),
        rows.image,
        rows.place,
        labels,
        class_names,
        Counter({files[0].suffix.lower(): len(rows)}),
        Counter(),
        (*rows.schema.notes, *notes),
        range(min(MEASURED, len(rows))),
    )


def _numbered_labels(rows: Rows, where: str) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Labels as numbers or None, the class names, and notes."""
    if rows.schema.label is None:
        return None, (), ()
    values = _read_labels(rows, where)
    if values is None:
        return None, (), (f"warning: no labels: those of {rows.schema.label} are all unknown",)
    return number_labels(values, rows.schema.names, len(rows), where)


def companion_files(root: Path, files: list[Path]) -> list[Path]:
    """The other files that the tables' images and classes come from: the files named by rows
    without bytes, existing or not, and `dataset_info.json`. Raises ValueError as `find` does."""
    folder = root if root.is_dir() else root.parent
    companions = set[Path]()
    for file in files:
        info = file.with_name("dataset_info.json")
        if info.is_file():
            companions.add(info)
        try:
            names = _referenced(file)
        except pa.ArrowException as error:
            raise ValueError(f"cannot read {file} ({error})") from error
        paths = [_inside(folder, name) for name in names]
        companions |= {path for path in paths if path is not None}
    return sorted(companions)


def _referenced(file: Path) -> set[str]:
    """The paths in a file's rows without bytes. Of Parquet only the column of paths is read, and
    only for row groups whose statistics do not rule out missing bytes."""
    table = _open_table(file)
    schema = table.schema if isinstance(table, pa.Table) else table.schema_arrow
    image = _columns(schema, file).image
    kind = schema.field(image).type
    if "path" not in _field_names(kind):
        return set()
    if isinstance(table, pa.Table):
        chunks = [chunk for chunk in table.column(image).chunks if chunk.field("bytes").null_count]
        paths = [chunk.field("path").filter(chunk.field("bytes").is_null()) for chunk in chunks]
    else:
        groups = range(table.num_row_groups)
        wanted = [k for k in groups if _bytes_missing(table.metadata.row_group(k), image)]
        if not wanted:
            return set()
        column = table.read_row_groups(wanted, columns=[f"{image}.path"]).column(image)
        paths = [chunk.field("path") for chunk in column.chunks]
    return {path for part in paths for path in part.to_pylist() if path is not None}


def _field_names(kind: Any) -> set[str]:
    """The names of a struct's fields; empty for another type."""
    if not pa.types.is_struct(kind):
        return set()
    return {kind.field(i).name for i in range(kind.num_fields)}


def _bytes_missing(group: Any, image: str) -> bool:
    """Whether a row group may have rows without bytes, by its statistics."""
    statistics = None
    for i in range(group.num_columns):
        if group.column(i).path_in_schema == f"{image}.bytes":
            statistics = group.column(i).statistics
            break
    return statistics is None or not statistics.has_null_count or statistics.null_count > 0


def _inside(root: Path, path: str) -> Path | None:
    """The real file of a row's path; None if it is not in `root`."""
    inside = Path(os.path.realpath(root / path))
    return inside if inside.is_relative_to(os.path.realpath(root)) else None


def holds_images(file: Path) -> bool:
    """Whether a Parquet file is a table of images, by its schema; False if it cannot be read."""
    try:
        _columns(pq.read_schema(file), file)
    except (ValueError, OSError, pa.ArrowException):
        return False
    return True


class Rows:
    """The rows of several files as one sequence; one part of one file is in memory at a time."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root if root.is_dir() else root.parent, files
        self.tables = [_open_table(file) for file in files]
        schemas = [_schema_of(table) for table in self.tables]
        self.schema = _columns(schemas[0], files[0])
        for schema, file in zip(schemas[1:], files[1:], strict=True):
            _check_alike((schemas[0], files[0]), (schema, file))
        self.parts: list[tuple[int, int, int]] = []  # (file, part, rows)
        for k, table in enumerate(self.tables):
            self.parts += [(k, part, rows) for part, rows in _parts(table)]
        self.ends = [0, *accumulate(rows for _, _, rows in self.parts)]
        if not self.ends[-1]:
            raise ValueError(f"{root} has no rows")
        self.loaded: tuple[int, Any] = (-1, None)  # the number of a part, and its images

    def __len__(self) -> int:
        return self.ends[-1]

    def image(self, index: int) -> io.BytesIO:
        """The content of the image file in a row. Raises ValueError if it is missing."""
        number = bisect_right(self.ends, index) - 1
        if self.loaded[0] != number:
            self.loaded = number, self._read(number, self.schema.image)
        value = self.loaded[1][index - self.ends[number]].as_py()
        content, path = value, None
        if isinstance(value, dict):
            content, path = value.get("bytes"), value.get("path")
        if content is None and path is not None:
            inside = _inside(self.root, path)
            if inside is None or not inside.is_file():
                raise ValueError(f"its image is the file {path}, which is not in {self.root}")
            content = inside.read_bytes()
        if content is None:
            raise ValueError("the image is missing")
        return io.BytesIO(content)

    def place(self, index: int) -> str:
        """The file of a row and its number in it, for messages."""
        number = bisect_right(self.ends, index) - 1
        file = self.parts[number][0]
        first = next(self.ends[k] for k, part in enumerate(self.parts) if part[0] == file)
        return f"row {index - first} of {self.files[file]}"

    def column(self, name: str) -> Any:
        """All values of a column."""
        parts = [self._read(k, name) for k in range(len(self.parts))]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def _read(self, number: int, name: str) -> Any:
        file, part, rows = self.parts[number]
        table = self.tables[file]
        if isinstance(table, pa.Table):
            return table.column(name).slice(part, rows)
        return table.read_row_group(part, columns=[name]).column(name)


def _open_table(file: Path) -> Any:
    if file.suffix.lower() == ".parquet":
        return pq.ParquetFile(file)
    mapped = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _parts(table: Any) -> list[tuple[int, int]]:
    """The parts of a table: (row group, rows) of Parquet, (first row, rows) of Arrow."""
    if isinstance(table, pa.Table):
        return [(first, min(ROWS, len(table) - first)) for first in range(0, len(table), ROWS)]
    return [(k, table.metadata.row_group(k).num_rows) for k in range(table.num_row_groups)]


def _schema_of(table: Any) -> Any:
    return table.schema if isinstance(table, pa.Table) else table.schema_arrow


def _columns(schema: Any, file: Path) -> Schema:
    """The columns of images and labels. Raises ValueError if no column has images."""
    features = _features(schema, file)
    images = []
    for name in schema.names:
        if _holds_images(name, schema.field(name).type, features.get(name)):
            images.append(name)
    if not images:
        has = list_text([f"{field.name} ({field.type})" for field in schema])
        raise ValueError(
            f"{file} has the columns {has}, expected one called image of {{bytes, path}}"
        )
    image = next((name for name in IMAGES if name in images), images[0])
    class_columns = [name for name in schema.names if _type_of(features.get(name)) == "ClassLabel"]
    label = next((name for name in LABELS if name in schema.names), None)
    if label is None and len(class_columns) == 1:
        label = class_columns[0]
    notes = []
    if len(images) > 1:
        notes.append(f"warning: images of the column {image}, of {list_text(images)}")
    if label is None and class_columns:
        notes.append(f"warning: no labels: which of {list_text(class_columns)}?")
    names = None if label is None else (features.get(label) or {}).get("names")
    return Schema(image, label, names, tuple(notes))


def _type_of(feature: dict[str, Any] | None) -> Any:
    return (feature or {}).get("_type")


def _check_alike(one: tuple[Any, Path], other: tuple[Any, Path]) -> None:
    """Raise ValueError unless the images and labels of two files are in columns of the same name,
    type and classes."""
    first, second = _columns(*one), _columns(*other)

    def refuse(column: str, what: str, in_first: object, in_second: object) -> None:
        both = f"{one[1]} has {in_first}, {other[1]} has {in_second}"
        remedy = "write both alike, or move them into separate folders"
        raise ValueError(f"the {what} of the column {column} differ: {both}: {remedy}")

    for column, other_column in ((first.image, second.image), (first.label, second.label)):
        if column != other_column:
            names = [f"the column {c}" if c else "no labels" for c in (column, other_column)]
            refuse(column or str(other_column), "names", *names)
    columns = [first.image, first.label] if first.label else [first.image]
    for column in columns:
        types = [schema.field(column).type for schema, _ in (one, other)]
        if types[0] != types[1]:
            refuse(column, "types", *types)
    if first.names != second.names:
        classes = [list_text(c) if c else "no names" for c in (first.names, second.names)]
        refuse(str(first.label), "class names", *classes)


def _features(schema: Any, file: Path) -> dict[str, Any]:
    """What `datasets` notes about each column, in the schema or in `dataset_info.json`."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    info = file.with_name("dataset_info.json")
    features: Any = {}
    try:
        if metadata:
            features = json.loads(metadata)["info"]["features"]
        elif info.exists():
            features = read_json(info)["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _holds_images(name: str, kind: Any, feature: dict[str, Any] | None) -> bool:
    if (feature or {}).get("_type", "Image") != "Image":
        return False  # audio is {bytes, path}, too
    if "bytes" in _field_names(kind):
        return True
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return binary and (feature is not None or name in IMAGES)


def _read_labels(rows: Rows, where: str) -> Any:
    """The column of labels as an array; None if all are unknown, as in some test sets."""
    column = rows.column(str(rows.schema.label))
    if pa.types.is_nested(column.type):
        got = f"{where} has labels of {column.type} in the column {rows.schema.label}"
        raise ValueError(f"{got}, expected a number or a text for each image")
    values = np.array(column.to_pylist(), object)
    unknown = np.array([value is None or value == -1 for value in values])
    if unknown.all():
        return None
    if unknown.any():
        raise ValueError(
            f"{where} has {int(unknown.sum()):,} rows without a label (null or -1) of {len(values):,}"
        )
    return values if isinstance(values[0], str) else np.array(column.to_pylist())
