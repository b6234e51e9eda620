"""Images in tables, as Hugging Face's `datasets` keeps them on disk: Arrow files, or Parquet
shards; read by pyarrow.

A row is an image file's bytes, in a column `{bytes, path}` or of bytes alone, and its label. Which
columns these are, and the classes' names, stand in the schema's metadata."""

from __future__ import annotations

import io
import json
import os
import re
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaccore.data.class_names import numbered
from kaccore.data.endings import SPLITS, listed, shown
from kaccore.data.found import Found

ENDINGS = (".arrow", ".parquet")
IMAGES, LABELS = ("image", "img", "images"), ("label", "labels")
# the Hub's older names end in a hash: train-00000-of-00002-38cc4fa96c139e86
SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")
MEASURED = 32  # all of them in the first part of the first file
ROWS = 64  # of an Arrow file at once: a large group of rows is many images


class Schema(NamedTuple):
    """The columns of images and, if there is one, of labels; the names of the classes, if they are
    known."""

    image: str
    label: str | None
    names: list[str] | None
    notes: tuple[str, ...]


def shards(root: Path, split: str | None) -> list[Path]:
    """The table files under `root` in their order; none where there are none.

    Raises ValueError where there are several splits and none is wanted, or the wanted one is not
    there, FileNotFoundError for a shard that is missing."""
    if root.is_file():
        _whole(root, None if split == _split(root, root.parent) else split)
        return [root]
    splits = root / "dataset_dict.json"
    if splits.is_file():
        names = _json(splits).get("splits", [])
        return _saved(root / _chosen(root, names, split))
    if (root / "state.json").is_file() or any(root.glob("*.arrow")):
        _whole(root, split)
        return _saved(root)
    files = [
        file
        for file in sorted(root.rglob("*.parquet"))
        if all(map(shown, file.relative_to(root).parts))
    ]
    if not files:
        return []
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split(file, root), []).append(file)
    if "" in by_split and len(by_split) > 1 and split is None:
        named, loose = sorted(by_split.keys() - {""}), by_split[""][0].relative_to(root)
        raise ValueError(
            f"{root} has the splits {listed(named)} and {loose}, whose name says no split: set `split`, or move it"
        )
    taken = by_split[_chosen(root, sorted(by_split), split)]
    folders = sorted({str(file.parent) for file in taken})
    if len(folders) > 1:
        raise ValueError(
            f"{root} has several sets of files, in {listed(folders)}: give one of these folders as root"
        )
    _check_complete(taken)
    return taken


def find(root: Path, files: list[Path]) -> Found:
    """The images in the table `files`. Raises ValueError where they hold none or are damaged."""
    try:
        rows = Rows(root, files)
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise ValueError(f"cannot read {files[0]} or its shards ({error})") from error
    labels: tuple[Any, tuple[str, ...], tuple[str, ...]] = (None, (), ())
    if rows.schema.label is not None:
        values = _labels(rows, str(root))
        if values is None:
            labels = (
                None,
                (),
                (f"warning: no labels: those of {rows.schema.label} are all unknown",),
            )
        else:
            labels = numbered(values, rows.schema.names, len(rows), str(root))
    return Found(
        len(rows),
        rows.image,
        rows.place,
        labels[0],
        labels[1],
        Counter({files[0].suffix.lower(): len(rows)}),
        Counter(),
        (*rows.schema.notes, *labels[2]),
        range(min(MEASURED, len(rows))),
    )


def beside(root: Path, files: list[Path]) -> list[Path]:
    """The files that the tables' images and classes also come from: those that rows without bytes
    name, whether they are there or not, and `dataset_info.json`. Raises ValueError as `find`
    does."""
    folder = root if root.is_dir() else root.parent
    found = {info for file in files if (info := file.with_name("dataset_info.json")).is_file()}
    for file in files:
        try:
            names = _referenced(file)
        except pa.ArrowException as error:
            raise ValueError(f"cannot read {file} ({error})") from error
        found |= {inside for name in names if (inside := _inside(folder, name)) is not None}
    return sorted(found)


def _referenced(file: Path) -> set[str]:
    """The paths in a file's rows without bytes. Of Parquet only the column of paths is read, and
    that only where the file's statistics do not say that all bytes are there."""
    table = _opened(file)
    schema = table.schema if isinstance(table, pa.Table) else table.schema_arrow
    image = _columns(schema, file).image
    kind = schema.field(image).type
    if not pa.types.is_struct(kind) or "path" not in {
        kind.field(i).name for i in range(kind.num_fields)
    }:
        return set()
    if isinstance(table, pa.Table):
        chunks = [chunk for chunk in table.column(image).chunks if chunk.field("bytes").null_count]
        rows = [chunk.field("path").filter(chunk.field("bytes").is_null()) for chunk in chunks]
        return {path for part in rows for path in part.to_pylist() if path is not None}
    wanted = [
        k for k in range(table.num_row_groups) if _bytes_missing(table.metadata.row_group(k), image)
    ]
    if not wanted:
        return set()
    column = table.read_row_groups(wanted, columns=[f"{image}.path"]).column(image)
    return {
        path
        for chunk in column.chunks
        for path in chunk.field("path").to_pylist()
        if path is not None
    }


