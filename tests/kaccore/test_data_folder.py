"""Folders of images of one's own, and the settings that each data set takes."""

import os
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from PIL import Image

from kaccore.data import load


def square(file: Path) -> np.ndarray:
    """The middle of an image file, (3, 40, 40)."""
    return image_files.centre(image_files.decoded(file), 40).transpose(2, 0, 1)


def write_tree(root: Path, *paths: str) -> None:
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image_files.photograph(seed, 48, 40).save(root / path)


def test_folders_are_classes_and_images_come_in_the_order_of_their_paths(tmp_path):
    write_tree(
        tmp_path,
        "dog/2.png",
        "cat/b/1.png",
        "dog/10.png",
        "cat/z.PNG",
        ".hidden/x.png",
        "dog/._2.png",
    )
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    data = load("folder", tmp_path, size=40)
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 0, 1, 1]
    files = [tmp_path / name for name in ("cat/z.PNG", "cat/b/1.png", "dog/10.png", "dog/2.png")]
    assert np.array_equal(data.images.numpy(), np.stack([square(file) for file in files]))


def test_images_without_folders_are_unlabelled(tmp_path):
    write_tree(tmp_path, "b.png", "a.bmp", ".hidden/x.png")
    data = load("folder", tmp_path, size=40)
    assert data.labels is None and data.class_names == ()
    assert np.array_equal(
        data.images.numpy(), np.stack([square(tmp_path / "a.bmp"), square(tmp_path / "b.png")])
    )


@pytest.mark.parametrize("width, height, size", [(64, 100, 24), (90, 64, 64), (20, 30, 50)])
def test_an_image_of_any_size_is_its_centre_square_resized_bicubically(
    tmp_path, width, height, size
):
    image_files.photograph(3, width, height).save(tmp_path / "x.png")
    pixels = image_files.centre(image_files.decoded(tmp_path / "x.png"), min(width, height))
    assert (
        load("folder", tmp_path, size=size).images[0] - image_files.resized(pixels, size, "bicubic")
    ).abs().max() < 1.51


def test_gray_transparent_and_indexed_images_get_three_channels(tmp_path):
    image = image_files.photograph(4, 32, 32)
    image.convert("L").save(tmp_path / "a.png")
    image.convert("RGBA").save(tmp_path / "b.png")
    image.quantize(256).save(tmp_path / "c.png")
    images = load("folder", tmp_path, size=32).images.float()
    assert torch.equal(images[0, 0], images[0, 1]) and torch.equal(images[0, 0], images[0, 2])
    original = torch.tensor(np.array(image)).permute(2, 0, 1).float()
    assert torch.equal(images[1], original)
    assert (images[2] - original).abs().mean() < 8


def test_added_changed_and_removed_files_are_noticed(tmp_path):
    write_tree(tmp_path, "a.png", "b.png")
    found = [load("folder", tmp_path, size=8).fingerprint]
    Image.new("RGB", (48, 40), "red").save(tmp_path / "a.png")
    found.append(load("folder", tmp_path, size=8).fingerprint)
    write_tree(tmp_path, "c.png")
    found.append(load("folder", tmp_path, size=8).fingerprint)
    (tmp_path / "b.png").unlink()
    found.append(load("folder", tmp_path, size=8).fingerprint)
    assert len(set(found)) == 4
    assert (
        len(list(tmp_path.glob(".kaccore/*.safetensors"))) == 1
    )  # each took the place of the one before


def test_files_that_are_swapped_or_written_over_at_their_old_times_are_noticed(tmp_path):
    red, blue = tmp_path / "cat" / "a.bmp", tmp_path / "dog" / "b.bmp"
    for file, colour in ((red, "red"), (blue, "blue")):
        file.parent.mkdir()
        Image.new("RGB", (4, 4), colour).save(file)
        os.utime(file, (1e9, 1e9))

    def seen() -> list[list[int]]:
        return load("folder", tmp_path, size=4).images[:, :, 0, 0].tolist()

    first = seen()
    red.rename(tmp_path / "kept")
    blue.rename(red)
    (tmp_path / "kept").rename(blue)
    swapped = seen()
    Image.new("RGB", (4, 4), "lime").save(red)
    os.utime(red, (1e9, 1e9))
    assert (
        first == [[255, 0, 0], [0, 0, 255]] and swapped == first[::-1] and seen()[0] == [0, 255, 0]
    )


def test_the_same_images_in_another_place_have_the_same_fingerprint(tmp_path):
    for place in ("one", "two"):
        write_tree(tmp_path / place, "x/a.png", "y/b.png")
    os.utime(tmp_path / "two" / "x" / "a.png", (1, 1))
    one, two = (load("folder", tmp_path / place, size=16) for place in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != load("folder", tmp_path / "one", size=8).fingerprint


def test_folders_that_cannot_be_read_are_refused_by_name(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"^folder: no images \(\.jpg, .* in {tmp_path} .*folder of images"
    ):
        load("folder", tmp_path, size=8)
    write_tree(tmp_path, "cat/a.png", "b.png")
    with pytest.raises(
        ValueError, match=rf"^folder: {tmp_path} has images, such as b\.png, next to folders"
    ):
        load("folder", tmp_path, size=8)
    (tmp_path / "b.png").unlink()
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="classes dog"):
        load("folder", tmp_path, size=8)
    (tmp_path / "dog" / "x.jpg").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=rf"^folder: cannot read {tmp_path}/dog/x\.jpg \(UnidentifiedImageError"
    ):
        load("folder", tmp_path, size=8)
    with pytest.raises(FileNotFoundError, match=rf"^folder: there is no folder {tmp_path}/absent"):
        load("folder", tmp_path / "absent", size=8)


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("digits", {"size": 8}, "digits takes no size, got size=8"),
        ("cifar10", {"limit": 5}, "cifar10 takes no limit, got limit=5"),
        ("folder", {"size": 8, "download": True}, "folder takes no download"),
        ("folder", {}, "size is None, expected the pixels a side"),
        ("folder", {"size": 0}, "size is 0, expected"),
        ("celeba64", {}, "^celeba64: root is missing"),
    ],
)
def test_a_setting_that_a_data_set_does_not_take_is_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name, **settings)
