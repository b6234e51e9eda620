"""`distill.stages`: several distillers, one after the other."""

import pickle
from pathlib import Path

import pytest
import yaml
from commands import REPOSITORY

from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import alike, make
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.yaml_reader import load_text

FILE = """\
name: x
data: {name: digits}
path: {kind: kac}
distill:
  batch_size: 64
  stages:
    - {kind: pairs, intervals: [1], steps: 30, lr: 1.0e-3}
    - {kind: adversarial, name: one, intervals: [1], steps: 20, weight: 0.5, batch_size: 32}
    - {kind: endpoint, intervals: [4, 2], teacher_steps: 20, weights: teacher}
    - {kind: adversarial, intervals: [2], steps: 7, weights: one, teacher: teacher}
"""


def written(tmp_path: Path, text: str = FILE) -> Path:
    (tmp_path / "x.yaml").write_text(text)
    return tmp_path / "x.yaml"


def students_of(experiment: Experiment) -> list[Stage]:
    plan = make(experiment, alike("fingerprint", "digits-cnn-v1"), goal="student")
    return [stage for stage in plan.trials[0].chain if stage.kind == "student"]


def refusal(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loading.load(written(tmp_path, text), overrides)
    return str(refused.value).replace(f"{tmp_path / 'x.yaml'}: ", "").splitlines()


def test_each_stage_is_taught_and_starts_as_its_keys_say(tmp_path):
    experiment = loading.load(written(tmp_path), ["sampling.steps=2"])
    assert experiment.distill.called == "programme"  # which `stages` alone says
    plan = make(experiment, alike("fingerprint", "digits-cnn-v1"), goal="student")
    teacher = plan.trials[0].chain[0]
    last = plan.trials[0].students
    assert set(last) == {1, 4, 2}  # of the students of two steps the last
    one, two, four = last[1], last[2], last[4]
    pairs = one.start
    assert pairs.student.distiller == "pairs" and pairs.start is teacher
    assert one.student.distiller == "adversarial" and one.parents[0] is teacher
    assert two.student.distiller == "adversarial" and two.start is one
    assert four.student.distiller == "endpoint" and four.parents == (teacher,)
    assert len({stage.pairs.key for stage in (pairs, one, two)}) == 1


def test_a_setting_of_the_block_holds_for_stages_that_do_not_state_it(tmp_path):
    experiment = loading.load(written(tmp_path), ["distill.ema=0.5"])
    one = next(s for s in students_of(experiment) if s.label == "student adversarial 1")
    specs = {stage.label: stage.training_spec for stage in students_of(experiment)}
    assert {spec.optimise.ema for spec in specs.values()} == {0.5}
    assert one.training_spec.optimise.batch_size == 32
    assert specs["student pairs 1"].optimise.batch_size == 64


def test_a_stage_has_the_key_that_it_has_elsewhere(tmp_path):
    """The regression is a stage of its own, which another programme or a file with one distiller
    finds."""
    first = students_of(loading.load(written(tmp_path)))[0]
    alone = FILE[: FILE.index("distill:")] + (
        "distill: {kind: pairs, intervals: [1], steps: 30, lr: 1.0e-3, batch_size: 64}\n"
        "sampling: {steps: 1}\n"
    )
    assert students_of(loading.load(written(tmp_path, alone)))[0].key == first.key


def test_it_survives_the_store_and_another_process(tmp_path):
    experiment = loading.load(written(tmp_path))
    keys = [stage.key for stage in students_of(experiment)]
    written(tmp_path, experiment.to_yaml())
    again = loading.load(tmp_path / "x.yaml")
    assert again == experiment and [s.key for s in students_of(again)] == keys
    sent = pickle.loads(pickle.dumps(experiment))
    assert sent == experiment and [s.key for s in students_of(sent)] == keys
    # what a stage does not state is the block's, also after it was stored
    changed = loading.override(again, {"distill.batch_size": 16})
    sizes = [stage.training_spec.optimise.batch_size for stage in students_of(changed)]
    assert sizes == [16, 32, 16, 16]


SLOW = """
from typing import ClassVar, Literal
from pydantic import Field
from orchestrator.methods.distiller_kind import DistillerKind, Student
from orchestrator.methods.distillers.pairs import PairsKind, PairsStudent


class SlowStudent(PairsStudent):
    distiller: Literal["slow"] = "slow"


@DistillerKind.family.register
class Slow(PairsKind):
    \"\"\"Slow: pairs with a longer average.\"\"\"

    student: ClassVar[type[Student]] = SlowStudent
    kind: Literal["slow"] = "slow"
    ema: float = Field(default=0.75, description="Decay of the average.")
"""


def test_defaults_of_a_plugins_kind_hold_in_a_stage_also_after_the_store(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    text = FILE.replace("name: x", "name: x\nplugins: [slow.py]").replace(
        "kind: pairs", "kind: slow"
    )
    experiment = loading.load(written(tmp_path, text))
    assert [plugin.name for plugin in experiment.used_plugins()] == ["slow.py"]
    stored = loading.load(written(tmp_path, experiment.to_yaml()))
    for each in (experiment, stored, loading.override(stored, {"seed": 1})):
        emas = [stage.training_spec.optimise.ema for stage in students_of(each)]
        assert emas == [0.75, 0.99, 0.99, 0.99]
    assert pickle.loads(pickle.dumps(stored)) == stored == experiment


def test_dotted_keys_reach_into_a_stage(tmp_path):
    experiment = loading.load(
        written(tmp_path),
        [
            "distill.stages.1.weight=0.25",
            "distill.stages.0.lr=3.0e-3",
            "distill.stages.3.name=last",
        ],
    )
    assert experiment.value("distill.stages.1.weight") == 0.25
    assert experiment.distill.stages[3].name == "last"
    first, one, *_ = students_of(experiment)
    assert first.training_spec.optimise.lr == 3.0e-3 and one.student.weight == 0.25


def test_a_sweep_varies_a_stage_and_shares_what_is_before_it(tmp_path):
    sweep = (
        "sampling: {steps: 2}\nsweep: {space: {distill.stages.1.weight: {grid: [0.5, 1.0, 2.0]}}}\n"
    )
    plan = make(loading.load(written(tmp_path, FILE + sweep)), alike("f", "digits-cnn-v1"))
    assert [trial.overrides for trial in plan.trials] == [
        {"distill.stages.1.weight": weight} for weight in (0.5, 1.0, 2.0)
    ]
    assert plan.trials[0].title == "stages.1.weight 0.5"
    chains = [[stage.key for stage in trial.chain] for trial in plan.trials]
    shared = set(chains[0]) & set(chains[1]) & set(chains[2])
    labels = {s.label for s in plan.trials[0].chain if s.key in shared}
    assert labels == {"teacher", "pairs", "student pairs 1"}
    drawn = FILE + sweep.replace("{grid: [0.5, 1.0, 2.0]}", "{loguniform: [0.1, 10.0]}")
    drawn = drawn.replace("sweep: {", "sweep: {search: random, num_trials: 3, ")
    plan = make(loading.load(written(tmp_path, drawn)), alike("f", "digits-cnn-v1"))
    assert len({t.config.distill.stages[1].method.weight for t in plan.trials}) == 3


def test_a_sweep_over_kinds_leaves_the_stages_out_of_other_kinds(tmp_path):
    sweep = "sampling: {steps: 4}\nsweep: {space: {distill.kind: {grid: [programme, endpoint]}}}\n"
    text = FILE.replace("  stages:", "  kind: programme\n  stages:") + sweep
    plan = make(loading.load(written(tmp_path, text)), alike("f", "digits-cnn-v1"))
    assert [trial.config.distill.called for trial in plan.trials] == ["programme", "endpoint"]


ONE = FILE.splitlines(keepends=True)
HEAD = "".join(ONE[:6])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            "{kind: pairs, weight: 1.0}",
            "distill.stages.0.weight: distill.kind pairs has no weight, which is a key of adversarial",
        ),
        (
            "{kind: pair}",
            'distill.stages.0.kind: got "pair", expected one of "endpoint"',
        ),
        ("{kind: adversarial, gamma: -1}", "distill.stages.0.gamma: got -1, expected a number >= 0"),
        (
            "{kind: adversarial, latest: 0.0}",
            "distill.stages.0.latest: got 0, expected > 0 and <= 1",
        ),
        ("{kind: endpoint, intervals: [3, 1], teacher_steps: 20}", "a multiple of 3"),
        (
            "{kind: pairs, teacher: prevous}",
            'distill.stages: stage 0: teacher got "prevous", expected one of "teacher", "previous"; '
            'did you mean "previous"?',
        ),
        ("{kind: pairs, name: teacher}", 'stage 0: name got "teacher", which is taken'),
        ("{kind: consistency}", "got the kind consistency, but its stages are sampled in Euler st"),
        ("{kind: programme, stages: [{kind: pairs}]}", "got the kind programme, but its stages"),
        ("pairs", 'distill.stages.0: got "pairs", expected a non-empty list of stages'),
        ("{kind: pairs, batch_size: 0}", "distill.stages.0.batch_size: got 0, expected an integer"),
    ],
)  # fmt: skip
def test_a_wrong_stage_is_one_clear_line(tmp_path, stages, message):
    (line,) = refusal(tmp_path, f"{HEAD}    - {stages}\n", "sampling.steps=1")
    assert message in line