def _bytes_missing(group: Any, image: str) -> bool:
    columns = (group.column(i) for i in range(group.num_columns))
    statistics = next(
        (each.statistics for each in columns if each.path_in_schema == f"{image}.bytes"), None
    )
    return statistics is None or not statistics.has_null_count or statistics.null_count > 0


def _inside(root: Path, path: str) -> Path | None:
    """The real file of a row's path, or None where that is not in `root`."""
    inside = Path(os.path.realpath(root / path))
    return inside if inside.is_relative_to(os.path.realpath(root)) else None


def holds_images(file: Path) -> bool:
    """Whether a Parquet file is a table of images, as its schema says; False of one that cannot be
    read."""
    try:
        _columns(pq.read_schema(file), file)
    except (ValueError, OSError, pa.ArrowException):
        return False
    return True


class Rows:
    """The rows of several files as one sequence; a part of one file is in memory at a time."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root, self.files = root if root.is_dir() else root.parent, files
        self.tables = [_opened(file) for file in files]
        schemas = [
            table.schema if isinstance(table, pa.Table) else table.schema_arrow
            for table in self.tables
        ]
        self.schema = _columns(schemas[0], files[0])
        for schema, file in zip(schemas[1:], files[1:], strict=True):
            _check_alike((schemas[0], files[0]), (schema, file))
        self.parts = [
            (k, part, rows) for k, table in enumerate(self.tables) for part, rows in _parts(table)
        ]
        self.ends = [0, *accumulate(rows for _, _, rows in self.parts)]
        if not self.ends[-1]:
            raise ValueError(f"{root} has no rows")
        self.held: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self.ends[-1]

    def image(self, index: int) -> io.BytesIO:
        """The content of the image file in a row. Raises ValueError where there is none."""
        number = bisect_right(self.ends, index) - 1
        if self.held[0] != number:
            self.held = number, self._read(number, self.schema.image)
        value = self.held[1][index - self.ends[number]].as_py()
        content, path = (
            (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        )
        if content is None and path is not None:
            inside = _inside(self.root, path)
            if inside is None or not inside.is_file():
                raise ValueError(f"its image is the file {path}, which is not in {self.root}")
            content = inside.read_bytes()
        if content is None:
            raise ValueError("the image is missing")
        return io.BytesIO(content)

    def place(self, index: int) -> str:
        """The file and the number of a row in it."""
        number = bisect_right(self.ends, index) - 1
        file = self.parts[number][0]
        first = next(self.ends[k] for k, part in enumerate(self.parts) if part[0] == file)
        return f"row {index - first} of {self.files[file]}"

    def column(self, name: str) -> Any:
        """All values of a column."""
        return pa.chunked_array(
            chunk for k in range(len(self.parts)) for chunk in self._read(k, name).chunks
        )

    def _read(self, number: int, name: str) -> Any:
        file, part, rows = self.parts[number]
        table = self.tables[file]
        if isinstance(table, pa.Table):
            return table.column(name).slice(part, rows)
        return table.read_row_group(part, columns=[name]).column(name)


def _opened(file: Path) -> Any:
    if file.suffix.lower() == ".parquet":
        return pq.ParquetFile(file)
    mapped = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _parts(table: Any) -> list[tuple[int, int]]:
    """Row groups of a Parquet file, or stretches of rows of an Arrow table: (which, rows)."""
    if isinstance(table, pa.Table):
        return [(first, min(ROWS, len(table) - first)) for first in range(0, len(table), ROWS)]
    return [(k, table.metadata.row_group(k).num_rows) for k in range(table.num_row_groups)]


def _columns(schema: Any, file: Path) -> Schema:
    features = _features(schema, file)
    images = [
        name
        for name in schema.names
        if _holds_images(name, schema.field(name).type, features.get(name))
    ]
    if not images:
        has = listed([f"{field.name} ({field.type})" for field in schema])
        raise ValueError(
            f"{file} has the columns {has}, expected one called image of {{bytes, path}}"
        )
    image = next((name for name in IMAGES if name in images), images[0])
    classes = [
        name for name in schema.names if (features.get(name) or {}).get("_type") == "ClassLabel"
    ]
    label = next(
        (name for name in LABELS if name in schema.names), classes[0] if len(classes) == 1 else None
    )
    names = (features.get(label) or {}).get("names") if label is not None else None
    notes = (
        ()
        if label is not None or not classes
        else (f"warning: no labels: which of {listed(classes)}?",)
    )
    if len(images) > 1:
        notes = (f"warning: images of the column {image}, of {listed(images)}", *notes)
    return Schema(image, label, names, notes)


def _check_alike(one: tuple[Any, Path], other: tuple[Any, Path]) -> None:
    """Raises ValueError where two files' images and labels are not in columns of the same name,
    type and classes."""
    first, second = _columns(*one), _columns(*other)

    def refuse(column: str, what: str, *found: object) -> None:
        here, there = (
            f"{file} has {each}" for (_, file), each in zip((one, other), found, strict=True)
        )
        raise ValueError(
            f"the {what} of the column {column} differ: {here}, {there}: write them alike, or apart"
        )

    for column, there in ((first.image, second.image), (first.label, second.label)):
        if column != there:
            found = [f"the column {name}" if name else "no labels" for name in (column, there)]
            refuse(column or str(there), "names", *found)
    for column in [first.image] + ([first.label] if first.label else []):
        types = [schema.field(column).type for schema, _ in (one, other)]
        if types[0] != types[1]:
            refuse(column, "types", *types)
    if first.names != second.names:
        named = [listed(names) if names else "no names" for names in (first.names, second.names)]
        refuse(str(first.label), "class names", *named)


def _features(schema: Any, file: Path) -> dict[str, Any]:
    """What `datasets` notes on each column, in the schema or in the file beside."""
    noted = (schema.metadata or {}).get(b"huggingface")
    beside = file.with_name("dataset_info.json")
    try:
        found = (
            json.loads(noted)["info"]["features"]
            if noted
            else _json(beside)["features"]
            if beside.exists()
            else {}
        )
    except (ValueError, KeyError, TypeError):
        return {}
    return (
        {name: each for name, each in found.items() if isinstance(each, dict)}
        if isinstance(found, dict)
        else {}
    )


def _holds_images(name: str, kind: Any, feature: dict[str, Any] | None) -> bool:
    if (feature or {}).get("_type", "Image") != "Image":
        return False  # sounds are {bytes, path}, too
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    struct = pa.types.is_struct(kind) and any(
        kind.field(i).name == "bytes" for i in range(kind.num_fields)
    )
    return struct or (binary and (feature is not None or name in IMAGES))


def _labels(rows: Rows, where: str) -> Any:
    """The column of labels as an array; None where all are unknown, as those of a test set are."""
    column = rows.column(str(rows.schema.label))
    if pa.types.is_nested(column.type):
        found = f"{where} has labels of {column.type} in the column {rows.schema.label}"
        raise ValueError(f"{found}, expected a number or a text for each image")
    values = np.array(column.to_pylist(), object)
    unknown = np.array([value is None or value == -1 for value in values])
    if unknown.all():
        return None
    if unknown.any():
        raise ValueError(
            f"{where} has {int(unknown.sum()):,} rows without a label (null or -1) of {len(values):,}"
        )
    return values if isinstance(values[0], str) else np.array(column.to_pylist())


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of what `save_to_disk` wrote."""
    state = _json(folder / "state.json") if (folder / "state.json").is_file() else {}
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ValueError(
            f"{folder} is a selection of rows: save it by save_to_disk after flatten_indices"
        )
    named = [folder / Path(each["filename"]).name for each in state.get("_data_files") or []]
    files = named or sorted(folder.glob("*.arrow"))
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}")
    if not files:
        raise FileNotFoundError(f"there is no .arrow file in {folder}")
    return files


