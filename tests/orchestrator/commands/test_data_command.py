"""`python -m orchestrator.data`: the training images as a network sees them, and what was done to
them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kaccore.data import ImageData, load
from orchestrator import data
from orchestrator.console import command_line
from orchestrator.plan.data import read
from orchestrator.settings.loading import parse
from orchestrator.work import pictures

FILE = """\
name: own-images
data: {name: folder, root: images, size: 16}
path: {kind: kac}
"""
HIDDEN = (0, 0, 255, 0)  # blue that nobody is to see


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder of two classes: 3 photographs, of them one large and one small, and 2 transparent
    ones."""
    monkeypatch.chdir(tmp_path)
    for name in ("leaf", "moon"):
        (tmp_path / "images" / name).mkdir(parents=True)
    for i, shape in enumerate([(16, 16), (30, 40), (8, 8)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "leaf" / f"{i}.png")
    for i in range(2):
        Image.new("RGBA", (16, 16), HIDDEN).save(
            tmp_path / "images" / "moon" / f"{i}.webp", lossless=True, exact=True
        )
    (tmp_path / "images" / "moon" / "x.heic").write_text("")
    (tmp_path / "x.yaml").write_text(FILE)
    return tmp_path


def test_the_images_are_shown_and_what_was_done_to_them_is_said(here, capsys):
    assert data.main(["x.yaml", "--out", "real.png"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "folder images: 5 images, seen as 16x16, 3 channels",
        "2 classes: leaf (3), moon (2)",
        "formats: .png (3), .webp (2)",
        "sizes: 16x16 (3), 40x30 (1), 8x8 (1)",
        "warning: 1 file left out: .heic, which Pillow cannot read here",
        "warning: 1 image enlarged: smaller than 16x16",
        "warning: 2 images of one colour after composing on white: another `background` may show more",
        "1 image cropped to the middle square",
        "2 images composed on white: transparent",
        "5 of them, as a network sees them: real.png",
    ]
    seen = load("folder", here / "images", size=16)
    shown = np.asarray(Image.open(here / "real.png"))
    for k, image in enumerate(
        seen.images
    ):  # each pixel three times, with two pixels between images
        left = 2 + k * (48 + 2)
        tile = shown[2 : 2 + 48 : 3, left : left + 48 : 3]
        assert np.array_equal(tile, image.permute(1, 2, 0).numpy()), k


def test_a_setting_can_be_tried_and_what_was_done_is_remembered(here, capsys):
    for _ in range(2):
        assert data.main(["x.yaml", "--out", "real.png", "--set", "data.background=#00ff00"]) == 0
        assert "2 images composed on #00ff00: transparent" in capsys.readouterr().out
    assert Image.open("real.png").getpixel((2 + 4 * (48 + 2), 2)) == (0, 255, 0)


def test_what_was_done_to_the_images_reaches_a_plan(here):
    settings = parse(
        {
            "name": "x",
            "data": {"name": "folder", "root": "images", "size": 16},
            "path": {"kind": "kac"},
        }
    )
    assert "2 images composed on white: transparent" in read(settings.data).notes


@pytest.mark.parametrize("name, line", [("digits", "digits: 1,797 images, seen as 8x8, 1 channel"),
                                        ("grid9", "grid9: 20,000 points")])  # fmt: skip
def test_packaged_data_are_shown_too(name, line, here, capsys):
    kind = "mlp" if name == "grid9" else "unet"
    (here / "x.yaml").write_text(
        f"name: x\ndata: {{name: {name}}}\npath: {{kind: kac}}\nmodel: {{kind: {kind}}}\n"
        + ("evaluation: {metrics: [w2], diagnostics: []}\n" if name == "grid9" else "")
    )
    assert data.main(["x.yaml", "--out", "real.png"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line
    Image.open("real.png").verify()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "real.jpg"], "--out: got real.jpg, expected a name that ends in .png"),
        (["--out", "absent/real.png"], "absent is not a folder"),
        (
            ["--out", "real.png", "--set", "data.root=absent"],
            "x.yaml: data: folder: there is no folder absent",
        ),
        (
            ["--out", "real.png", "--set", "data.split=train"],
            "x.yaml: data: folder: there is no folder train in images",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, here, capsys):
    before = sorted(here.rglob("*"))
    assert data.main(["x.yaml", *arguments]) == command_line.BAD_INPUT
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(here.rglob("*")) == before


# which images a panel shows


def of_classes(*counts: int) -> ImageData:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return ImageData(
        "x",
        torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8),
        labels,
        tuple(map(str, range(len(counts)))),
    )


@pytest.mark.parametrize(
    "counts, shown",
    [
        ((500, 500), [32, 32]),
        ((3, 500, 500), [3, 31, 30]),
        ((0, 5, 1), [0, 5, 1]),
        ((7,) * 100, [1] * 64),
    ],
)
def test_a_panel_shows_as_many_of_each_class_as_there_are(counts, shown):
    images = of_classes(*counts)
    chosen = pictures.spread_over_classes(images, 64)
    found = torch.bincount(images.labels[chosen], minlength=len(counts)).tolist()
    assert len(set(chosen.tolist())) == len(chosen) == sum(shown)
    assert sorted(filter(None, found)) == sorted(filter(None, shown))
    assert (images.labels[chosen].diff() >= 0).all()  # class by class


def test_a_panel_of_unlabelled_images_spreads_over_all_of_them():
    images = ImageData("x", torch.zeros(640, 3, 4, 4, dtype=torch.uint8))
    assert pictures.spread_over_classes(images, 64).tolist() == list(range(0, 640, 10))


@pytest.mark.parametrize("size, side", [(8, 96), (28, 112), (64, 128), (256, 256), (512, 256)])
def test_a_panel_is_legible_and_not_too_large_at_any_size(size, side):
    names = ("a name that is far too long for a tile of its size", "花 ünïcode")
    images = ImageData(
        "x", torch.zeros(4, 3, size, size, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), names
    )
    picture = np.asarray(Image.open(io.BytesIO(pictures.panel(images))))
    assert picture.shape == (side + 14 + 2 * 2, 4 * side + 5 * 2, 3)
    caption = picture[2 + side : -2, 2 : 2 + side]
    assert caption.max() == 255 and caption.min() < 100  # black on white
