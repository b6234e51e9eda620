"""Images in tables, as Hugging Face's `datasets` keeps them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_kinds import saved
from packed_images import FILES, write
from PIL import Image

from kaccore.data import load, look


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "folder", {**FILES, "notes.txt": b"text"})


FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def table(
    files: dict[str, bytes | None], features: dict[str, Any] | None = None, **columns: Any
) -> pa.Table:
    """As `datasets` writes it: the images' bytes, their labels, and what the columns mean."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": content, "path": name} for name, content in files.items()], struct)
    labels = columns.pop("label", [int(name.startswith("dog")) for name in files])
    plain = pa.table({"image": images, **({} if labels is None else {"label": labels}), **columns})
    noted = {
        "huggingface": json.dumps(
            {"info": {"features": FEATURES if features is None else features}}
        )
    }
    return plain.replace_schema_metadata(noted)


def save_arrow(folder: Path, *shards: pa.Table) -> Path:
    """What `Dataset.save_to_disk` leaves."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, shard.schema) as writer,
        ):
            writer.write_table(shard, max_chunksize=2)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names]})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


def save_parquet(folder: Path, split: str, *shards: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, shard in enumerate(shards):
        pq.write_table(
            shard, folder / f"{split}-{i:05d}-of-{len(shards):05d}.parquet", row_group_size=2
        )
    return folder


IN_ORDER = dict(sorted(FILES.items(), key=lambda item: item[0]))
HALVES = [dict(list(IN_ORDER.items())[:2]), dict(list(IN_ORDER.items())[2:])]


@pytest.mark.parametrize(
    "made",
    [
        lambda root: save_arrow(root, *map(table, HALVES)),
        lambda root: save_parquet(root, "train", *map(table, HALVES)),
        lambda root: save_parquet(root / "data", "train", *map(table, HALVES)).parent,
        lambda root: save_parquet(root, "train", table(IN_ORDER)) / "train-00000-of-00001.parquet",
        lambda root: save_arrow(root, table(IN_ORDER)) / "data-00000-of-00001.arrow",
    ],
    ids=["saved to disk", "shards", "in data/", "a Parquet file", "an Arrow file"],
)
def test_a_table_is_the_folder_of_its_images(made, tmp_path, folder):
    root = made(tmp_path / "table")
    kept, plain = load("folder", root, size=16), load("folder", folder, size=16)
    assert torch.equal(kept.images, plain.images) and kept.fingerprint == plain.fingerprint
    assert kept.class_names == ("cat", "dog") and kept.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert kept.notes == ("6 images cropped to the middle square",)
    found = look("folder", root, size=16)
    assert (found.count, found.class_counts, found.sizes) == (6, (3, 3), {(20, 16): 6})


def test_a_file_of_the_newer_arrow_format_is_read_too(tmp_path):
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
        pa.ipc.new_file(file, table(IN_ORDER).schema) as writer,
    ):
        writer.write_table(table(IN_ORDER))
    assert len(load("folder", tmp_path / "x.arrow", size=16)) == 6


def test_a_split_of_a_table_has_to_be_named(tmp_path):
    save_arrow(tmp_path / "saved" / "train", table(IN_ORDER))
    save_arrow(tmp_path / "saved" / "test", table(HALVES[0]))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    save_parquet(tmp_path / "hub" / "data", "train", table(IN_ORDER))
    save_parquet(tmp_path / "hub" / "data", "test", table(HALVES[0]))
    for split, of in (("train", IN_ORDER), ("test", HALVES[0])):
        (tmp_path / "converted" / "default" / split).mkdir(parents=True)
        pq.write_table(table(of), tmp_path / "converted" / "default" / split / "0000.parquet")
    for name in ("saved", "hub", "converted"):
        assert [
            len(load("folder", tmp_path / name, size=16, split=s)) for s in ("train", "test")
        ] == [6, 2]
        with pytest.raises(
            ValueError, match=r"has the splits t\w+, t\w+: set `split` to the wanted"
        ):
            load("folder", tmp_path / name, size=16)
        with pytest.raises(ValueError, match=r"there is no split val in .*, which has t"):
            load("folder", tmp_path / name, size=16, split="val")


@pytest.mark.parametrize(
    "columns, names, note",
    [
        ({"label": ["cat", "dog", "cat"], "features": {}}, ("cat", "dog"), ""),
        ({"label": [0, 1, 1], "features": {}}, ("0", "1"), ""),
        ({"label": None, "features": {}}, (), ""),
        ({"label": [-1, -1, -1]}, (), "warning: no labels: those of label are all unknown"),
        ({"label": None, "fine": [0, 1, 1], "coarse": [0, 0, 0],
          "features": {c: {"names": ["a", "b"], "_type": "ClassLabel"} for c in ("fine", "coarse")}},
         (), "warning: no labels: which of fine, coarse?"),
        ({"label": None, "sort": [0, 1, 1], "features": {"sort": {"names": ["a", "b"], "_type": "ClassLabel"}}},
         ("a", "b"), ""),
    ],
)  # fmt: skip
def test_the_labels_of_a_table_are_those_that_it_names(columns, names, note, tmp_path):
    files = {f"{i}.png": content for i, content in enumerate(list(FILES.values())[:3])}
    pq.write_table(table(files, **columns), tmp_path / "x.parquet")
    data = load("folder", tmp_path / "x.parquet", size=16)
    assert data.class_names == names and note in " ".join(data.notes)


def test_a_row_without_an_image_is_named_and_can_be_skipped(tmp_path):
    files = {
        "cat/1": FILES["cat/1.png"],
        "cat/2": None,
        "/etc/passwd": None,
        "dog/1": FILES["dog/1.png"],
    }
    save_parquet(tmp_path, "train", table(files))
    name = tmp_path / "train-00000-of-00001.parquet"
    with pytest.raises(
        ValueError, match=rf"row 1 of {name} \(.*, row 2 of {name} \(.*/etc/passwd, which is not in"
    ):
        load("folder", tmp_path, size=16)
    assert load("folder", tmp_path, size=16, skip_damaged=True).labels.tolist() == [0, 1]


def test_an_image_beside_its_table_is_read(tmp_path):
    write(tmp_path, {"pictures/1.png": FILES["cat/1.png"]})
    pq.write_table(table({"pictures/1.png": None}), tmp_path / "x.parquet")
    assert len(load("folder", tmp_path / "x.parquet", size=16)) == 1


def test_tables_that_are_incomplete_or_hold_no_images_are_refused(tmp_path):
    save_parquet(tmp_path / "a", "train", *map(table, HALVES))
    (tmp_path / "a" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="there is no train-00001-of-00002 in"):
        load("folder", tmp_path / "a", size=16)
    save_arrow(tmp_path / "b", *map(table, HALVES))
    (tmp_path / "b" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*data-00001-of-00002\.arrow"):
        load("folder", tmp_path / "b", size=16)
    pq.write_table(pa.table({"text": ["a"], "number": [1]}), tmp_path / "c.parquet")
    with pytest.raises(
        ValueError,
        match=r"has the columns text \(string\), number \(int64\), expected one called image",
    ):
        load("folder", tmp_path / "c.parquet", size=16)
    pq.write_table(
        table({"1.png": FILES["cat/1.png"], "2.png": FILES["cat/2.png"]}, label=[0, None]),
        tmp_path / "d.parquet",
    )
    with pytest.raises(ValueError, match="has 1 rows without a label"):
        load("folder", tmp_path / "d.parquet", size=16)
    pq.write_table(table({"1.png": FILES["cat/1.png"]}, {}, label=[[0, 1]]), tmp_path / "f.parquet")
    with pytest.raises(
        ValueError, match=r"has labels of list<.*int64> in the column label, expected a n"
    ):
        load("folder", tmp_path / "f.parquet", size=16)
    (tmp_path / "e.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot read .*e\.parquet"):
        load("folder", tmp_path / "e.parquet", size=16)
    shutil.rmtree(tmp_path / "a")
    save_parquet(tmp_path / "a" / "small", "train", table(IN_ORDER))
    save_parquet(tmp_path / "a" / "large", "train", table(IN_ORDER))
    with pytest.raises(
        ValueError, match=r"several sets of files.*give one of these folders as root"
    ):
        load("folder", tmp_path / "a", size=16)


# names of shards


def test_shards_of_the_older_names_have_splits_and_are_counted(tmp_path):
    pq.write_table(table(HALVES[0]), tmp_path / "train-00000-of-00002-38cc4fa96c139e86.parquet")
    pq.write_table(table(HALVES[1]), tmp_path / "test-00000-of-00001-e3b0c44298fc1c14.parquet")
    with pytest.raises(ValueError, match="has the splits test, train: set `split`"):
        load("folder", tmp_path, size=16)
    with pytest.raises(FileNotFoundError, match="there is no train-00001-of-00002 in"):
        load("folder", tmp_path, size=16, split="train")
    assert len(load("folder", tmp_path, size=16, split="test")) == 4


@pytest.mark.parametrize(
    "train, test",
    [("mnist_train", "mnist_test"), ("train_mnist", "test_mnist"), ("a.train", "a.test"), ("a-train", "test-b"),
     ("x_TRAIN", "Test"), ("partial-train/0000", "partial-test/0000")],
)  # fmt: skip
def test_a_name_that_begins_or_ends_with_a_split_is_of_it(train, test, tmp_path):
    for name, of in ((train, HALVES[0]), (test, HALVES[1])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(table(of), tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="has the splits test, train: set `split`"):
        load("folder", tmp_path, size=16)
    assert [len(load("folder", tmp_path, size=16, split=s)) for s in ("train", "test")] == [2, 4]
    if "/" not in train:
        assert len(load("folder", tmp_path / f"{train}.parquet", size=16, split="train")) == 2


def test_a_file_of_no_split_beside_splits_is_named(tmp_path):
    for name in ("train", "more"):
        pq.write_table(table(HALVES[0]), tmp_path / f"{name}.parquet")
    with pytest.raises(
        ValueError, match=r"has the splits train and more\.parquet, whose name has no split"
    ):
        load("folder", tmp_path, size=16)
    assert len(load("folder", tmp_path, size=16, split="train")) == 2


@pytest.mark.parametrize("other", ["train-00000-of-00001-aa", "train-00000-of-00002", "train_b"])
def test_shards_of_two_sets_in_one_folder_are_refused(other, tmp_path):
    for name in ("train-00000-of-00001-bb", other):
        pq.write_table(table(HALVES[0]), tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=f"has shards of several sets, .*{other}"):
        load("folder", tmp_path, size=16)


# shards that differ

SWAPPED = {**FEATURES, "label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}
RENAMED = {"img": FEATURES["image"], "label": FEATURES["label"]}


@pytest.mark.parametrize(
    "second, message",
    [
        (table(HALVES[1], SWAPPED), r"the class names of the column label differ: {0} has cat, dog, {1} has dog, cat"),
        (table(HALVES[1], {}), r"the class names of the column label differ: {0} has cat, dog, {1} has no names"),
        (table(HALVES[1], label=list("abcd")), r"the types of the column label differ: {0} has int64, {1} has string"),
        (table(HALVES[1], label=None), r"the names of the column label differ: {0} has the column label, {1} has no l"),
        (table(HALVES[1], RENAMED).rename_columns(["img", "label"]),
         r"the names of the column image differ: {0} has the column image, {1} has the column img"),
    ],
    ids=["class names", "no class names", "type", "no labels", "no image"],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_shards_whose_columns_differ_are_refused_by_name(ending, second, message, tmp_path):
    root, shards = tmp_path / "x", (table(HALVES[0]), second)
    if ending == "arrow":
        (save_arrow(root, *shards) / "dataset_info.json").unlink()
    else:
        save_parquet(root, "data", *shards)
    files = [f"{root}/data-{i:05d}-of-00002.{ending}" for i in range(2)]
    with pytest.raises(ValueError, match=message.format(*files)):
        load("folder", root, size=16)


# what a table's images come from is looked at


def as_before(file: Path, content: bytes) -> None:
    """Write a file again, with its old time of writing."""
    status = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_file_that_a_row_names_is_read_anew_when_it_changes(ending, tmp_path):
    red, blue = (saved_bmp(colour) for colour in ("red", "blue"))
    write(tmp_path, {"files/0.bmp": red})
    rows = table({"files/0.bmp": None, "1.bmp": red}, label=[0, 1])
    if ending == "parquet":
        pq.write_table(rows, tmp_path / "x.parquet", row_group_size=1)
    else:
        with (
            pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
            pa.ipc.new_stream(file, rows.schema) as writer,
        ):
            writer.write_table(rows)
    data = [load("folder", tmp_path / f"x.{ending}", size=4)]
    as_before(tmp_path / "files" / "0.bmp", blue)
    data.append(load("folder", tmp_path / f"x.{ending}", size=4))
    assert [each.images[:, :, 0, 0].tolist() for each in data] == [
        [[255, 0, 0], [255, 0, 0]], [[0, 0, 255], [255, 0, 0]]
    ]  # fmt: skip
    (tmp_path / "files" / "0.bmp").unlink()
    with pytest.raises(ValueError, match=r"its image is the file files/0\.bmp, which is not in"):
        load("folder", tmp_path / f"x.{ending}", size=4)


def saved_bmp(colour: str) -> bytes:
    return saved(Image.new("RGB", (4, 4), colour), "BMP")


def test_a_parquet_file_without_statistics_is_looked_at_by_its_paths(tmp_path):
    write(tmp_path, {"files/0.bmp": saved_bmp("red")})
    pq.write_table(table({"files/0.bmp": None}), tmp_path / "x.parquet", write_statistics=False)
    load("folder", tmp_path / "x.parquet", size=4)
    as_before(tmp_path / "files" / "0.bmp", saved_bmp("blue"))
    assert load("folder", tmp_path / "x.parquet", size=4).images[0, :, 0, 0].tolist() == [0, 0, 255]


def test_class_names_that_are_edited_are_read_anew(tmp_path):
    root = save_arrow(tmp_path / "x", table(IN_ORDER).replace_schema_metadata(None))
    before = load("folder", root, size=16)
    (root / "dataset_info.json").write_text(json.dumps({"features": SWAPPED}))
    after = load("folder", root, size=16)
    assert (before.class_names, after.class_names) == (("cat", "dog"), ("dog", "cat"))
    assert before.fingerprint == after.fingerprint  # which is of images and labels


# tables beside images


def test_tables_beside_images_are_not_passed_over(tmp_path):
    logo = FILES["cat/1.png"]
    hub, one = (
        write(tmp_path / "hub", {"assets/logo.png": logo}),
        write(tmp_path / "one", {"preview.png": logo}),
    )
    save_parquet(hub / "data", "train", table(IN_ORDER))
    pq.write_table(table(IN_ORDER), one / "train.parquet")
    for root, given in ((hub, hub / "data"), (one, one / "train.parquet")):
        with pytest.raises(
            ValueError,
            match=rf"{root} has tables of images, such as .*: give {given} as root, or move",
        ):
            load("folder", root, size=16)
        assert len(load("folder", given, size=16)) == 6


def test_several_tables_beside_images_are_to_have_a_folder_of_their_own(tmp_path):
    write(tmp_path, {"preview.png": FILES["cat/1.png"]})
    save_parquet(tmp_path, "train", *map(table, HALVES))
    with pytest.raises(
        ValueError, match="move the tables into a folder of their own and give that as root"
    ):
        load("folder", tmp_path, size=16)


def test_a_table_without_images_beside_images_is_left_out(tmp_path):
    write(tmp_path, FILES)
    pq.write_table(pa.table({"file_name": ["cat/1.png"]}), tmp_path / "metadata.parquet")
    data = load("folder", tmp_path, size=16)
    assert len(data) == 6 and "1 file left out: .parquet" in data.notes
