"""Samples of every network at every NFE from the same few seeds, for comparison by eye."""

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
from orchestrator.reports import training_images
from orchestrator.reports.aggregates import Results, Spread
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError

REAL = "real images"
SEEDS = 16
ROWS = 40  # strips at most: each adds some tens of kilobytes to the page
LARGEST = 64  # pixels a side to which larger images are reduced
EXACT = 32  # pixels a side up to which images are encoded without loss
SCATTER = 128  # pixels a side of a scatter plot
SCATTER_LIMIT = 1.1  # the absolute coordinate at its edges

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Strip:
    """The first samples of one evaluation side by side, from the same seeds as every other strip; or
    real images, which have no `nfe`."""

    label: str
    nfe: int | None
    value: Spread | None
    pixels: Pixels
    exact: bool = True  # whether it is encoded without loss

    def encoded(self) -> tuple[str, bytes]:
        """The media type and the file content: PNG if `exact`, else JPEG."""
        buffer = io.BytesIO()
        kind = "PNG" if self.exact else "JPEG"
        Image.fromarray(self.pixels).save(buffer, kind, **({} if self.exact else {"quality": 88}))
        return f"image/{kind.lower()}", buffer.getvalue()

    @property
    def title(self) -> str:
        """The network and the NFE."""
        return self.label if self.nfe is None else f"{self.label}, NFE {self.nfe}"


def real_strips(results: Results, features: str) -> list[Strip]:
    """Real images as the networks of `features` see them, a strip a data set; none of points, which
    samples are drawn over."""
    measured = [trial for trial, _ in _with_common_seed(results, features)]
    found = []
    for info in {trial.facts.fingerprint: trial.facts.data for trial in measured}.values():
        png = None if info.points else training_images.png_of(results.records, info)
        images = None if png is None else training_images.tiles(png, info, SEEDS)
        if images is not None:
            tiles = _small(images)
            found.append(Strip(REAL, None, None, _side_by_side(tiles), tiles.shape[1] <= EXACT))
    return found


def strips(results: Results, features: str) -> tuple[list[Strip], int]:
    """A strip for each network and NFE, at most ROWS, of the best networks; and the number without
    that limit. Teachers come first, then networks are in the order of the trials, and each in
    decreasing order of NFE."""
    networks: dict[str, dict[str, tuple[Trial, Spread | None]]] = defaultdict(dict)
    for trial, value in _with_common_seed(results, features):
        networks[results.line_label(trial)].setdefault(trial.key, (trial, value))
    by_network: list[tuple[bool, int, list[Strip]]] = []
    free = ROWS
    for label, members in networks.items():
        candidates = [_strip(results, *member) for member in list(members.values())[:free]]
        rows = [strip for strip in candidates if strip is not None]
        free -= len(rows)
        first = min(trial.index for trial, _ in members.values())
        by_network.append(
            (label.startswith("student"), first, sorted(rows, key=lambda s: -(s.nfe or 0)))
        )
    by_network.sort(key=lambda network: network[:2])
    ordered = [strip for _, _, rows in by_network for strip in rows]
    return ordered, sum(map(len, networks.values()))


def _with_common_seed(results: Results, features: str) -> list[tuple[Trial, Spread | None]]:
    """The measured trials with the most frequent seed, and their metric; best groups first."""
    measured = []
    for group in results.groups:
        if group.features == features:
            value = group.values.get(results.metric)
            measured += [(trial, value) for trial in group.trials if results.numbers(trial)]
    seeds = Counter(t.config.seed for t, _ in sorted(measured, key=lambda m: m[0].index))
    if not seeds:
        return []
    ((common, _),) = seeds.most_common(1)
    return [(t, value) for t, value in measured if t.config.seed == common]


def _strip(results: Results, trial: Trial, value: Spread | None) -> Strip | None:
    assert trial.evaluation is not None
    tiles = _tiles(results, trial.evaluation)
    if tiles is None or not len(tiles):
        return None
    nfe = int(results.numbers(trial).get("nfe", 0))
    exact = tiles.shape[1] <= EXACT or len(tiles) == 1
    return Strip(results.line_label(trial), nfe, value, _side_by_side(tiles), exact)


def _tiles(results: Results, stage: Stage) -> Pixels | None:
    """The first samples, (N, H, W, 3); for points one scatter plot of all of them. None if they
    are missing or damaged: a report shows what there is."""
    try:
        result = results.records.store.result(stage.key)
        if result.has("samples.npz"):
            with np.load(result.path("samples.npz")) as file:
                if "points" in file:
                    return _scatter(file["points"])[None]
                return _small(np.asarray(file["images"][:SEEDS], np.uint8))
        return _tiles_of_grid(result.path(layout.SAMPLES))
    except DamagedError as e:
        results.records.damaged |= e.problems
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _tiles_of_grid(path: Path) -> Pixels:
    """The first samples of a saved grid: eight in a row, with gaps of two pixels."""
    with Image.open(path) as picture:
        grid = np.asarray(picture.convert("RGB"))
    side = (grid.shape[1] - 2) // 8 - 2
    corners = [(2 + i // 8 * (side + 2), 2 + i % 8 * (side + 2)) for i in range(SEEDS)]
    whole = [(y, x) for y, x in corners if side > 0 and y + side <= grid.shape[0]]
    if not whole:
        raise ValueError(f"{path}: no grid of samples")
    return _small(np.stack([grid[y : y + side, x : x + side] for y, x in whole]))


def _small(images: Pixels) -> Pixels:
    """The images in RGB, reduced to LARGEST pixels a side if they are larger."""
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


def _side_by_side(tiles: Pixels) -> Pixels:
    """The tiles side by side, with a gap of one white pixel."""
    edged = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    return np.concatenate(list(edged), axis=1)[:, :-1]


def _scatter(points: NDArray[Any]) -> Pixels:
    """A scatter plot of all points in light blue, the first SEEDS of them larger and in orange."""
    picture = np.full((SCATTER, SCATTER, 3), 255, np.uint8)
    scaled = (points * [1, -1] + SCATTER_LIMIT) / (2 * SCATTER_LIMIT) * (SCATTER - 1)
    at = np.rint(scaled[np.isfinite(scaled).all(1)]).astype(int)
    at = at[((at > 0) & (at < SCATTER - 1)).all(1)]
    picture[at[:, 1], at[:, 0]] = (0x56, 0xB4, 0xE9)
    for x, y in at[:SEEDS]:
        picture[y - 1 : y + 2, x - 1 : x + 2] = (0xD5, 0x5E, 0x00)
    return picture
