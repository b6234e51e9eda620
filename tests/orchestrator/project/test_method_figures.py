"""The figures of docs/method.md are those that the code computes and draws today."""

import json

import method_figures
import numpy as np
import pytest
from commands import REPOSITORY
from method_figures import FIGURES, IMAGES, KEPT
from PIL import Image

ROUNDING = 0.002  # another machine's arithmetic moves a trajectory by less
# of full contrast, in the mean over a square of SQUARE pixels: another font moves a letter by a
# pixel
INK = 0.1
SQUARE = 20


def squares(picture: Image.Image) -> np.ndarray:
    """The picture's darkness from 0 to 1, averaged over squares."""
    gray = picture.convert("L")
    return 1 - np.asarray(gray.reduce(SQUARE), dtype=float) / 255


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_what_the_code_computes(tmp_path, name):
    with (
        Image.open(IMAGES / f"{name}.png") as kept,
        Image.open(method_figures.write(name, tmp_path)) as made,
    ):
        numbers, computed = json.loads(kept.text[KEPT]), json.loads(made.text[KEPT])
        assert numbers.keys() == computed.keys()
        for key, array in numbers.items():
            np.testing.assert_allclose(
                computed[key], array, atol=ROUNDING, rtol=ROUNDING, err_msg=key
            )
        assert made.size == kept.size
        assert np.abs(squares(made) - squares(kept)).max() < INK


def test_each_figure_is_shown_and_described_on_the_page():
    page = (REPOSITORY / "docs" / "method.md").read_text()
    assert [name for name in FIGURES if f"](images/{name}.png)" not in page] == []
