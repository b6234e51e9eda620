"""Folders of images in archives: the same images, and nothing is written or read but what is in
them."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from packed_images import ARCHIVES, FILES, backwards, tar, write, zipped

from kaccore.data import load, look


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "folder", {**FILES, "notes.txt": b"text"})


@pytest.mark.parametrize(
    "name, top",
    [
        *((name, "") for name in ARCHIVES),
        *((n, t) for n in ("x.zip", "x.tar.gz") for t in ("a/", "./", "home/me/a/")),
    ],
)
def test_an_archive_is_the_folder_that_was_packed(name, top, tmp_path, folder):
    path = ARCHIVES[name](tmp_path / name, {**backwards(FILES, top), f"{top}notes.txt": b"text"})
    packed, plain = load("folder", path, size=16), load("folder", folder, size=16)
    assert torch.equal(packed.images, plain.images) and torch.equal(packed.labels, plain.labels)
    assert packed.fingerprint == plain.fingerprint and packed.class_names == ("cat", "dog")
    assert packed.notes == plain.notes == load("folder", path, size=16).notes
    assert {p.name for p in tmp_path.iterdir()} - {"x.tar"} == {"folder", ".kaccore", name} - {
        "x.tar"
    }


@pytest.mark.parametrize("top", ["ds/", "home/me/ds/"])
def test_the_one_class_of_a_packed_folder_is_a_class(top, tmp_path):
    cats = {name: content for name, content in FILES.items() if name.startswith("cat/")}
    packed = load(
        "folder", zipped(tmp_path / "x.zip", {f"{top}{k}": v for k, v in cats.items()}), size=16
    )
    plain = load("folder", write(tmp_path / "ds", cats), size=16)
    assert (
        packed.class_names == plain.class_names == ("cat",)
        and packed.fingerprint == plain.fingerprint
    )
    assert packed.notes == plain.notes


def test_a_packed_folder_of_images_is_unlabelled_as_it_is_itself(tmp_path):
    images = {f"photos/{i}.png": FILES["cat/1.png"] for i in range(2)}
    packed = load("folder", zipped(tmp_path / "x.zip", images), size=16)
    plain = load("folder", write(tmp_path, images) / "photos", size=16)
    assert packed.labels is None and packed.fingerprint == plain.fingerprint
    assert packed.notes == (
        "photos is read as the packed folder, not as a class",
        *plain.notes,
    )


def test_a_text_beside_the_packed_folder_is_met_by_a_remedy_that_works(tmp_path):
    path = zipped(
        tmp_path / "x.zip", {**{f"ds/{k}": v for k, v in FILES.items()}, "readme.txt": b"text"}
    )
    said = "warning: ds is the only class, its images are in 2 folders: set `split` to ds if these are the classes"
    assert said in load("folder", path, size=16).notes
    assert load("folder", path, size=16, split="ds").class_names == ("cat", "dog")


def test_a_store_in_an_archive_is_no_class(tmp_path):
    store = {"runs/layout.json": b"{}", "runs/stages/a/x.png": FILES["cat/1.png"]}
    data = load("folder", zipped(tmp_path / "x.zip", {**FILES, **store}), size=16)
    assert (
        data.class_names == ("cat", "dog")
        and "1 folder left out: runs, a store of this project" in data.notes
    )


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_can_be_looked_at_without_a_trace(name, tmp_path):
    path = ARCHIVES[name](
        tmp_path / name, {**FILES, "__MACOSX/cat/._1.png": b"", "cat/x.heic": b""}
    )
    before = sorted(tmp_path.rglob("*"))
    found = look("folder", path, size=16)
    assert (found.count, found.class_counts, found.left_out) == (6, (3, 3), {".heic": 1})
    assert sorted(tmp_path.rglob("*")) == before


def test_two_archives_in_one_folder_have_caches_of_their_own(tmp_path):
    one = zipped(tmp_path / "1.zip", {"a.png": FILES["cat/1.png"]})
    two = zipped(tmp_path / "2.zip", FILES)
    for _ in range(2):
        assert len(load("folder", one, size=16)) == 1 and len(load("folder", two, size=16)) == 6
    assert len(list(tmp_path.glob(".kaccore/*.safetensors"))) == 2


def test_a_changed_archive_is_read_anew(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": FILES["cat/1.png"]})
    before = load("folder", path, size=16).fingerprint
    zipped(path, {"a.png": FILES["dog/1.png"]})
    assert load("folder", path, size=16).fingerprint != before


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_a_split_of_an_archive_is_read(name, tmp_path):
    split = {**{f"train/{k}": v for k, v in FILES.items()}, "val/cat/9.png": FILES["cat/1.png"]}
    path = ARCHIVES[name](tmp_path / name, {f"top/{key}": value for key, value in split.items()})
    assert len(load("folder", path, size=16, split="train")) == 6
    assert load("folder", path, size=16, split="val").class_names == ("cat",)
    only = ARCHIVES[name](tmp_path / f"only-{name}", {f"train/{k}": v for k, v in FILES.items()})
    assert load("folder", only, size=16, split="train").class_names == ("cat", "dog")


@pytest.mark.parametrize("evil", ["../out.png", "/tmp/out.png", "a/../../out.png"])
@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_a_path_that_leads_out_of_an_archive_is_refused(name, evil, tmp_path):
    (tmp_path / "in").mkdir()
    path = ARCHIVES[name](tmp_path / "in" / name, {**FILES, evil: FILES["cat/1.png"]})
    with pytest.raises(ValueError, match=r"leads outside it: it is not read"):
        load("folder", path, size=16)
    assert not list(tmp_path.glob("out.png"))


def test_links_in_an_archive_are_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(FILES["dog/1.png"])
    links = []
    for kind, name in ((tarfile.SYMTYPE, "cat/soft.png"), (tarfile.LNKTYPE, "cat/hard.png")):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, str(tmp_path / "secret.png")
        links.append(info)
    data = load("folder", tar(tmp_path / "x.tar", FILES, extra=tuple(links)), size=16)
    assert (
        len(data) == 6
        and "2 links left out (links in an archive are not followed): cat/hard.png" in data.notes[0]
    )
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cat/1.png", FILES["cat/1.png"])
        info = zipfile.ZipInfo("cat/soft.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, str(tmp_path / "secret.png"))
    data = load("folder", tmp_path / "x.zip", size=16)
    assert len(data) == 1 and "1 link left out" in data.notes[0]


def test_a_damaged_image_in_an_archive_is_named_and_can_be_skipped(tmp_path):
    path = zipped(
        tmp_path / "x.zip", {**FILES, "cat/0.png": b"cut", "dog/3.png": FILES["dog/1.png"][:80]}
    )
    with pytest.raises(
        ValueError, match=rf"cannot read 2 images: cat/0\.png in {path} .*dog/3\.png in {path}"
    ):
        load("folder", path, size=16)
    data = load("folder", path, size=16, skip_damaged=True)
    assert len(data) == 6 and "2 damaged images skipped" in data.notes[0]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
def test_a_cut_archive_is_refused(name, tmp_path):
    path = ARCHIVES[name](tmp_path / name, FILES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ValueError, match=f"^folder: .*{name}"):
        load("folder", path, size=16)
    assert not list(tmp_path.glob(".kaccore/*.safetensors*[!k]"))


def test_a_locked_zip_and_files_of_other_kinds_are_refused(tmp_path):
    zipped(tmp_path / "x.zip", FILES)
    raw = bytearray((tmp_path / "x.zip").read_bytes())
    for sign, at in (
        (b"PK\x01\x02", 8),
        (b"PK\x03\x04", 6),
    ):  # every entry says that it is encrypted
        start = 0
        while (start := raw.find(sign, start)) >= 0:
            raw[start + at] |= 1
            start += 1
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(ValueError, match=r"cannot read 6 images: .*encrypted"):
        load("folder", tmp_path / "x.zip", size=16)
    for name, content in (
        ("x.rar", b"Rar!\x1a\7\0"),
        ("x.png", FILES["cat/1.png"]),
        ("x.gz", gzip.compress(b"x")),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"^folder: .*{name}"):
            load("folder", tmp_path / name, size=16)