def _whole(root: Path, split: str | None) -> None:
    if split is not None:
        raise ValueError(f"there is no split {split} in {root}, which has none")


def _chosen(root: Path, names: list[str], split: str | None) -> str:
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise ValueError(
            f"{root} has the splits {listed(names)}: set `split` to the one that is wanted"
        )
    if split not in names:
        raise ValueError(
            f"there is no split {split} in {root}, which has {listed(names) or 'none'}"
        )
    return split


def _split(file: Path, root: Path) -> str:
    """The split of a Parquet file by its name, or else by its folder's: that of a shard, or the
    word with which the name begins or ends. The name of `root` itself, which may be any, has to be
    that word."""
    if shard := SHARD.fullmatch(file.stem):
        return shard["split"]
    names = file.stem.lower(), file.parent.name.lower()
    words = [re.split(r"[-_.]", name) for name in names]
    words[1] = [names[1]] if file.parent == root else words[1]
    return next((word for each in words for word in (each[-1], each[0]) if word in SPLITS), "")


def _check_complete(files: list[Path]) -> None:
    found = [shard for file in files if (shard := SHARD.fullmatch(file.stem))]
    if len({shard["count"] for shard in found}) > 1 or 0 < len(
        {shard["number"] for shard in found}
    ) < len(files):
        names = listed([file.name for file in files])
        raise ValueError(
            f"{files[0].parent} has shards of several sets, {names}: move those of the others elsewhere"
        )
    for shard in found[:1]:
        missing = sorted(set(range(int(shard["count"]))) - {int(each["number"]) for each in found})
        if missing:
            lost = [f"{shard['split']}-{number:05d}-of-{shard['count']}" for number in missing]
            raise FileNotFoundError(f"there is no {listed(lost)} in {files[0].parent}")


def _json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"cannot read {file} ({error})") from error
    return read if isinstance(read, dict) else {}
