"""What of a folder is read, what is left out, and how each fault of a folder is said."""

import os
import subprocess
import sys
from pathlib import Path

import image_files
import pytest
import torch
from image_kinds import saved
from PIL import Image

from kaccore.data import load, look


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image = image_files.photograph(sum(map(ord, path)), 16, 16)
        image.save(root / path, "PNG") if path.endswith((".jpg", ".png")) else (
            root / path
        ).write_text("no image")


def warnings(notes: tuple[str, ...]) -> list[str]:
    return [note for note in notes if note.startswith("warning: ")]


def test_files_that_are_not_read_are_counted_by_their_ending(tmp_path):
    write(
        tmp_path,
        "a.png",
        "1.heic",
        "2.HEIC",
        "3.heif",
        "x.txt",
        "y.json",
        "z.txt",
        "LICENSE",
        ".hidden",
        ".k/a.txt",
    )
    assert load("folder", tmp_path, size=16).notes == (
        "warning: 3 files left out: .heic (2), .heif (1), which Pillow cannot read here",
        "4 files left out: .txt (2), .json (1), no ending (1)",
    )


def test_of_one_ending_there_is_no_list(tmp_path):
    write(tmp_path, "a.png", *(f"{i}.heic" for i in range(5)))
    assert (
        load("folder", tmp_path, size=16).notes[0].startswith("warning: 5 files left out: .heic, ")
    )


def test_a_file_that_is_added_beside_is_said_though_the_images_are_kept(tmp_path):
    write(tmp_path, "a.png")
    assert load("folder", tmp_path, size=16).notes == ()
    (file,) = (tmp_path / ".kaccore").glob("*.safetensors")
    before = file.stat().st_mtime_ns
    write(tmp_path, "b.heic")
    assert "1 file left out: .heic" in load("folder", tmp_path, size=16).notes[0]
    assert file.stat().st_mtime_ns == before


SYSTEMS = (
    "__MACOSX/cat/._1.png", "@eaDir/1.png/SYNOFILE_THUMB_M.png", "lost+found/x.png", "$RECYCLE.BIN/$R1.png",
    "System Volume Information/IndexerVolumeGuid", "Thumbs.db", "cat/Thumbs.db", ".DS_Store", "cat/.DS_Store",
    "desktop.ini", "cat/@eaDir/1.png/SYNOINDEX_MEDIA_INFO", ".Trash-1000/files/x.png", ".ipynb_checkpoints/x.png",
    "#recycle/x.png",
)  # fmt: skip


