"""Stages, the nodes of the computation, each with a key that is the hash of its content.

    features (a network trained on the data, if the run needs it)
        -> reference (features of the data), one or two --\
    teacher -> student(20) -> student(4) -> student(1) ->  evaluation
        -> pairs (noise, and where the teacher arrives from it) -> student

A key is the hash of exactly the settings that can change the result, the parents' keys and the
data's fingerprint. Names, comments, storage, tracking, cluster and checkpoint settings do not enter
it."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.methods.distiller_kind import Student
from orchestrator.plan.specs import (
    DataRef,
    EvaluationSpec,
    FeaturesSpec,
    PairsSpec,
    ReferenceSpec,
    Spec,
    StudentSpec,
    TeacherSpec,
)

FORMAT = {  # to be raised when a change of code changes the results
    "features": 1,
    "reference": 2,
    "teacher": 3,
    "pairs": 1,
    "student": 3,
    "evaluation": 4,
}
TRAINING = ("teacher", "student")
CHAIN = ("teacher", "pairs", "student")  # what a worker group makes
UNKNOWN = "unknown"  # prefix of the placeholder for the fingerprint of data that were not read


@dataclass(frozen=True)
class Stage:
    """One computation: its `spec`, and the stages whose results it uses.

    `recorded`: the key of a stage that was read from a sweep's folder. It is the key with which the
    stage was planned, even if FORMAT has changed."""

    spec: Spec = field(hash=False)
    parents: tuple["Stage", ...] = ()
    label: str = field(default="", compare=False)
    recorded: str = field(default="", compare=False)

    @property
    def kind(self) -> str:
        """teacher, student, evaluation, reference or features."""
        return self.spec.kind

    @cached_property
    def content(self) -> dict[str, Any]:
        """The part of the spec that is hashed, for JSON."""
        return self.spec.content

    @cached_property
    def key(self) -> str:
        """The first 20 hexadecimal digits of the sha256 of all that can change the result."""
        return self.recorded or self._hashed(self.content)

    def _hashed(self, content: dict[str, Any]) -> str:
        whole = [self.kind, FORMAT[self.kind], content, [p.key for p in self.parents]]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def data(self) -> DataRef:
        """The data of the stage."""
        if isinstance(self.spec, TeacherSpec | ReferenceSpec | FeaturesSpec):
            return self.spec.data
        return self.parents[0].data

    @property
    def known(self) -> bool:
        """Whether the key can belong to a result; False if the data were not read, so that their
        fingerprint is unknown."""
        return not self.data.fingerprint.startswith(UNKNOWN)

    @property
    def training_spec(self) -> TeacherSpec | StudentSpec:
        """The spec of a teacher or student."""
        assert isinstance(self.spec, TeacherSpec | StudentSpec)
        return self.spec

    @property
    def student(self) -> Student | None:
        """The distillation settings of a student; None for other stages."""
        return self.spec.student if isinstance(self.spec, StudentSpec) else None

    @property
    def pairs_spec(self) -> PairsSpec:
        """The spec of pairs."""
        assert isinstance(self.spec, PairsSpec)
        return self.spec

    @property
    def pairs(self) -> "Stage | None":
        """The pairs on which a student learns; None if there are none."""
        return next((parent for parent in self.parents if parent.kind == "pairs"), None)

    @property
    def start(self) -> "Stage":
        """The stage whose weights initialise a student: that of its parents if it has two, else its
        teacher."""
        return [parent for parent in self.parents if parent.kind in TRAINING][-1]

    @property
    def evaluation_spec(self) -> EvaluationSpec:
        """The spec of an evaluation."""
        assert isinstance(self.spec, EvaluationSpec)
        return self.spec

    @property
    def references(self) -> tuple["Stage", ...]:
        """The references of an evaluation: that of its metrics, and that of `fid_second` if it has
        one."""
        return self.parents[1:]

    @property
    def reference_spec(self) -> ReferenceSpec:
        """The spec of a reference."""
        assert isinstance(self.spec, ReferenceSpec)
        return self.spec

    @property
    def stream(self) -> str:
        """The name of the stage's random stream, which is part of its key. Stages that differ in
        other settings use the same random numbers for the same seed, so that their results can be
        compared in pairs."""
        return self.training_spec.stream

    @property
    def steps(self) -> int:
        """Training steps of a teacher or student."""
        return self.training_spec.optimise.steps

    def average(self, ema: float | None) -> float | None:
        """The decay of the further average of a training stage that the setting `sampling.ema`
        means; None: its first one, of decay `optimise.ema`."""
        return None if ema == self.training_spec.optimise.ema else ema

    @property
    def jumps(self) -> bool:
        """Whether this is a student that jumps: its network also takes the end time of each step."""
        return self.student is not None and self.student.jumps

    @cached_property
    def family(self) -> str | None:
        """A hash that training stages share if they differ only in their number of steps. None if a
        longer training differs from its first step on: a cosine schedule depends on its last step."""
        if self.kind not in TRAINING or self.training_spec.optimise.schedule != "constant":
            return None
        optimise = {k: v for k, v in self.content["optimise"].items() if k != "steps"}
        return self._hashed({**self.content, "optimise": optimise})

    def lineage(self) -> tuple["Stage", ...]:
        """The chain of teachers of a training stage, from the first teacher to the stage itself;
        for other stages that of the sampled network."""
        if self.kind == "teacher":
            return (self,)
        taught_by = self.parents[0].lineage()
        return (*taught_by, self) if self.kind == "student" else taught_by

    @property
    def teacher(self) -> "Stage":
        """The teacher at the start of the chain; for a teacher the stage itself."""
        return self.lineage()[0]

    @property
    def teacher_spec(self) -> TeacherSpec:
        """The spec of the teacher at the start of the chain."""
        spec = self.teacher.spec
        assert isinstance(spec, TeacherSpec)
        return spec

    def training(self) -> tuple["Stage", ...]:
        """This training stage and all that must be trained before it, parents first."""
        required = [stage for parent in self.parents for stage in parent.training()]
        return (*dict.fromkeys(required), self)
