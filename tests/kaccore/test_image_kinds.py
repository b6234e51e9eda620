"""What a network sees of every kind of image file: scaled by its range, upright, composed, and
said."""

from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from image_kinds import GREEN, KINDS, REFUSED, SIDE, WHITE, numbers, png, saved
from PIL import Image

from kaccore.data import load


@pytest.mark.parametrize("name", KINDS)
def test_an_image_of_any_kind_is_what_its_file_means(name, tmp_path):
    kind = KINDS[name]
    (tmp_path / f"x.{kind.ending}").write_bytes(kind.content())
    data = load("folder", tmp_path, size=SIDE, background="red")
    seen = data.images[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(seen - np.broadcast_to(kind.expected, seen.shape)).max() <= kind.within, seen
    assert (kind.note or "") in " ".join(data.notes)
    if kind.note is None:
        assert data.notes == ()


def test_all_kinds_together_are_read_and_counted(tmp_path):
    for name, kind in KINDS.items():
        (tmp_path / f"{name}.{kind.ending}").write_bytes(kind.content())
    data = load("folder", tmp_path, size=SIDE)
    assert len(data) == len(KINDS)
    composed = sum(kind.note is not None and "composed" in kind.note for kind in KINDS.values())
    counts = {note.split(" image")[0]: note for note in data.notes if "composed" in note}
    (count,) = counts
    assert int(count) >= composed and "composed on white: transparent" in counts[count]
    assert data.notes == load("folder", tmp_path, size=SIDE).notes  # they are kept with the images


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_known_meaning_is_refused_by_name(name, tmp_path):
    ending, content, words = REFUSED[name]
    (tmp_path / f"x.{ending}").write_bytes(content())
    with pytest.raises(
        ValueError, match=rf"^folder: cannot read {tmp_path}/x\.{ending} \(.*({words})"
    ):
        load("folder", tmp_path, size=SIDE)


ORIENTED = {  # EXIF's orientation: how a camera has turned what is upright, rows first
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def oriented(file: Path, orientation: int, upright: np.ndarray, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(ORIENTED[orientation](upright)))
    file.write_bytes(
        saved(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_photographs_are_upright(kind, tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    for orientation in ORIENTED:
        oriented(tmp_path / f"{orientation}.{kind.lower()}", orientation, upright, kind)
    data = load("folder", tmp_path, size=7)
    middle = torch.from_numpy(image_files.centre(upright, 7)).permute(2, 0, 1)
    assert [torch.equal(image, middle) for image in data.images] == [True] * 8
    assert any(note == "7 images rotated upright by the EXIF orientation" for note in data.notes)


def test_a_jpeg_of_a_telephone_is_upright(tmp_path):
    upright = np.asarray(image_files.photograph(3, 48, 32))
    oriented(tmp_path / "a.jpg", 1, upright, "JPEG")
    oriented(tmp_path / "b.jpg", 6, upright, "JPEG")
    plain, turned = load("folder", tmp_path, size=32).images.float()
    assert (plain - turned).abs().mean() < 3 < (plain - turned.rot90(1, (1, 2))).abs().mean()


def test_exif_that_is_broken_does_no_harm(tmp_path):
    (tmp_path / "a.png").write_bytes(
        saved(Image.new("RGB", (4, 4), GREEN), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    )
    assert load("folder", tmp_path, size=4).images[0, :, 0, 0].tolist() == list(GREEN)


def shape_on(hidden: tuple[int, int, int], side: int = 64) -> Image.Image:
    """A white disc; around it, fully transparent, a colour that nobody is to see."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = (x**2 + y**2 < (side / 3) ** 2)[..., None]
    colours = np.where(disc, WHITE, hidden)
    return Image.fromarray(np.concatenate([colours, disc * 255], -1).astype(np.uint8))


def test_what_is_hidden_leaves_no_fringe_when_it_is_resized(tmp_path):
    for name, hidden in (("a", (0, 0, 0)), ("b", (255, 255, 255)), ("c", (0, 255, 0))):
        shape_on(hidden).save(tmp_path / f"{name}.png")
    one, two, three = load("folder", tmp_path, size=24, background="#0000ff").images
    assert torch.equal(one, two) and torch.equal(one, three)
    assert (one[2] == 255).all()  # white and blue have all of it: what lies between has, too
    assert one[:, 12, 12].tolist() == [255, 255, 255] and one[:, 0, 0].tolist() == [0, 0, 255]


def test_white_shapes_on_white_are_warned_of(tmp_path):
    shape_on((255, 255, 255)).save(tmp_path / "white.png")
    shape_on((0, 0, 0), side=32).save(tmp_path / "small.png")
    Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(tmp_path / "empty.png")
    Image.new("RGB", (32, 32), WHITE).save(tmp_path / "plain.png")  # is what it is
    (warning, *_) = load("folder", tmp_path, size=32).notes
    assert (
        warning.startswith("warning: 3 images of one colour after composing on white")
        and "another `background`" in warning
    )
    assert (
        load("folder", tmp_path, size=32, background="black")
        .notes[0]
        .startswith("warning: 1 image of one colour")
    )


def test_the_background_is_part_of_what_is_kept_and_of_the_fingerprint(tmp_path):
    shape_on((0, 0, 0)).save(tmp_path / "a.png")
    found = {
        colour: load("folder", tmp_path, size=8, background=colour)
        for colour in ("white", "black", "#fff")
    }
    assert found["white"].images.min() > 250 and found["black"].images.min() == 0
    assert found["white"].fingerprint == found["#fff"].fingerprint != found["black"].fingerprint
    assert len(list((tmp_path / ".kaccore").glob("*.safetensors"))) == 2
    with pytest.raises(
        ValueError,
        match=r'folder: background: got \'whit\', expected a colour.*did you mean "white"',
    ):
        load("folder", tmp_path, size=8, background="whit")
    for transparent in ("#ffffff80", "rgb(300, 0, 0)"):
        with pytest.raises(ValueError, match="opaque"):
            load("folder", tmp_path, size=8, background=transparent)


def test_what_was_done_is_counted_with_warnings_first(tmp_path):
    image_files.photograph(0, 40, 20).save(tmp_path / "a.png")
    image_files.photograph(1, 90, 90).save(tmp_path / "b.png")
    notes = load("folder", tmp_path, size=32).notes
    assert notes == (
        "warning: 1 image enlarged: smaller than 32x32",
        "1 image cropped to the middle square",
    )


def test_sixteen_bits_of_which_few_are_used_are_warned_of(tmp_path):
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "a.png")
    data = load("folder", tmp_path, size=8)
    assert data.images.unique().tolist() == [16]
    assert data.notes[0].startswith("warning: the brightest 16-bit value is 6.2% of the range")


TWELVE_BITS = {  # 4095 of 65535; alpha is of 16 bits
    "RGB.png": lambda: png(16, 2, np.array([[4095] * 3] * 4, ">u2").tobytes()),
    "RGBA.png": lambda: png(16, 6, np.array([[4095] * 3 + [65535]] * 4, ">u2").tobytes()),
    "gray and alpha.png": lambda: png(16, 4, np.array([[4095, 65535]] * 4, ">u2").tobytes()),
    "RGB.ppm": lambda: b"P6 4 4 65535\n" + np.full(48, 4095, ">u2").tobytes(),
}


@pytest.mark.parametrize("name", TWELVE_BITS)
def test_colours_of_sixteen_bits_of_which_few_are_used_are_warned_of_too(name, tmp_path):
    (tmp_path / name).write_bytes(TWELVE_BITS[name]())
    data = load("folder", tmp_path, size=4)
    assert data.images.max() <= 16 and data.notes[0].startswith(
        "warning: the brightest 16-bit value is "
    )


def test_a_set_of_another_range_is_refused_and_not_taken_for_damaged(tmp_path):
    (tmp_path / "a.tif").write_bytes(saved(numbers([-1, 0, 0, 1], "float32"), "TIFF"))
    (tmp_path / "b.tif").write_bytes(
        saved(numbers([0, 0, 0, 1], "float32"), "TIFF")
    )  # in range by chance
    with pytest.raises(
        ValueError, match=rf"cannot read {tmp_path}/a\.tif \(.* from -1 to 1, expected \[0, 1\]"
    ):
        load("folder", tmp_path, size=4, skip_damaged=True)
    np.save(tmp_path / "x.npy", np.stack([np.full((8, 8), value) for value in (-1.0, 0.5)]))
    with pytest.raises(ValueError, match=r"image 0 of .*from -1 to -1, expected \[0, 1\]"):
        load("folder", tmp_path / "x.npy", size=4, skip_damaged=True)
    np.save(tmp_path / "x.npy", np.stack([np.full((8, 8), value) for value in (np.nan, 0.5)]))
    assert len(load("folder", tmp_path / "x.npy", size=4, skip_damaged=True)) == 1  # NaN is damage


def test_a_png_with_a_wrong_checksum_can_be_skipped(tmp_path):
    (tmp_path / "a.png").write_bytes(REFUSED["a PNG with a changed byte"][1]())
    (tmp_path / "b.png").write_bytes(saved(Image.new("RGB", (4, 4), GREEN), "PNG"))
    data = load("folder", tmp_path, size=4, skip_damaged=True)
    assert len(data) == 1 and "1 damaged image skipped" in data.notes[0]
