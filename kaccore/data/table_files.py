"""Which Arrow or Parquet files form a data set, as Hugging Face's `datasets` keeps it on disk: splits,
shards and the folder of `save_to_disk`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kaccore.data.endings import SPLITS, is_visible, list_text

ENDINGS = (".arrow", ".parquet")
# the Hub's older names end in a hash: train-00000-of-00002-38cc4fa96c139e86
SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")


def shards(root: Path, split: str | None) -> list[Path]:
    """The table files under `root` in their order; empty if there are none.

    Raises ValueError if there are several splits and none is chosen, or the chosen one is missing,
    FileNotFoundError for a missing shard."""
    if root.is_file():
        _check_no_split(root, None if split == _split_of(root, root.parent) else split)
        return [root]
    splits = root / "dataset_dict.json"
    if splits.is_file():
        names = read_json(splits).get("splits", [])
        return _saved_dataset(root / _choose_split(root, names, split))
    if (root / "state.json").is_file() or any(root.glob("*.arrow")):
        _check_no_split(root, split)
        return _saved_dataset(root)
    by_split = _parquet_files(root)
    if not by_split:
        return []
    if "" in by_split and len(by_split) > 1 and split is None:
        named, unnamed = sorted(by_split.keys() - {""}), by_split[""][0].relative_to(root)
        raise ValueError(
            f"{root} has the splits {list_text(named)} and {unnamed}, whose name has no split: set `split`, or move it"
        )
    files = by_split[_choose_split(root, sorted(by_split), split)]
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise ValueError(
            f"{root} has several sets of files, in {list_text(folders)}: give one of these folders as root"
        )
    _check_complete(files)
    return files


def _parquet_files(root: Path) -> dict[str, list[Path]]:
    """The visible Parquet files under `root` by their splits; "" if a name has none."""
    by_split: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*.parquet")):
        if all(map(is_visible, file.relative_to(root).parts)):
            by_split.setdefault(_split_of(file, root), []).append(file)
    return by_split


def _saved_dataset(folder: Path) -> list[Path]:
    """The Arrow files that `save_to_disk` wrote."""
    state = read_json(folder / "state.json") if (folder / "state.json").is_file() else {}
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ValueError(
            f"{folder} is a selection of rows: call flatten_indices, then save_to_disk again"
        )
    named = [folder / Path(entry["filename"]).name for entry in state.get("_data_files") or []]
    files = named or sorted(folder.glob("*.arrow"))
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}")
    if not files:
        raise FileNotFoundError(f"there is no .arrow file in {folder}")
    return files


def _check_no_split(root: Path, split: str | None) -> None:
    if split is not None:
        raise ValueError(f"there is no split {split} in {root}, which has none")


def _choose_split(root: Path, names: list[str], split: str | None) -> str:
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise ValueError(f"{root} has the splits {list_text(names)}: set `split` to the wanted one")
    if split not in names:
        raise ValueError(
            f"there is no split {split} in {root}, which has {list_text(names) or 'none'}"
        )
    return split


def _split_of(file: Path, root: Path) -> str:
    """The split in a Parquet file's name, or else in its folder's: that of a shard, or a known word
    at the beginning or end of the name. The name of `root` itself, which is arbitrary, must equal
    the word. Empty if there is none."""
    if shard := SHARD.fullmatch(file.stem):
        return shard["split"]
    name, folder = file.stem.lower(), file.parent.name.lower()
    words = re.split(r"[-_.]", name)
    folder_words = [folder] if file.parent == root else re.split(r"[-_.]", folder)
    candidates = (words[-1], words[0], folder_words[-1], folder_words[0])
    return next((word for word in candidates if word in SPLITS), "")


def _check_complete(files: list[Path]) -> None:
    """Raise if the shards among `files` are of several sets, or if one is missing."""
    matches = [SHARD.fullmatch(file.stem) for file in files]
    numbered = [match for match in matches if match]
    if not numbered:
        return
    counts = {shard["count"] for shard in numbered}
    numbers = {int(shard["number"]) for shard in numbered}
    if len(counts) > 1 or len(numbers) < len(files):
        names = list_text([file.name for file in files])
        raise ValueError(
            f"{files[0].parent} has shards of several sets, {names}: move the other sets elsewhere"
        )
    first = numbered[0]
    missing = sorted(set(range(int(first["count"]))) - numbers)
    if missing:
        lost = [f"{first['split']}-{number:05d}-of-{first['count']}" for number in missing]
        raise FileNotFoundError(f"there is no {list_text(lost)} in {files[0].parent}")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty for another value. Raises ValueError if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"cannot read {file} ({error})") from error
    return content if isinstance(content, dict) else {}
