"""The same few seeds drawn by every network at every NFE, so that the eye can compare."""

import io
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.reports.aggregates import Results, Spread
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError

SEEDS = 16
ROWS = 40  # strips at most: each is some tens of kilobytes of the page
LARGEST = 64  # pixels a side that larger images are shown with
EXACT = 32  # pixels a side up to which images are shown as they are, pixel by pixel
SCATTER = 128  # pixels a side of a picture of points
POINTS_SEEN = 1.1  # and the coordinates at its edges

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Strip:
    """The first samples of one evaluation side by side, under the same seed as every other
    strip's."""

    label: str
    nfe: int
    value: Spread | None
    pixels: Pixels
    exact: bool = True  # whether a pixel of the sample is a pixel here

    def encoded(self) -> tuple[str, bytes]:
        """The media type and the file: small images without loss."""
        buffer = io.BytesIO()
        kind = "PNG" if self.exact else "JPEG"
        Image.fromarray(self.pixels).save(buffer, kind, **({} if self.exact else {"quality": 88}))
        return f"image/{kind.lower()}", buffer.getvalue()


def strips(results: Results, features: str) -> tuple[list[Strip], int]:
    """A strip for each network and NFE, those of the best networks, and how many there could be.
    Teachers come first, then it goes by the order of the trials, and for each network by falling
    NFE."""
    networks: dict[str, dict[str, tuple[Trial, Spread | None]]] = defaultdict(dict)
    for trial, value in _of_one_seed(results, features):
        networks[results.line(trial)].setdefault(trial.key, (trial, value))
    found: list[tuple[bool, int, list[Strip]]] = []
    for label, members in networks.items():
        room = ROWS - sum(len(made) for _, _, made in found)
        made = [
            s
            for trial, value in list(members.values())[:room]
            if (s := _strip(results, trial, value))
        ]
        first = min(trial.index for trial, _ in members.values())
        found.append((label.startswith("student"), first, sorted(made, key=lambda s: -s.nfe)))
    ordered = sorted(found, key=lambda f: f[:2])
    return [strip for _, _, made in ordered for strip in made], sum(map(len, networks.values()))


def _of_one_seed(results: Results, features: str) -> list[tuple[Trial, Spread | None]]:
    """The measured trials under the seed that most of them share, best settings first."""
    measured = [
        (t, s.values.get(results.metric))
        for s in results.settings
        for t in s.trials
        if results.numbers(t) and s.features == features
    ]
    seeds = Counter(t.config.seed for t, _ in sorted(measured, key=lambda m: m[0].index))
    return [(t, value) for t, value in measured if t.config.seed == seeds.most_common(1)[0][0]]


def _strip(results: Results, trial: Trial, value: Spread | None) -> Strip | None:
    assert trial.evaluation is not None
    tiles = _tiles(results, trial.evaluation)
    if tiles is None or not len(tiles):
        return None
    nfe = int(results.numbers(trial).get("nfe", 0))
    return Strip(
        results.line(trial), nfe, value, _joined(tiles), tiles.shape[1] <= EXACT or len(tiles) == 1
    )


def _tiles(results: Results, stage: Stage) -> Pixels | None:
    """The first samples, (N, H, W, 3), or one picture of all of them where they are points; None
    where there are none that can be read: a report is made of what is there."""
    try:
        result = results.records.store.result(stage.key)
        if result.has("samples.npz"):
            with np.load(result.path("samples.npz")) as file:
                if "points" in file:
                    return _scatter(file["points"])[None]
                return _small(np.asarray(file["images"][:SEEDS], np.uint8))
        return _of_grid(result.path(layout.SAMPLES))
    except DamagedError as e:
        results.records.damaged |= e.problems
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _of_grid(path: Path) -> Pixels:
    """The first samples of a saved grid: eight in a row, two pixels apart."""
    with Image.open(path) as picture:
        grid = np.asarray(picture.convert("RGB"))
    side = (grid.shape[1] - 2) // 8 - 2
    corners = [(2 + i // 8 * (side + 2), 2 + i % 8 * (side + 2)) for i in range(SEEDS)]
    whole = [(y, x) for y, x in corners if side > 0 and y + side <= grid.shape[0]]
    if not whole:
        raise ValueError(f"{path}: no grid of samples")
    return _small(np.stack([grid[y : y + side, x : x + side] for y, x in whole]))


def _small(images: Pixels) -> Pixels:
    """Images in colour, and no larger than LARGEST."""
    if images.shape[-1] == 1:
        images = images.repeat(3, axis=-1)
    if images.shape[1] <= LARGEST:
        return images
    size = (LARGEST, LARGEST)
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
            for image in images
        ]
    )


def _joined(tiles: Pixels) -> Pixels:
    """The tiles side by side, a white pixel between two."""
    edged = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    return np.concatenate(list(edged), axis=1)[:, :-1]


def _scatter(points: NDArray[Any]) -> Pixels:
    """All points in gray-blue and the first few, larger, in orange."""
    picture = np.full((SCATTER, SCATTER, 3), 255, np.uint8)
    scaled = (points * [1, -1] + POINTS_SEEN) / (2 * POINTS_SEEN) * (SCATTER - 1)
    at = np.rint(scaled[np.isfinite(scaled).all(1)]).astype(int)
    at = at[((at > 0) & (at < SCATTER - 1)).all(1)]
    picture[at[:, 1], at[:, 0]] = (0x56, 0xB4, 0xE9)
    for x, y in at[:SEEDS]:
        picture[y - 1 : y + 2, x - 1 : x + 2] = (0xD5, 0x5E, 0x00)
    return picture
