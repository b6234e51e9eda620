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

FORMAT = {  # raise one when code changes its results
    "features": 1,
    "reference": 2,
    "teacher": 3,
    "student": 3,
    "evaluation": 3,
}
TRAINING = ("teacher", "student")
# what a setting is when it does nothing: it is left out then, so that a new setting changes no old
# key
OFF = {
    "scale_shift": True,
    "attention_in": "all",
    "resample": "residual",
    "flip": False,
    "augment": 0.0,
    "restarts": 0,
    "accumulate": 1,
    "precision": "float32",
    "start": "previous",
    "times": None,
    "gamma": 0.0,
    "shaping": 0.0,
    "huber": None,
}

UNKNOWN = (
    "unknown"  # how the stand-in for a fingerprint begins where the data are not on this machine
)


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` without those that are off."""
    return {k: v for k, v in settings.items() if k not in OFF or v != OFF[k]}


@dataclass(frozen=True)
class Stage:
    """One computation: its `kind`, the `config` that its result depends on, and the stages it
    builds on.

    `recorded` is the key of a stage that was read from a sweep's folder: it stays what it was when
    the stage was planned, whatever FORMAT is now."""

    kind: str
    config: dict[str, Any] = field(hash=False)
    parents: tuple["Stage", ...] = ()
    label: str = field(default="", compare=False)
    recorded: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """20 hexadecimal digits of the sha256 of everything that can change the result."""
        content = [self.kind, FORMAT[self.kind], self.config, [p.key for p in self.parents]]
        return (
            self.recorded
            or hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
        )

    @property
    def data(self) -> dict[str, Any]:
        """The name and the fingerprint of the data that the stage is about."""
        return self.config["data"] if "data" in self.config else self.parents[0].data

    @property
    def known(self) -> bool:
        """Whether the key is that of a result: False where the data were not read, so that nobody
        knows their fingerprint."""
        return not self.data["fingerprint"].startswith(UNKNOWN)

    @property
    def stream(self) -> str:
        """The name of the stage's stream of random numbers, made of what is in its key. Stages that
        differ in other settings draw the same numbers under the same seed, so that their results
        can be compared in pairs."""
        if self.kind == "teacher":
            return self.kind
        distiller = self.config["distiller"]
        intervals = (
            [str(self.config["intervals"])] if "substeps" in self.config else []
        )  # a student of a chain
        return " ".join([self.kind, *([] if distiller == "endpoint" else [distiller]), *intervals])

    @property
    def steps(self) -> int:
        """Training steps of a teacher or student."""
        return int(self.config["optimise"]["steps"])

    @property
    def jumps(self) -> bool:
        """Whether this is a student of consistency: its network is also told where each step
        ends."""
        return self.config.get("distiller") == "consistency"

    @cached_property
    def family(self) -> str | None:
        """What all training stages share that differ in their steps alone, None where a longer
        training is another from its first step on: a cosine reaches down to its own last step."""
        if self.kind not in TRAINING or self.config["optimise"]["schedule"] != "constant":
            return None
        shared = {
            **self.config,
            "optimise": {k: v for k, v in self.config["optimise"].items() if k != "steps"},
        }
        return Stage(self.kind, shared, self.parents).key

    def lineage(self) -> tuple["Stage", ...]:
        """Who taught whom, from the teacher to this one."""
        before = self.parents[0].lineage() if self.kind == "student" else ()
        return (*before, self) if self.kind in TRAINING else self.parents[0].lineage()

    def training(self) -> tuple["Stage", ...]:
        """This training stage and all that have to be trained before it, parents first."""
        before = [stage for parent in self.parents for stage in parent.training()]
        return (*dict.fromkeys(before), self)
