import pytest
import torch

from kaccore.data import ImageData, PointData, load
from kaccore.data.mixture import CENTRES, WIDTH
from kaccore.metrics.extractors import extractor
from kaccore.metrics.features import features_for
from kaccore.metrics.fid import Reference, compare, extract_with_logits
from kaccore.metrics.frechet import frechet_distance, moments


@pytest.fixture(scope="module")
def grid() -> ImageData:
    return load("grid9")


def test_the_grid_is_twenty_thousand_labelled_points_of_one_pixel(grid):
    assert isinstance(grid, PointData)
    assert (len(grid), grid.channels, grid.size, grid.classes) == (20_000, 2, 1, 9)
    assert grid.images.shape == (20_000, 2, 1, 1) and grid.images.dtype == torch.float32
    deviations = grid.points - CENTRES[grid.labels]
    assert float(deviations.std()) == pytest.approx(
        WIDTH, rel=0.02
    )  # the labels are those of the modes


def test_nothing_is_rounded_on_the_way_to_a_model_and_back(grid):
    index = torch.tensor([3, 17_000])
    assert torch.equal(grid.batch(index), grid.images[index])
    assert torch.equal(grid.from_floats(grid.floats()), grid.images)
    with pytest.raises(ValueError, match="not finite"):
        grid.from_floats(torch.full((2, 2, 1, 1), torch.inf))


def test_its_fingerprint_is_pinned(grid):
    pinned = "e9b6500bd7654c8ea12a84ca2f48340605c1a7fa5cd661797daf552a0265f47e"
    assert (
        load("grid9").fingerprint == grid.fingerprint == pinned
    )  # what has been trained is found by it


@pytest.mark.parametrize(
    "points, message",
    [
        (torch.zeros(3, 2), r"\(3, 2\)"),
        (torch.zeros(3, 1, 1, 1), r"\(3, 1, 1, 1\)"),
        (torch.zeros(3, 2, 1, 1, dtype=torch.uint8), "uint8"),
        (torch.full((3, 2, 1, 1), 1.5), "up to 1.5"),
        (torch.full((3, 2, 1, 1), torch.nan), "nan"),
    ],
)
def test_what_is_no_points_is_refused(points, message):
    with pytest.raises(ValueError, match=message):
        PointData("x", points)


def test_the_features_of_points_are_their_coordinates(grid):
    assert features_for("grid9") == features_for("grid9", "points") == "points"
    outputs = extract_with_logits(grid, "points", batch_size=999)
    assert torch.equal(outputs.features, grid.points) and outputs.logits.shape == (20_000, 0)
    reference = Reference.build(grid, "points")
    moved = grid.points + torch.tensor([0.3, 0.4])
    assert compare(moved, reference)["fid"] == pytest.approx(
        0.25, abs=1e-4
    )  # the squared distance of the means
    half = grid.points[:5000]
    expected = frechet_distance(moments(half), moments(grid.points))
    assert compare(half, reference)["fid"] == pytest.approx(expected)


def test_features_of_images_and_of_points_are_not_mistaken_for_each_other(grid):
    with pytest.raises(ValueError, match="are for images, but the data set 'grid9' is points"):
        features_for("grid9", "inception-v3-compat")
    with pytest.raises(ValueError, match="are for grid9 only"):
        features_for("digits", "points")
    with pytest.raises(ValueError, match=r"uint8; expected float32 \(N, 2, 1, 1\)"):
        Reference.build(load("digits"), "points")
    with pytest.raises(ValueError, match="expected uint8"):
        Reference.build(grid, "digits-cnn-v1")
    with pytest.raises(ValueError, match="belong to inception"):
        extractor("points", weights="a.pth")
