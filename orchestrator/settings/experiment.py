"""An experiment: all settings as one frozen value. `loading` reads it from a file and checks it."""

from typing import Any

import yaml
from pydantic import Field, PrivateAttr

from orchestrator.fields.block import Block
from orchestrator.fields.elements import Element, element
from orchestrator.fields.field_types import Name, Seed, Storage, Texts
from orchestrator.fields.kind import FAMILIES, Kind
from orchestrator.fields.plugins import Plugin
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.settings.blocks import (
    Checkpoint,
    Cluster,
    Data,
    Distill,
    Evaluation,
    Model,
    Path,
    Sampling,
    Teacher,
    Tracking,
)
from orchestrator.settings.sweep_block import Sweep


class Experiment(Block):
    """The settings of one complete run and, in `sweep`, the settings to vary. `load`, `parse` and
    `override` of `loading` build it."""

    name: Name = Field(
        description="Name of the experiment, also in MLflow: letters, digits and -_. without a leading dot."
    )
    seed: Seed = Field(default=0, description="Seed of all random numbers, 0 to 4294967295.")
    storage: Storage = Field(
        default="runs",
        description="Location of stages, sweeps and the tracking store: a folder shared by all machines, or "
        "s3://BUCKET/PREFIX.",
    )
    plugins: Texts = Field(
        default=(),
        description="Plugins that add kinds: importable modules, or .py files next to this file.",
    )
    data: Data = Field(description="The data set.")
    path: Path = Field(description="The probability path from data to noise.")
    model: Model = Field(default={}, validate_default=True, description="The network.")
    teacher: Teacher = Field(default=Teacher(), description="Training of the teacher.")
    distill: Distill = Field(
        default={}, validate_default=True, description="Distillation into students of few steps."
    )
    sampling: Sampling = Field(default=Sampling(), description="How images are sampled.")
    evaluation: Evaluation = Field(default=Evaluation(), description="What is measured.")
    checkpoint: Checkpoint = Field(
        default=Checkpoint(), description="How often unfinished training is saved."
    )
    cluster: Cluster = Field(default=Cluster(), description="Workers and the resources of each.")
    tracking: Tracking = Field(default=Tracking(), description="Where results are logged.")
    sweep: Sweep | None = Field(default=None, description="What to vary; null: a single run.")

    # messages about keys of the file that a kind set with --set does not have
    _left_out: tuple[str, ...] = PrivateAttr(default=())
    _bases: tuple[str, ...] = PrivateAttr(default=())

    @property
    def left_out(self) -> tuple[str, ...]:
        """Messages about keys of the file, or of its base, that were ignored because the kinds set
        with --set, or in the file, do not have them."""
        return self._left_out

    @property
    def bases(self) -> tuple[str, ...]:
        """The files on which the experiment's file builds, the nearest first."""
        return self._bases

    def has(self, key: str) -> bool:
        """Whether there is a setting of this dotted key: False for one of another kind."""
        if (where := element(key)) is not None:
            item = self.item(where)
            return item is not None and where.name in item.setting_names()
        block, _, field = key.partition(".")
        return not field or field in type(getattr(self, block)).model_fields

    def value(self, key: str) -> Any:
        """The value of a dotted key such as `path.damping` as JSON has it (lists, not tuples); None
        if the block's kind does not have the key."""
        if (where := element(key)) is not None:
            item = self.item(where)
            return None if item is None else item.model_dump(mode="json").get(where.name)
        block, _, field = key.partition(".")
        plain = self.model_dump(mode="json", include={block})[block]
        return plain.get(field) if field else plain

    def flat(self) -> dict[str, Any]:
        """All settings by dotted key, as JSON has them; `sweep` by its own keys."""
        plain = self.model_dump(mode="json")
        settings: dict[str, Any] = {}
        for name, value in plain.items():
            if isinstance(value, dict):
                settings |= {f"{name}.{key}": inner for key, inner in value.items()}
            else:
                settings[name] = value
        return settings

    def item(self, where: Element) -> Any:
        """An element of a list of blocks, which has `setting_names()`; None if there is none."""
        items: Any = getattr(getattr(self, where.block, None), where.field, None)
        if not isinstance(items, tuple) or where.number >= len(items):
            return None
        return items[where.number]

    def used_plugins(self) -> list[Plugin]:
        """The plugins whose kinds this experiment or its sweep uses, without duplicates."""
        space = {} if self.sweep is None else self.sweep.space
        kinds: list[type[Kind] | None] = []
        for family in (*FAMILIES.values(), FeatureKind.family):
            key = f"{family.block}.{family.key}"
            names = [self.value(key)]
            if key in space:
                names += space[key].values
            kinds += [family.kinds.get(name) for name in names]
        for family in FAMILIES.values():
            kinds += [type(part) for part in getattr(self, family.block).parts()]
        plugins = [kind.plugin() for kind in kinds if kind is not None]
        return list(dict.fromkeys(plugin for plugin in plugins if plugin is not None))

    def absolute(self) -> "Experiment":
        """The same for processes that run in other folders: with absolute paths of the data and of
        weights."""
        return self.model_copy(
            update={"data": self.data.absolute(), "evaluation": self.evaluation.absolute()}
        )

    def to_yaml(self) -> str:
        """All settings, defaults included, as a file that `load` reads back to an equal
        experiment."""
        plain = self.model_dump(mode="json")
        return yaml.safe_dump(
            plain, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
        )
