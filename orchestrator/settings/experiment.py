"""An experiment: all its settings as one frozen value. `loading` makes it from a file and checks
it."""

from typing import Any

import yaml
from pydantic import Field, PrivateAttr

from orchestrator.fields.block import Block
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
    """One complete run, and, in `sweep`, what to vary of it. Built by `loading`: `load`, `parse`
    and `override`."""

    name: Name = Field(
        description="Name of the experiment, in MLflow too: letters, digits and -_. but not a dot first."
    )
    seed: Seed = Field(default=0, description="Seed of every random number, 0 to 4294967295.")
    storage: Storage = Field(
        default="runs",
        description="Stages, sweeps and the tracking store: a folder that all machines see, or s3://BUCKET/PREFIX.",
    )
    plugins: Texts = Field(
        default=(),
        description="Plugins, which add kinds: importable modules, or .py files beside this file.",
    )
    data: Data = Field(description="What is learned.")
    path: Path = Field(description="The way from data to noise.")
    model: Model = Field(default={}, validate_default=True, description="The network.")
    teacher: Teacher = Field(default=Teacher(), description="Training of the teacher.")
    distill: Distill = Field(
        default={}, validate_default=True, description="Distillation into students of few steps."
    )
    sampling: Sampling = Field(default=Sampling(), description="How images are drawn.")
    evaluation: Evaluation = Field(default=Evaluation(), description="What is measured.")
    checkpoint: Checkpoint = Field(
        default=Checkpoint(), description="How often unfinished training is saved."
    )
    cluster: Cluster = Field(default=Cluster(), description="Workers and what each of them holds.")
    tracking: Tracking = Field(default=Tracking(), description="Where results are logged.")
    sweep: Sweep | None = Field(default=None, description="What to vary; null: a single run.")

    # in words, the keys of the file that a kind set by --set does not have
    _left_out: tuple[str, ...] = PrivateAttr(default=())

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of the file was left out, in words, since the kinds set from elsewhere lack it."""
        return self._left_out

    def has(self, key: str) -> bool:
        """Whether there is a setting of this dotted key: False for one of another kind."""
        block, _, field = key.partition(".")
        return not field or field in type(getattr(self, block)).model_fields

    def value(self, key: str) -> Any:
        """The plain value (lists, not tuples) of a dotted key such as `path.damping`; None for a key
        that the block's kind does not have."""
        block, _, field = key.partition(".")
        plain = self.model_dump(mode="json", include={block})[block]
        return plain.get(field) if field else plain

    def used_plugins(self) -> list[Plugin]:
        """The plugins that define a kind which this experiment, or its sweep, uses, each once."""
        space = {} if self.sweep is None else self.sweep.space
        kinds: list[type[Kind] | None] = []
        for family in (*FAMILIES.values(), FeatureKind.family):
            key = f"{family.block}.{family.key}"
            names = [self.value(key), *(space[key].values if key in space else ())]
            kinds += [family.kinds.get(name) for name in names]
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
