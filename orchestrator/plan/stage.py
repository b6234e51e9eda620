"""The nodes of the work: stages, each keyed by its content.

    features (a network of the data's own, where it is asked for)
        -> reference (features of the data)  -------------\
    teacher -> student(20) -> student(4) -> student(1) ->  evaluation

A key is the hash of exactly the settings that can change the result, the parents' keys and the
data's fingerprint. Names, comments, storage, tracking, cluster and checkpoint settings are no part
of it. """

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
    ReferenceSpec,
    Spec,
    StudentSpec,
    TeacherSpec,
)

FORMAT = {  # raise one when code changes its results
    "features": 1,
    "reference": 2,
    "teacher": 3,
    "student": 3,
    "evaluation": 3,
}
TRAINING = ("teacher", "student")
UNKNOWN = "unknown"  # how the stand-in for the fingerprint of data that are not here begins


@dataclass(frozen=True)
class Stage:
    """One computation: its `spec`, and the stages that it builds on.

    `recorded` is the key of a stage that was read from a sweep's folder: it stays what it was when
    the stage was planned, whatever FORMAT is now."""

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
        """What of the spec is hashed, as JSON takes it."""
        return self.spec.content

    @cached_property
    def key(self) -> str:
        """20 hexadecimal digits of the sha256 of everything that can change the result."""
        return self.recorded or self._hashed(self.content)

    def _hashed(self, content: dict[str, Any]) -> str:
        whole = [self.kind, FORMAT[self.kind], content, [p.key for p in self.parents]]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def data(self) -> DataRef:
        """The data that the stage is about."""
        if isinstance(self.spec, TeacherSpec | ReferenceSpec | FeaturesSpec):
            return self.spec.data
        return self.parents[0].data

    @property
    def known(self) -> bool:
        """Whether the key is that of a result: False where the data were not read, so that nobody
        knows their fingerprint."""
        return not self.data.fingerprint.startswith(UNKNOWN)

    @property
    def training_spec(self) -> TeacherSpec | StudentSpec:
        """The spec of a teacher or student."""
        assert isinstance(self.spec, TeacherSpec | StudentSpec)
        return self.spec

    @property
    def student(self) -> Student | None:
        """How a student is trained and sampled; None of a teacher."""
        return self.spec.student if isinstance(self.spec, StudentSpec) else None

    @property
    def evaluation_spec(self) -> EvaluationSpec:
        """The spec of an evaluation."""
        assert isinstance(self.spec, EvaluationSpec)
        return self.spec

    @property
    def reference_spec(self) -> ReferenceSpec:
        """The spec of a reference."""
        assert isinstance(self.spec, ReferenceSpec)
        return self.spec

    @property
    def stream(self) -> str:
        """The name of the stage's stream of random numbers, made of what is in its key. Stages that
        differ in other settings draw the same numbers under the same seed, so that their results
        can be compared in pairs."""
        return self.training_spec.stream

    @property
    def steps(self) -> int:
        """Training steps of a teacher or student."""
        return self.training_spec.optimise.steps

    @property
    def jumps(self) -> bool:
        """Whether this is a student that jumps: its network is also told where each step ends."""
        return self.student is not None and self.student.jumps

    @cached_property
    def family(self) -> str | None:
        """What all training stages share that differ in their steps alone, None where a longer
        training is another from its first step on: a cosine reaches down to its own last step."""
        if self.kind not in TRAINING or self.training_spec.optimise.schedule != "constant":
            return None
        optimise = {k: v for k, v in self.content["optimise"].items() if k != "steps"}
        return self._hashed({**self.content, "optimise": optimise})

    def lineage(self) -> tuple["Stage", ...]:
        """Who taught whom, from the teacher to this one."""
        before = self.parents[0].lineage() if self.kind == "student" else ()
        return (*before, self) if self.kind in TRAINING else self.parents[0].lineage()

    @property
    def teacher(self) -> "Stage":
        """The teacher at the beginning of the chain; of a teacher itself."""
        return self.lineage()[0]

    @property
    def teacher_spec(self) -> TeacherSpec:
        """The spec of the teacher at the beginning of the chain."""
        spec = self.teacher.spec
        assert isinstance(spec, TeacherSpec)
        return spec

    def training(self) -> tuple["Stage", ...]:
        """This training stage and all that have to be trained before it, parents first."""
        before = [stage for parent in self.parents for stage in parent.training()]
        return (*dict.fromkeys(before), self)