def test_no_stage_and_an_element_that_is_not_there_are_refused(tmp_path):
    (line,) = refusal(tmp_path, FILE[: FILE.index("  stages:")] + "  stages: []\n")
    assert line == "distill.stages: got [], expected a non-empty list of stages, each a mapping with " \
        "the keys of its kind, name, teacher and weights"  # fmt: skip
    (line,) = refusal(tmp_path, FILE, "distill.stages.4.weight=1.0")
    assert line == (
        "--set distill.stages.4.weight=1.0: distill.stages.4.weight: distill.stages has the elements "
        "0 to 3, got 4"
    )
    sweep = "sweep: {space: {distill.stages.0.weight: {grid: [0.5]}}}\n"
    (line,) = refusal(tmp_path, FILE + sweep)
    assert line.startswith(
        'sweep.space.distill.stages.0.weight: unknown key "weight", did you mean "weights"?'
    )


def test_a_step_count_that_no_stage_has_is_refused(tmp_path):
    (line,) = refusal(tmp_path, FILE, "sampling.steps=3")
    assert "got 3, expected one of 4, 2, 1: a student has the step counts of distill.stages" in line


def test_each_stages_batch_divides_among_the_workers(tmp_path):
    (line,) = refusal(tmp_path, FILE, "cluster.workers=64", "sampling.steps=1")
    assert "distill.stages.1.batch_size: got 32, expected a multiple of cluster.workers, 64" in line


