"""The typed settings of a stage, and `content`, the part of them that is hashed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kaccore.metrics.features import OwnTraining
from orchestrator.fields.content import stated
from orchestrator.fields.plugins import Plugin
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.distiller_kind import DistillerKind, PairSettings, Student
from orchestrator.methods.network_kind import NetworkKind
from orchestrator.methods.path_kind import PathKind
from orchestrator.settings.blocks import Sampling


@dataclass(frozen=True)
class DataRef:
    """The data of a stage: their name, the fingerprint of their content, and the source hash of a
    plugin that defines them."""

    name: str
    fingerprint: str
    plugin: str = ""

    @classmethod
    def of(cls, data: DatasetKind, fingerprint: str) -> "DataRef":
        """The data with these settings and this fingerprint."""
        plugin = data.plugin()
        return cls(data.name, fingerprint, plugin.content["plugin"] if plugin else "")

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        plugin = {"plugin": self.plugin} if self.plugin else {}
        return {"name": self.name, "fingerprint": self.fingerprint, **plugin}


@dataclass(frozen=True)
class Optimise:
    """How a network is optimised: see `orchestrator.methods.optimised` for each setting."""

    steps: int
    lr: float
    ema: float
    batch_size: int
    schedule: str
    restarts: int = 0
    warmup: int = 0
    clip: float | None = None
    accumulate: int = 1
    precision: str = "float32"
    calibrate: bool = False
    averages: tuple[float, ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        content = stated(asdict(self))
        if "averages" in content:
            content["averages"] = list(self.averages)
        return content

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "Optimise":
        """The settings that have this `content`."""
        return cls(**{**content, "averages": tuple(content.get("averages", ()))})


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher: the network `model` that learns the velocity of `path` on the data. `weights`: the
    SHA-256 of a file with its weights, which are then not trained; `weights_names`: see
    `kaccore.foreign.renamed`."""

    kind = "teacher"

    data: DataRef
    path: PathKind
    model: NetworkKind
    label_dropout: float | None
    optimise: Optimise
    seed: int
    flip: bool = False
    augment: float = 0.0
    logit_normal: tuple[float, float] | None = None
    weights: str | None = None
    weights_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        """The name of its random stream."""
        return self.kind

    @property
    def labelled(self) -> bool:
        """Whether the network takes labels as an input, if the data have labels."""
        return self.label_dropout is not None

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        settings = {
            "data": self.data.content,
            "path": self.path.content(),
            "model": self.model.content(),
            "label_dropout": self.label_dropout,
            "flip": self.flip,
            "augment": self.augment,
            "logit_normal": self.logit_normal,
            "weights": self.weights,
            "weights_names": dict(self.weights_names),
            "optimise": self.optimise.content,
            "seed": self.seed,
        }
        return stated(settings)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "TeacherSpec":
        """The spec that has this `content`."""
        kinds = {
            "data": DataRef(**content["data"]),
            "path": PathKind.family.of_content(content["path"]),
            "model": NetworkKind.family.of_content(content["model"]),
            "optimise": Optimise.of_content(content["optimise"]),
        }
        if content.get("logit_normal") is not None:  # JSON makes a list of it
            kinds["logit_normal"] = tuple(content["logit_normal"])
        return cls(**{**content, **kinds})


@dataclass(frozen=True)
class StudentSpec:
    """The training of a student; `student`: its distillation settings."""

    kind = "student"

    student: Student
    optimise: Optimise
    seed: int
    flip: bool = False

    @property
    def stream(self) -> str:
        """The name of its random stream."""
        return self.student.stream

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        settings = {"flip": self.flip, "optimise": self.optimise.content, "seed": self.seed}
        return {**self.student.content(), **stated(settings)}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "StudentSpec":
        """The spec that has this `content`."""
        shared = ("optimise", "seed", "flip", "plugin", "revision")
        own = {key: value for key, value in content.items() if key not in shared}
        kind = DistillerKind.family[content["distiller"]].student
        student = kind.model_validate(own, strict=False)
        optimise = Optimise.of_content(content["optimise"])
        return cls(student, optimise, content["seed"], content.get("flip", False))


@dataclass(frozen=True)
class PairsSpec:
    """Pairs of noise and where the teacher, or the student, that is the parent arrives from it."""

    kind = "pairs"

    pairs: PairSettings
    seed: int

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        return {**asdict(self.pairs), "seed": self.seed}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "PairsSpec":
        """The spec that has this `content`."""
        own = {key: value for key, value in content.items() if key != "seed"}
        return cls(PairSettings(**own), content["seed"])


@dataclass(frozen=True)
class EvaluationSpec:
    """The sampling and the evaluation of a trained network: `samples` images for each of `seeds`
    sampling seeds."""

    kind = "evaluation"

    sampling: Sampling
    samples: int
    metrics: tuple[str, ...]
    diagnostics: tuple[str, ...]
    seeds: int
    seed: int

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        return {
            "sampling": stated(self.sampling.model_dump(mode="json", exclude={"model"})),
            "samples": self.samples,
            "metrics": sorted(self.metrics),
            "diagnostics": sorted(self.diagnostics),
            "seeds": self.seeds,
            "seed": self.seed,
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any], model: str) -> "EvaluationSpec":
        """The spec that has this `content`; `model`: teacher or student, which is sampled."""
        sampling = Sampling.model_validate({**content["sampling"], "model": model})
        lists = {key: tuple(content[key]) for key in ("metrics", "diagnostics")}
        return cls(**{**content, **lists, "sampling": sampling})


@dataclass(frozen=True)
class ReferenceSpec:
    """The features of the real images by the extractor `features`. `plugin`: the plugin that
    defines the extractor, if one does."""

    kind = "reference"

    data: DataRef
    features: str
    weights_sha256: str | None
    plugin: Plugin | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        return {
            "data": self.data.content,
            "features": self.features,
            "weights_sha256": self.weights_sha256,
            **(self.plugin.content if self.plugin else {}),
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "ReferenceSpec":
        """The spec that has this `content`."""
        own = {key: value for key, value in content.items() if key != "plugin"}
        return cls(**{**own, "data": DataRef(**content["data"])})


@dataclass(frozen=True)
class FeaturesSpec:
    """A feature extractor that is trained on the data set itself."""

    kind = "features"

    data: DataRef
    training: OwnTraining

    @property
    def content(self) -> dict[str, Any]:
        """The settings that are hashed."""
        return {"data": self.data.content, "training": asdict(self.training)}

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "FeaturesSpec":
        """The spec that has this `content`."""
        return cls(DataRef(**content["data"]), OwnTraining(**content["training"]))


Spec = TeacherSpec | PairsSpec | StudentSpec | EvaluationSpec | ReferenceSpec | FeaturesSpec


def of_content(kind: str, content: Mapping[str, Any], model: str) -> Spec:
    """The spec of a stage of this `kind` that has this `content`; `model`: teacher or student, which
    an evaluation samples."""
    if kind == EvaluationSpec.kind:
        return EvaluationSpec.of_content(content, model)
    others = (TeacherSpec, PairsSpec, StudentSpec, ReferenceSpec, FeaturesSpec)
    plain = {spec.kind: spec for spec in others}
    return plain[kind].of_content(content)
