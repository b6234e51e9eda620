"""Several distillers in sequence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import MinLen
from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from orchestrator.fields.block import Block
from orchestrator.fields.faults import describe, nearest
from orchestrator.fields.field_types import Name, as_tuple
from orchestrator.fields.kind import Kind
from orchestrator.fields.messages import Say
from orchestrator.fields.rule import Rule, kind_rule
from orchestrator.methods.distiller_kind import FIRST_TEACHER, DistillerKind, Lesson

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment

TEACHER, PREVIOUS = "teacher", "previous"
PER_STAGE = ("steps", "lr")  # may be lists in the block, with a value for each stage


class DistillStage(Block):
    """One stage of a programme: its distiller, `method`, and how its networks depend on others.

    In a file the settings of the distiller are next to those of this block."""

    name: Name | None = Field(
        default=None, description="Name by which later stages refer to its last student."
    )
    teacher: Name = Field(
        default=TEACHER,
        description="Network that teaches: teacher, previous (the last student of the stage before) or a name.",
    )
    weights: Name = Field(
        default=PREVIOUS,
        description="Network whose weights initialise the first student: teacher, previous or a name.",
    )
    method: SerializeAsAny[DistillerKind]

    @model_serializer(mode="plain")
    def _flat(self) -> dict[str, Any]:
        """As a file has it, without settings that it does not state: those are the programme's."""
        own = {key: getattr(self, key) for key in OWN_KEYS if key in self.model_fields_set}
        method = self.method.model_dump(mode="json", exclude_unset=True)
        return {**own, "kind": self.method.called, **method}

    def setting_names(self) -> list[str]:
        """The names of the settings of this stage."""
        return [*OWN_KEYS, *type(self.method).model_fields]


OWN_KEYS = tuple(name for name in DistillStage.model_fields if name != "method")


def stage_of(value: Any) -> DistillStage:
    """A stage as a file has it. Raises ValidationError or ValueError."""
    if isinstance(value, DistillStage):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"got {describe(value)}, expected {STAGES}")
    family = DistillerKind.family
    method = family.validated({k: v for k, v in value.items() if k not in OWN_KEYS})
    if shadowed := set(OWN_KEYS) & set(type(method).model_fields):
        what = f"whose key {sorted(shadowed)[0]} means another network in a stage"
        raise ValueError(f"got the kind {method.called}, {what}: rename the key of the plugin")
    if isinstance(method, Programme) or method.jumps:
        kinds = [k.name_of() for k in family if not k.jumps and not issubclass(k, Programme)]
        what = f"its stages are sampled in Euler steps, expected one of {', '.join(kinds)}"
        raise ValueError(f"got the kind {method.called}, but {what}")
    return DistillStage.model_validate(
        {**{k: value[k] for k in OWN_KEYS if k in value}, "method": method}
    )


STAGES = "a non-empty list of stages, each a mapping with the keys of its kind, name, teacher and weights"
Stages = Annotated[
    tuple[Annotated[DistillStage, BeforeValidator(stage_of)], ...],
    BeforeValidator(as_tuple),
    MinLen(1),
    Say(STAGES),
]