def test_a_setting_that_every_stage_states_itself_is_refused(tmp_path):
    text = FILE.replace("intervals: [4, 2],", "intervals: [4, 2], steps: 9,")
    (fault,) = refusal(tmp_path, text, "distill.steps=7")
    assert fault.startswith("distill.stages: every stage states its own steps")
    assert "set distill.stages.0.steps" in fault
    experiment = loading.load(written(tmp_path), ["distill.steps=7"])
    assert [method.steps for method in experiment.distill.methods] == [30, 20, 7, 7]


def test_steps_and_rates_of_the_block_may_be_one_for_each_stage(tmp_path):
    text = FILE.replace(", steps: 30, lr: 1.0e-3", "").replace(", steps: 20", "")
    text = text.replace(", steps: 7", "")
    lists = ["distill.steps=[1, 2, 3, 4]", "distill.lr=[0.1, 0.2, 0.3, 0.4]"]
    experiment = loading.load(written(tmp_path, text), lists)
    methods = experiment.distill.methods
    assert [method.steps for method in methods] == [1, 2, 3, 4]
    assert [method.lr for method in methods] == [0.1, 0.2, 0.3, 0.4]
    experiment = loading.load(written(tmp_path, text), ["distill.steps=5"])
    assert {method.steps for method in experiment.distill.methods} == {5}
    again = loading.parse(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    faults = refusal(tmp_path, text, "distill.steps=[1, 2]")
    assert any(
        "distill.steps: got [1, 2], expected one value, or 4: one for each of" in f for f in faults
    )


def test_a_fault_elsewhere_brings_no_fault_of_a_programme_that_names_no_kind():
    text = (REPOSITORY / "experiments" / "nfe_sweep.yaml").read_text()
    data = load_text(text, "x.yaml")
    data["teacher"]["stepz"] = 3
    with pytest.raises(ConfigError) as raised:
        loading.parse(data, "x.yaml")
    assert [fault.key for fault in raised.value.faults] == ["teacher.stepz"]
