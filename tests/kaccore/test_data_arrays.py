"""Images as one array in a file, of every type that means images."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_images import zipped
from PIL import Image

from kaccore.data import load


def rgb(
    count: int = 6, height: int = 12, width: int = 12, channels: tuple[int, ...] = (3,)
) -> np.ndarray:
    return np.random.default_rng(0).integers(
        0, 256, (count, height, width, *channels), dtype=np.uint8
    )


@pytest.mark.parametrize(
    "images, labels", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("X", "Y")]
)
def test_arrays_and_labels_of_a_file_are_read(images, labels, tmp_path):
    pixels, numbers = rgb(), np.array([0, 1, 2, 0, 1, 2])
    np.savez_compressed(tmp_path / "x.npz", **{images: pixels, labels: numbers})
    data = load("folder", tmp_path / "x.npz", size=12)
    assert np.array_equal(data.images.numpy(), pixels.transpose(0, 3, 1, 2)) and data.notes == ()
    assert data.labels.tolist() == numbers.tolist() and data.class_names == ("0", "1", "2")


def test_an_array_is_cut_and_resized_as_images_in_files_are(tmp_path):
    pixels = rgb(3, 20, 30)
    np.save(tmp_path / "x.npy", pixels)
    for i, each in enumerate(pixels):
        (tmp_path / "f").mkdir(exist_ok=True)
        Image.fromarray(each).save(tmp_path / "f" / f"{i}.png")
    packed = load("folder", tmp_path / "x.npy", size=8)
    plain = load("folder", tmp_path / "f", size=8)
    assert torch.equal(packed.images, plain.images) and packed.labels is None
    assert packed.notes == plain.notes == ("3 images cropped to the middle square",)


COLOURS = np.array([[0, 128, 255], [10, 20, 30]])


@pytest.mark.parametrize(
    "array, expected, note",
    [
        (np.array([7, 200], np.uint8), [[7] * 3, [200] * 3], "gray"),  # (N, H, W)
        (np.array([[7], [200]], np.uint8), [[7] * 3, [200] * 3], "gray"),
        (COLOURS.astype(np.uint8), COLOURS, ""),
        (COLOURS.astype(np.uint16) * 257, COLOURS, "16 bits"),
        (np.array([[0, 16448, 32767], [0, 0, 0]], ">i2"), [[0, 128, 255], [0] * 3], "16 bits"),
        (np.array([[0, 0.5, 1], [0, 0, 0]], np.float32), [[0, 128, 255], [0] * 3], "floats"),
        (np.array([[0, 0.5, 1], [0, 0, 0]], np.float64), [[0, 128, 255], [0] * 3], "floats"),
        (np.array([True, False]), [[255] * 3, [0] * 3], "gray"),
        (
            np.array([[0, 255, 0, 64], [0, 0, 255, 255]], np.uint8),
            [[191, 64, 0], [0, 0, 255]],
            "composed",
        ),
        (np.array([[100, 64], [100, 255]], np.uint8), [[216, 25, 25], [100] * 3], "composed"),
    ],
    ids=[
        "gray",
        "one channel",
        "RGB",
        "16 bits",
        "signed",
        "floats",
        "doubles",
        "truth",
        "RGBA",
        "gray and alpha",
    ],
)
def test_arrays_of_every_type_are_what_they_mean(array, expected, note, tmp_path):
    large = np.broadcast_to(array[:, None, None], (len(array), 5, 5, *array.shape[1:]))
    np.save(tmp_path / "x.npy", large)
    data = load("folder", tmp_path / "x.npy", size=5, background="red")
    assert data.images[:, :, 2, 2].tolist() == np.array(expected).tolist()
    assert note in " ".join(data.notes)


def test_channels_may_come_first_where_nothing_else_can_be_meant(tmp_path):
    pixels = rgb()
    np.save(tmp_path / "x.npy", pixels.transpose(0, 3, 1, 2))
    data = load("folder", tmp_path / "x.npy", size=12)
    assert np.array_equal(data.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert data.notes == ("shape (6, 3, 12, 12) taken as (N, C, H, W)",)


@pytest.mark.parametrize(
    "shape, seen, layout",
    [((5, 3, 4, 4), (4, 4, 3), "(N, C, H, W)"), ((5, 4, 4, 3), (4, 4, 3), "(N, H, W, C)"),
     ((5, 1, 3, 3), (3, 3, 1), "(N, C, H, W)"), ((5, 3, 3, 3), (3, 3, 3), "(N, H, W, C)"),
     ((5, 2, 3, 4), (2, 3, 4), "(N, H, W, C)")],
)  # fmt: skip
def test_where_both_orders_can_be_meant_the_square_is_taken_with_a_warning(
    shape, seen, layout, tmp_path
):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    data = load("folder", tmp_path / "x.npy", size=2)
    last = pixels.transpose(0, 2, 3, 1) if layout == "(N, C, H, W)" else pixels
    assert last.shape[1:] == seen
    (tmp_path / "other").mkdir()
    modes = {1: lambda a: Image.fromarray(a[..., 0]), 3: Image.fromarray, 4: Image.fromarray}
    for i, each in enumerate(last):
        modes[each.shape[-1]](each).save(tmp_path / "other" / f"{i}.png")
    assert torch.equal(data.images, load("folder", tmp_path / "other", size=2).images)
    assert data.notes[0].startswith(
        f"warning: shape {shape} taken as {layout}, though it is ambiguous:"
    )


@pytest.mark.parametrize(
    "arrays, names, labels, note",
    [
        (
            {"y": np.array([[3], [5], [3]], np.uint8)},
            ("3", "5"),
            [0, 1, 0],
            "labels 3, 5 are numbered from 0",
        ),
        (
            {"y": np.array([1, 0, 2]), "class_names": np.array(["a", "b", "c"])},
            ("a", "b", "c"),
            [1, 0, 2],
            "",
        ),
        (
            {"y": np.array([0, 2, 2])},
            ("0", "1", "2"),
            [0, 2, 2],
            "warning: no images in the classes 1",
        ),
        ({"y": np.array(["dog", "cat", "dog"])}, ("cat", "dog"), [1, 0, 1], ""),
        ({"z": np.arange(3)}, (), None, "arrays left out: z"),
    ],
    ids=["from 3", "named", "one is missing", "texts", "no labels"],
)
def test_labels_get_names_and_what_is_done_to_them_is_said(arrays, names, labels, note, tmp_path):
    np.savez(tmp_path / "x.npz", x=rgb(3), **arrays)
    data = load("folder", tmp_path / "x.npz", size=12)
    assert (
        data.class_names == names
        and (None if data.labels is None else data.labels.tolist()) == labels
    )
    assert note in " ".join(data.notes)


def test_the_parts_of_an_array_file_are_splits(tmp_path):
    one, two = rgb(4), rgb(2)
    np.savez(tmp_path / "a.npz", x_train=one, y_train=[0, 1, 0, 1], x_test=two, y_test=[0, 1])
    np.savez(
        tmp_path / "b.npz",
        train_images=one,
        train_labels=[[0], [1], [0], [1]],
        test_images=two,
        test_labels=[0, 1],
    )
    for name in ("a.npz", "b.npz"):
        assert [
            len(load("folder", tmp_path / name, size=12, split=s)) for s in ("train", "test")
        ] == [4, 2]
        with pytest.raises(ValueError, match="set `split` to the wanted part"):
            load("folder", tmp_path / name, size=12)


def pickled(path: Path, canary: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(canary),)

    np.save(path, np.array([Evil()], object), allow_pickle=True)


def test_pickled_objects_are_never_read(tmp_path):
    pickled(tmp_path / "x.npy", tmp_path / "canary")
    buffer = io.BytesIO()
    np.save(buffer, np.array([None], object), allow_pickle=True)
    zipped(tmp_path / "x.npz", {"images.npy": (tmp_path / "x.npy").read_bytes()})
    (tmp_path / "plain.npy").write_bytes(pickle.dumps({"images": 1}))
    for name in ("x.npy", "x.npz", "plain.npy"):
        with pytest.raises(
            ValueError,
            match=rf"^folder: {tmp_path}/{name} cannot be read \(it contains Python objects",
        ):
            load("folder", tmp_path / name, size=8)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "content, message",
    [(b"hello, world", r"is not a \.npy or \.npz file: it begins with b'hello, w'"), (b"", "is an empty file"),
     (b"\x93NUMPY\1\0", r"cannot be read \(")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_file_that_is_no_array_is_called_so(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^folder: {tmp_path}/{name} {message}"):
        load("folder", tmp_path / name, size=8)


def test_a_zip_of_other_files_is_no_npz(tmp_path):
    zipped(tmp_path / "x.npz", {"notes.txt": b"text"})
    with pytest.raises(
        ValueError,
        match=rf"^folder: {tmp_path}/x\.npz cannot be read \(notes\.txt in it is not an array",
    ):
        load("folder", tmp_path / "x.npz", size=8)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": np.zeros((64, 64, 3), np.uint8)}, r"the shape \(64, 64, 3\), which is one image"),
        ({"x": np.zeros((5, 3072), np.uint8)}, r"the shape \(5, 3072\), expected \(N, H, W\)"),
        ({"x": np.zeros((0, 8, 8), np.uint8)}, "no images"),
        ({"x": np.zeros((5, 8, 8), np.int64)}, "images of int64, expected uint8"),
        ({"x": np.zeros((5, 8, 8), complex)}, "images of complex128, expected uint8"),
        ({"x": rgb(3), "y": np.zeros(4, int)}, r"labels of shape \(4,\), expected \(3,\)"),
        ({"x": rgb(3), "y": np.eye(3)}, r"labels of shape \(3, 3\)"),
        ({"x": rgb(3), "y": np.array([0.5, 1, 2])}, "labels of float64"),
        ({"x": rgb(3), "y": np.array([0, 1, 5]), "class_names": np.array(["a"])}, "labels from 0 to 5 and 1 names"),
        ({"one": rgb(3), "two": rgb(3)}, r"has one \(3, 12, 12, 3\), two .*, expected an array called images"),
        ({"x": np.full((2, 8, 8), 255.0)}, r"float64 from 255 to 255, expected \[0, 1\]"),
    ],
)  # fmt: skip
def test_arrays_that_mean_no_images_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load("folder", tmp_path / "x.npz", size=8)