def test_what_systems_leave_behind_is_neither_a_class_nor_an_image(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png", *SYSTEMS)
    (tmp_path / "lost+found" / "deep").mkdir()
    data = load("folder", tmp_path, size=16)
    assert data.class_names == ("cat", "dog") and len(data) == 2 and data.notes == ()


def test_all_empty_classes_are_named_with_what_is_in_them(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.heic", "dog/2.heic")
    (tmp_path / "eel" / "inner").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=rf"{tmp_path} has no images but \.heic in the classes dog, eel: fill"
    ):
        load("folder", tmp_path, size=16)


def test_a_folder_with_nothing_to_read_says_what_it_has(tmp_path):
    write(tmp_path, "a.heic", "b.heic", "c.txt")
    with pytest.raises(
        FileNotFoundError, match=r"no images \(.*other kinds: \.heic \(2\), \.txt \(1\)"
    ):
        load("folder", tmp_path, size=16)
    (tmp_path / "all.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=f"give {tmp_path}/all.zip itself as root"):
        load("folder", tmp_path, size=16)


def test_a_store_of_this_project_is_no_class(tmp_path):
    write(
        tmp_path,
        "cat/1.png",
        "dog/1.png",
        "runs/stages/a/x.png",
        "runs/layout.json",
        "dog/old/sweeps/s/x.png",
    )
    (tmp_path / "dog" / "old" / "layout.json").write_text("{}")
    for _ in range(2):
        data = load("folder", tmp_path, size=16)
        assert data.class_names == ("cat", "dog") and len(data) == 2
        assert data.notes == ("2 folders left out: dog/old, runs, stores of this project",)
    assert look("folder", tmp_path, size=16).notes == data.notes
    (tmp_path / "runs" / "layout.json").unlink()  # no store any more
    assert load("folder", tmp_path, size=16).class_names == ("cat", "dog", "runs")


# links


def test_a_link_to_a_parent_folder_reads_nothing_twice(tmp_path):
    write(tmp_path / "images", "cat/1.png", "cat/2.png", "dog/1.png")
    write(tmp_path, "beside/x.png")
    for name, target in {
        "cat/up": "..",
        "dog/top": "../..",
        "cat/self": ".",
        "loop": "../images",
    }.items():
        (tmp_path / "images" / name).symlink_to(target)
    data = load("folder", tmp_path / "images", size=16)
    assert data.labels.tolist() == [0, 0, 1] and data.class_names == ("cat", "dog")
    assert data.notes == (
        "warning: 4 links left out (target read already): cat/self, cat/up, dog/top, loop",
    )


def test_links_that_lead_elsewhere_are_followed_once(tmp_path):
    write(tmp_path / "pool", "one/1.png", "one/2.png", "two/3.png")
    root = tmp_path / "root"
    (root / "b").mkdir(parents=True)
    (root / "a").symlink_to(tmp_path / "pool" / "one")  # a class
    (root / "b" / "3.png").symlink_to(tmp_path / "pool" / "two" / "3.png")  # an image
    (root / "b" / "again.png").symlink_to(tmp_path / "pool" / "two" / "3.png")
    (root / "b" / "inner").symlink_to(tmp_path / "pool" / "one")
    (root / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = load("folder", root, size=16)
    assert data.class_names == ("a", "b") and data.labels.tolist() == [0, 0, 1]
    assert data.notes == (
        "warning: 1 link left out (target missing): b/gone.png",
        "warning: 2 links left out (target read already): b/again.png, b/inner",
    )


def test_of_a_file_and_a_link_to_it_the_file_is_read(tmp_path):
    write(tmp_path, "z/real.png", "a/x.png")
    (tmp_path / "a" / "link.png").symlink_to("../z/real.png")
    assert load("folder", tmp_path, size=16).labels.tolist() == [0, 1]


def test_links_of_links_are_followed_to_their_end(tmp_path):
    write(tmp_path / "far", "1.png")
    write(tmp_path / "root", "x/0.png")
    (tmp_path / "far" / "home").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "y").symlink_to(tmp_path / "far")
    assert load("folder", tmp_path / "root", size=16).labels.tolist() == [0, 1]


# damage


def damage(root: Path, count: int) -> list[Path]:
    files = sorted(root.rglob("*.png"))[:count]
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    return files


def test_all_damaged_images_are_named_at_once(tmp_path):
    write(tmp_path, *(f"{i:02d}.png" for i in range(8)))
    files = damage(tmp_path, 3)
    with pytest.raises(ValueError, match=r"^folder: cannot read 3 images: ") as refused:
        load("folder", tmp_path, size=16)
    assert all(str(file) in str(refused.value) for file in files)
    assert "skip_damaged" in str(refused.value) and not list(
        tmp_path.glob(".kaccore/*.safetensors*[!k]")
    )


def test_of_many_damaged_images_twenty_are_named_and_the_rest_counted(tmp_path):
    write(tmp_path, *(f"{i:02d}.png" for i in range(30)))
    damage(tmp_path, 25)
    with pytest.raises(ValueError, match=r"cannot read 25 images: .*19\.png \(.*, and 5 more; "):
        load("folder", tmp_path, size=16)


def test_damaged_images_are_skipped_where_that_is_wanted_and_counted(tmp_path):
    write(tmp_path, *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)))
    (first, second, *_) = damage(tmp_path / "cat", 2)
    data = load("folder", tmp_path, size=16, skip_damaged=True)
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert data.notes[0] == f"warning: 2 damaged images skipped: {first}, {second}"
    first.unlink(), second.unlink()
    whole = load("folder", tmp_path, size=16)
    assert torch.equal(whole.images, data.images) and whole.fingerprint == data.fingerprint
    assert whole.notes == ()


