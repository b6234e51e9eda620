"""What data sets and networks demand of their settings."""

from collections.abc import Iterable

from orchestrator.settings.blocks import Model
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.faults import describe
from orchestrator.settings.rules.rule import rule


def level_sizes(size: int, levels: int) -> list[int]:
    """The image size at each level of a U-Net; shorter than `levels` where a size cannot be
    halved."""
    sizes = [size]
    while len(sizes) < levels and sizes[-1] % 2 == 0 and sizes[-1] >= 4:
        sizes.append(sizes[-1] // 2)
    return sizes


def _sizes(experiment: Experiment) -> list[int]:
    """The image size at each level; none where it is not known or of points, faults that other
    rules tell."""
    facts, model = experiment.data.facts, experiment.model
    known = facts.size and not facts.points
    return (
        level_sizes(facts.size // model.patch, len(model.multipliers))
        if facts.size and known
        else []
    )


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


@rule("data.root", "data.name")
def _data_has_a_root(experiment: Experiment) -> str | None:
    data = experiment.data
    needs = data.root is None and not data.facts.packaged
    return f"got null, expected the folder with the data of {data.name}" if needs else None


@rule("data.size", "data.name")
def _a_folder_has_a_size(experiment: Experiment) -> str | None:
    data = experiment.data
    if (data.name == "folder") == (data.size is not None):
        return None
    if data.size is None:
        return "got null, expected the pixels a side that the images of folder are cropped and resized to"
    return f"got {data.size}, expected null: images of {data.name} have {data.facts.size} pixels a side"


@rule("data.limit", "data.name")
def _bedrooms_have_a_limit(experiment: Experiment) -> str | None:
    data = experiment.data
    sound = data.limit is None or data.name == "lsun_bedroom256"
    return (
        None if sound else f"got {data.limit}, expected null: all images of {data.name} are taken"
    )


@rule("data.background", "data.name")
def _only_own_images_have_a_background(experiment: Experiment) -> str | None:
    data = experiment.data
    if data.name == "folder" or data.background == "white":
        return None
    return f"got {describe(data.background)}, expected white, the default: no image of {data.name} is transparent"


@rule("data.split", "data.name")
def _only_own_images_have_splits(experiment: Experiment) -> str | None:
    data = experiment.data
    sound = data.name == "folder" or data.split is None
    return (
        None
        if sound
        else f"got {describe(data.split)}, expected null: what is read of {data.name} is given"
    )


@rule("data.split", "data.name")
def _a_split_is_a_name(experiment: Experiment) -> str | None:
    split = experiment.data.split
    if (
        experiment.data.name != "folder"
        or split is None
        or not ({"/", "\\"} & {*split} or split in (".", ".."))
    ):
        return None
    return f"got {describe(split)}, expected the name of a folder in data.root, such as train"


@rule("data.skip_damaged", "data.name")
def _only_own_images_may_be_skipped(experiment: Experiment) -> str | None:
    data = experiment.data
    sound = data.name == "folder" or not data.skip_damaged
    return (
        None
        if sound
        else f"got true, expected false: images of {data.name} that are damaged have to be got anew"
    )


@rule("data.download", "data.name")
def _data_can_be_downloaded(experiment: Experiment) -> str | None:
    data = experiment.data
    if not data.download or data.facts.fetched:
        return None
    why = (
        "comes with a package"
        if data.facts.packaged
        else "cannot be downloaded, its files have to be in data.root"
    )
    return f"got true, expected false: {data.name} {why}"


@rule("data.flip", "data.name")
def _points_are_not_flipped(experiment: Experiment) -> str | None:
    data = experiment.data
    return (
        f"got true, expected false: {data.name} is points, not images"
        if data.flip and data.facts.points
        else None
    )


@rule("model.kind", "data.name")
def _points_take_an_mlp(experiment: Experiment) -> str | None:
    kind, data = experiment.model.kind, experiment.data
    if kind == "mlp" or not data.facts.points:
        return None
    return f"got {kind}, expected mlp: {data.name} is points in the plane, which have no neighbouring pixels"


@rule("model.patch", "model.kind", "data.name", "data.size")
def _patch_divides(experiment: Experiment) -> str | None:
    if experiment.model.kind == "mlp" or experiment.data.facts.points:
        return None
    size, patch = experiment.data.facts.size, experiment.model.patch
    return (
        f"got {patch}, expected a divisor of the image size, {size}"
        if size and size % patch
        else None
    )


@rule("model.multipliers", "model.kind", "model.patch", "data.name", "data.size")
def _levels_fit(experiment: Experiment) -> str | None:
    if experiment.model.kind != "unet":
        return None
    multipliers, sizes = experiment.model.multipliers, _sizes(experiment)
    if not sizes or len(sizes) == len(multipliers):
        return None
    got = f"got {describe(multipliers)}, expected at most {len(sizes)} levels"
    return f"{got}: images of {experiment.data.name} have the sizes {_listed(sizes)}, and {sizes[-1]} cannot be halved"


@rule("model.attention", "model.kind", "model.multipliers", "model.patch", "data.name", "data.size")
def _attention_at_level_sizes(experiment: Experiment) -> str | None:
    if experiment.model.kind != "unet":
        return None
    sizes, attention = _sizes(experiment), experiment.model.attention
    if not sizes or set(attention) <= set(sizes):
        return None
    return f"got {describe(attention)}, expected image sizes of this U-Net for {experiment.data.name}: {_listed(sizes)}"


@rule(
    "model.head_channels",
    "model.kind",
    "model.attention",
    "model.channels",
    "model.multipliers",
    "model.patch",
    "data.name",
    "data.size",
)
def _heads_divide_widths(experiment: Experiment) -> str | None:
    model = experiment.model
    if model.kind == "mlp":
        return None
    if model.kind == "dit":
        wrong = model.channels % model.head_channels
        return (
            f"got {model.head_channels}, expected a divisor of model.channels, {model.channels}"
            if wrong
            else None
        )
    for size, width in _attended_widths(model, _sizes(experiment)):
        if width > model.head_channels and width % model.head_channels:
            got = f"got {model.head_channels}, expected a divisor of {width}"
            return f"{got}: attention at size {size} has {width} channels (model.channels, model.multipliers)"
    return None


def _attended_widths(model: Model, sizes: list[int]) -> Iterable[tuple[int, int]]:
    """(size, channels) of each block with attention: a level's own, and those that resample from
    its neighbours."""
    widths = [model.channels * multiplier for multiplier in model.multipliers]
    for level, size in enumerate(sizes):
        if size in model.attention:
            yield from ((size, width) for width in widths[max(0, level - 1) : level + 2])