@DistillerKind.family.register
class Programme(DistillerKind):
    """Programme: several distillers in sequence. A setting of this block holds for each stage
    that has such a setting and does not state it; `steps` and `lr` may be lists, with a value for each
    stage. A block with `stages` is of this kind."""

    marked_by: ClassVar[str] = "stages"

    kind: Literal["programme"] = "programme"
    stages: Stages = Field(
        description="The stages in order: each has a kind with its keys, and name, teacher and weights."
    )

    @model_serializer(mode="wrap")
    def _stated(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without settings that the file does not state: they hold for no stage."""
        stated = {"kind", *self.model_fields_set}
        return {key: value for key, value in dump(self).items() if key in stated}

    @classmethod
    def missing(cls) -> list[str]:
        return []  # its students are those of its stages

    @property
    def shown(self) -> str:
        return ""

    @cached_property
    def methods(self) -> tuple[DistillerKind, ...]:
        """The distiller of each stage, with all settings."""
        shared = {k: getattr(self, k) for k in self.model_fields_set - {"kind", "stages"}}
        methods = []
        for number, stage in enumerate(self.stages):
            kind = type(stage.method)
            own = {k: getattr(stage.method, k) for k in stage.method.model_fields_set}
            taken = {k: v for k, v in shared.items() if k in kind.model_fields}
            for key in PER_STAGE:
                values = taken.get(key)
                if isinstance(values, tuple) and len(values) == len(self.stages):
                    taken[key] = values[number]
            methods.append(kind.model_validate({**taken, **own}))
        return tuple(methods)

    def parts(self) -> Iterable[Kind]:
        return [stage.method for stage in self.stages]

    def trainings(self) -> Iterator[tuple[str, DistillerKind]]:
        for number, method in enumerate(self.methods):
            yield f"distill.stages.{number}", method

    def step_counts(self) -> Sequence[int]:
        return sorted({n for method in self.methods for n in method.step_counts()}, reverse=True)

    def steps_fault(self, steps: int) -> str | None:
        if steps in self.step_counts():
            return None
        listed = ", ".join(map(str, self.step_counts()))
        return f"expected one of {listed}: a student has the step counts of distill.stages"

    def chain_text(self) -> str:
        parts: list[tuple[str, list[int]]] = []  # stages of one kind that follow each other as one
        for method in self.methods:
            if not parts or parts[-1][0] != method.called:
                parts.append((method.called, []))
            parts[-1][1].extend(method.step_counts())
        return ", ".join(f"{kind} {'-'.join(map(str, counts))}" for kind, counts in parts)

    def rules(self) -> Iterator[Rule]:
        yield from super().rules()
        for place, method in self.trainings():
            for rule in method.rules():
                needs = tuple(_moved(key, place) for key in rule.needs)
                yield replace(rule, needs=needs)

    def lessons(self) -> Sequence[Lesson]:
        lessons: list[Lesson] = []
        last: dict[str, int] = {TEACHER: FIRST_TEACHER, PREVIOUS: FIRST_TEACHER}
        for stage, method in zip(self.stages, self.methods, strict=True):
            before = len(lessons)
            optimise = method.optimise()
            for lesson in method.lessons():
                taught_by, start = lesson.teacher, lesson.start
                teacher = last[stage.teacher] if taught_by is None else taught_by + before
                if start is not None:
                    start += before
                elif taught_by is None:
                    start = last[stage.weights]
                    start = None if start == teacher else start
                lessons.append(replace(lesson, teacher=teacher, start=start, optimise=optimise))
            last[PREVIOUS] = len(lessons) - 1
            if stage.name is not None:
                last[stage.name] = len(lessons) - 1
        return lessons

    def _one_per_interval(self, values: Any) -> str | None:
        if not isinstance(values, tuple) or len(values) == len(self.stages):
            return None
        count = len(self.stages)
        return f"got {describe(values)}, expected one value, or {count}: one for each of distill.stages"

    @kind_rule("distill.stages")
    def _settings_hold_for_a_stage(self, experiment: "Experiment") -> str | None:
        # intervals may be left of a file whose stages --set has added
        for key in sorted(self.model_fields_set - {"kind", "stages", "intervals"}):
            having = [
                stage.method for stage in self.stages if key in type(stage.method).model_fields
            ]
            if all(key in method.model_fields_set for method in having):
                what = f"every stage states its own {key}, so that distill.{key} holds for none"
                return f"{what}: leave it out, or set distill.stages.0.{key} and so on"
        return None

    @kind_rule("distill.stages")
    def _names_are_known(self, experiment: "Experiment") -> str | None:
        known = [TEACHER, PREVIOUS]
        for number, stage in enumerate(self.stages):
            for key in ("teacher", "weights"):
                name = getattr(stage, key)
                if name not in known:
                    close = nearest(name, known)
                    hint = f"; did you mean {describe(close)}?" if close else ""
                    listed = ", ".join(map(describe, known))
                    return f"stage {number}: {key} got {describe(name)}, expected one of {listed}{hint}"
            if stage.name in known:
                return f"stage {number}: name got {describe(stage.name)}, which is taken"
            if stage.name is not None:
                known.append(stage.name)
        return None


def _moved(key: str, place: str) -> str:
    """A key of the `distill` block as one of the stage at `place`."""
    block, _, field = key.partition(".")
    return f"{place}.{field}" if block == "distill" and field else key
