"""What a data set holds, found out without decoding it and without a trace."""

from pathlib import Path

import image_files
import numpy as np
import pytest
from packed_images import FILES, zipped
from PIL import Image

from kaccore.data import load, look


def everything(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in [root, *root.rglob("*")])


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / "images"
    for name, sizes in {"cat": [(20, 20), (20, 20), (8, 9)], "dog": [(40, 30)]}.items():
        (root / name).mkdir(parents=True)
        for i, (width, height) in enumerate(sizes):
            image_files.photograph(i, width, height).save(
                root / name / f"{i}.{'png' if i else 'jpg'}"
            )
    (root / "dog" / "x.heic").write_text("")
    return root


def test_a_folder_is_counted_and_measured_without_a_trace(images):
    before = everything(images)
    found = look("folder", images, size=16)
    assert everything(images) == before
    assert (found.name, found.count, found.channels, found.size) == ("folder", 4, 3, 16)
    assert (found.class_names, found.class_counts) == (("cat", "dog"), (3, 1))
    assert found.formats == {".jpg": 2, ".png": 2} and found.left_out == {".heic": 1}
    assert found.sizes == {(20, 20): 2, (8, 9): 1, (40, 30): 1} and found.measured == 4
    assert found.fingerprint is None
    assert found.notes == (
        "warning: 1 file left out: .heic, which Pillow cannot read here",
        "warning: 1 of 4 measured images are smaller than 16x16",
    )


def test_what_was_decoded_before_is_known(images):
    data = load("folder", images, size=16, background="black")
    before = everything(images)
    found = look("folder", images, size=16, background="black")
    assert everything(images) == before
    assert found.fingerprint == data.fingerprint and found.notes == data.notes and found.formats
    assert (
        look("folder", images, size=16).fingerprint is None
    )  # with other settings they are other images
    Image.new("RGB", (9, 9)).save(images / "cat" / "0.jpg")
    assert (
        look("folder", images, size=16, background="black").fingerprint is None
    )  # nor are these the same any more


def test_a_damaged_image_does_not_hinder_a_look(images):
    (images / "cat" / "0.jpg").write_bytes(b"cut")
    found = look("folder", images, size=16)
    assert found.count == 4 and found.measured == 3
    load("folder", images, size=16, skip_damaged=True)
    known = look("folder", images, size=16, skip_damaged=True)
    assert (known.count, known.class_counts) == (3, (2, 1)) and "skipped" in " ".join(known.notes)


@pytest.mark.parametrize("name", ["x.npz", "x.zip"])
def test_files_are_looked_at_too(name, tmp_path):
    pixels = np.zeros((6, 20, 30, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x=pixels, y=[0, 0, 0, 1, 1, 1])
    zipped(tmp_path / "x.zip", FILES)
    before = everything(tmp_path)
    found = look("folder", tmp_path / name, size=16)
    assert everything(tmp_path) == before
    assert (found.count, found.class_counts, sum(found.sizes.values())) == (6, (3, 3), 6)


def test_packaged_data_are_known_whole():
    for name in ("digits", "grid9"):
        data, found = load(name), look(name)
        assert (found.count, found.size, found.channels) == (len(data), data.size, data.channels)
        assert found.fingerprint == data.fingerprint and sum(found.class_counts) == len(data)


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize(
    "name, remedy",
    [
        ("cifar10", r"data_batch_1; get cifar-10-python\.tar\.gz"),
        ("celeba64", r"img_align_celeba; get img_align_celeba\.zip"),
        ("lsun_bedroom256", r"data\.mdb; get bedroom_train_lmdb\.zip"),
    ],
)
def test_of_published_data_that_are_missing_the_remedy_is_told_and_nothing_fetched(
    name, remedy, download, tmp_path
):
    if download and name == "lsun_bedroom256":
        with pytest.raises(ValueError, match="takes no download"):
            look(name, tmp_path, download=True)
        return
    with pytest.raises(FileNotFoundError, match=rf"^{name}: there is no {tmp_path}.*{remedy}"):
        look(name, tmp_path, download=download)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=rf"^{name}: there is no folder"):
        look(name, tmp_path / "absent", download=download)
    with pytest.raises(ValueError, match="root is missing"):
        look(name)


def test_published_data_are_counted_and_once_decoded_known(tmp_path, monkeypatch):
    image_files.write_celeba(tmp_path, [0, 1, 0, 2, 0])
    image_files.publish_celeba(tmp_path, monkeypatch)
    before = everything(tmp_path)
    assert look("celeba64", tmp_path).count == 3 and everything(tmp_path) == before
    image_files.write_lsun(
        tmp_path, {f"{i}": image_files.jpeg(image_files.photograph(i, 256, 256)) for i in range(4)}
    )
    before = everything(tmp_path)
    assert [look("lsun_bedroom256", tmp_path, limit=limit).count for limit in (None, 3, 9)] == [
        4,
        3,
        4,
    ]
    assert everything(tmp_path) == before
    data = load("celeba64", tmp_path)
    assert look("celeba64", tmp_path).fingerprint == data.fingerprint
    image_files.write_cifar10(tmp_path)
    assert (
        look("cifar10", tmp_path).count == 50_000
        and look("cifar10", tmp_path).class_names[9] == "truck"
    )


def test_settings_that_a_data_set_does_not_take_are_refused():
    with pytest.raises(ValueError, match="digits takes no background, got background='black'"):
        look("digits", background="black")
    with pytest.raises(ValueError, match="size is None"):
        look("folder", ".")
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        look("digit")