def test_what_is_skipped_is_known_when_it_is_read_again(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    damage(tmp_path, 1)
    one, again = (load("folder", tmp_path, size=16, skip_damaged=True) for _ in range(2))
    assert (
        len(again) == 3 and one.notes == again.notes and "1 damaged image skipped" in one.notes[0]
    )
    with pytest.raises(ValueError, match="cannot read"):  # the setting has a file of its own
        load("folder", tmp_path, size=16)


def test_a_class_of_which_nothing_is_left_is_refused(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    damage(tmp_path / "dog", 1)
    with pytest.raises(ValueError, match="all images of the classes dog are damaged"):
        load("folder", tmp_path, size=16, skip_damaged=True)
    damage(tmp_path, 2)
    with pytest.raises(ValueError, match="all images are damaged: 2 images: "):
        load("folder", tmp_path, size=16, skip_damaged=True)


def test_a_file_that_the_system_cannot_read_is_not_skipped_as_damaged(tmp_path):
    write(tmp_path, "a.png", "b.png")
    from kaccore.data import user_images

    images = user_images.find_images(tmp_path, None, None)
    kept = images.image_cache(16, (0, 0, 0), True)
    (tmp_path / "b.png").unlink()  # gone between listing and reading, as on a disk that fails
    with pytest.raises(ValueError, match=r"cannot read .*b\.png \(FileNotFoundError"):
        kept.read_or_write(lambda: images.source(16, (0, 0, 0), True, tmp_path))


# train and val


def test_splits_that_are_taken_for_classes_are_warned_of(tmp_path):
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png")
    data = load("folder", tmp_path, size=16)
    assert data.class_names == ("train", "val")
    assert warnings(data.notes) == [
        f"warning: the folders train and val of {tmp_path} are read as classes: set `split` to the one whose images "
        "are wanted"
    ]


def test_a_split_takes_the_folder_of_that_name_as_root(tmp_path):
    write(
        tmp_path,
        "train/cat/1.png",
        "train/dog/1.png",
        "val/cat/2.png",
        "val/dog/2.png",
        "val/dog/3.heic",
        "x.txt",
    )
    train, val = (load("folder", tmp_path, size=16, split=split) for split in ("train", "val"))
    assert train.class_names == ("cat", "dog") and len(train) == 2 and train.notes == ()
    assert (
        train.fingerprint
        == load("folder", tmp_path / "train", size=16).fingerprint
        != val.fingerprint
    )
    assert "1 file left out: .heic" in val.notes[0]
    with pytest.raises(
        ValueError, match=rf"there is no folder test in {tmp_path}, which has train, val"
    ):
        load("folder", tmp_path, size=16, split="test")


def test_a_split_without_classes_is_unlabelled(tmp_path):
    write(tmp_path, "train/1.png", "test/2.png")
    assert load("folder", tmp_path, size=16, split="train").labels is None


def test_one_class_with_folders_in_it_is_warned_of(tmp_path):
    write(tmp_path, "flowers/rose/1.png", "flowers/tulip/1.png")
    data = load("folder", tmp_path, size=16)
    assert data.class_names == ("flowers",) and f"give {tmp_path}/flowers as root" in data.notes[0]


# names


def test_odd_names_of_classes_break_nothing(tmp_path):
    names = ["a b", "ünïcode 花", "tab\there", "e\u0301", "é", "-x", "100%", 'q"uote']
    write(tmp_path, *(f"{name}/1.png" for name in names))
    raw = os.fsencode(tmp_path) + b"/raw\xff"
    os.mkdir(raw)
    with open(raw + b"/1.png", "wb") as file:
        file.write(saved(Image.new("RGB", (4, 4)), "PNG"))
    (Path(os.fsdecode(raw)) / "x.heic").write_text("")
    data = load("folder", tmp_path, size=4)
    assert data.classes == 9 and len(set(data.class_names)) == 9
    assert {"é", "é (2)", "a b", "ünïcode 花", "tab\N{REPLACEMENT CHARACTER}here"} < set(
        data.class_names
    )
    for text in (*data.class_names, *data.notes):
        text.encode()  # it can be printed and kept
    assert data.class_names == load("folder", tmp_path, size=4).class_names


# quickly, and without a trace


MODULES = """
import sys
from kaccore.data import load
load("folder", sys.argv[1], size=16)
print(*sorted({"torchvision", "PIL", "pyarrow"} & set(sys.modules)))
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
load("folder", sys.argv[1], size=16)
print(*[path for path in opened if path.endswith(".png")])
"""


def test_images_that_are_kept_are_recognised_without_opening_one(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(20)))
    load("folder", tmp_path, size=16)
    said = subprocess.run(
        [sys.executable, "-c", MODULES, tmp_path], capture_output=True, text=True, check=True
    )
    assert "torchvision" not in said.stdout and ".png" not in said.stdout


def everything(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


def test_images_can_be_read_without_writing_a_cache(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    before = everything(tmp_path)
    data = load("folder", tmp_path, size=16, write=False)
    assert everything(tmp_path) == before
    assert data.fingerprint == load("folder", tmp_path, size=16).fingerprint
    assert torch.equal(data.images, load("folder", tmp_path, size=16, write=False).images)


def test_a_cache_inside_of_the_root_is_no_class_of_it(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    for _ in range(2):
        assert load("folder", tmp_path, size=16, cache=tmp_path / "kept").class_names == (
            "cat",
            "dog",
        )
    assert look("folder", tmp_path, size=16, cache=tmp_path / "kept").fingerprint is not None
