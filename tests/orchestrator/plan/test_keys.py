import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
from planned import experiment, plan
from stages import any_stage

from kaccore.metrics.features import features_for, second_for
from orchestrator.fields.schema import leaves
from orchestrator.methods.distiller_kind import DistillerKind
from orchestrator.plan.data import by_name
from orchestrator.plan.plan import Facts, alike, make, skipped_lines
from orchestrator.plan.specs import DataRef, of_content
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override
from orchestrator.settings.space import NOT_SWEPT, NOT_SWEPT_KEYS
from orchestrator.work.job import weights_of

EVALUATION = ("evaluation",)
STUDENTS = ("student", *EVALUATION)
ALL = ("teacher", *STUDENTS)
NOTHING = ()
AS_TEACHER = {"sampling.model": "teacher"}
AS_DIFFUSION = {"path.kind": "diffusion"}
AS_DIT = {"model.kind": "dit"}
AS_CONSISTENCY = {"distill.kind": "consistency"}
AS_ADVERSARIAL = {"distill.kind": "adversarial", "distill.intervals": [4]}
AS_FLOW_MAP = {"distill.kind": "flow_map"}
AS_MATCHING = {"distill.kind": "matching", "distill.intervals": [4]}
AS_GIVEN = {"teacher.weights": "a.pt", "teacher.weights_sha256": "0" * 64}
FOUR = {"kind": "endpoint", "intervals": [4], "teacher_steps": 20}
AS_PROGRAMME = {"distill.kind": "programme", "distill.stages": [FOUR]}
FIVE_TIMES = [1.0, 0.7, 0.4, 0.2, 0.0]
INCEPTION = {"evaluation.features": "inception-v3-compat", "evaluation.weights": "a.pth"}
FOLDER = {"data.name": "folder", "data.root": "/data", "data.size": 32}
BEDROOMS = {"data.name": "lsun_bedroom256", "data.root": "/data"}

# setting -> (another value, whose keys it changes, in which run: the default one unless said
# otherwise)
SETTINGS: dict[str, tuple[object, tuple[str, ...], dict[str, object]]] = {
    "name": ("other", NOTHING, {}),
    "seed": (1, ALL, {}),
    "storage": ("elsewhere", NOTHING, {}),
    "data.name": ("mnist", ALL, {}),
    "data.root": ("/elsewhere", NOTHING, FOLDER),
    "data.size": (64, NOTHING, FOLDER),  # what comes of these two is in the fingerprint
    "data.limit": (1000, NOTHING, BEDROOMS),
    "data.download": (True, NOTHING, {"data.name": "cifar10", "data.root": "/data"}),
    "data.cache": ("/scratch", NOTHING, FOLDER),
    "data.background": ("black", NOTHING, FOLDER),  # these three, too
    "data.split": ("train", NOTHING, FOLDER),
    "data.skip_damaged": (True, NOTHING, FOLDER),
    "data.flip": (True, ALL, {}),
    "data.binary": (True, NOTHING, {}),  # this one, too
    "path.kind": ("diffusion", ALL, {}),
    "path.damping": (9.0, ALL, {}),
    "path.speed": (3.0, ALL, {}),
    "path.signal": ("exponential", ALL, {}),
    "path.clock": ("quadratic", ALL, {}),
    "path.schedule": ("vp", ALL, AS_DIFFUSION),
    "path.width": (0.5, ALL, AS_DIFFUSION),
    "path.knots": (9, ALL, {"path.kind": "quantile"}),
    "path.smooth": (0.2, ALL, {"path.kind": "quantile"}),
    "model.channels": (16, ALL, {}),
    "model.multipliers": ([1, 2, 2], ALL, {}),
    "model.blocks": (2, ALL, {}),
    "model.attention": ([4], ALL, {}),
    "model.dropout": (0.1, ALL, {}),
    "model.head_channels": (16, ALL, {}),
    "model.patch": (2, ALL, {}),
    "model.kind": ("dit", ALL, {}),
    "model.scale_shift": (False, ALL, {}),
    "model.attention_in": ("adm", ALL, {}),
    "model.resample": ("conv", ALL, {}),
    "model.depth": (5, ALL, AS_DIT),
    "teacher.steps": (1501, ALL, {}),
    "teacher.batch_size": (64, ALL, {}),
    "teacher.lr": (1.0e-3, ALL, {}),
    "teacher.ema": (0.99, ALL, {}),
    "teacher.label_dropout": (0.2, ALL, {}),
    "teacher.augment": (0.12, ALL, {}),
    "teacher.schedule": ("constant", ALL, {}),
    "teacher.warmup": (10, ALL, {}),
    "teacher.clip": (1.0, ALL, {}),
    "teacher.restarts": (1, ALL, {}),
    "teacher.accumulate": (2, ALL, {}),
    "teacher.precision": ("bfloat16", ALL, {}),
    "distill.kind": ("consistency", STUDENTS, {}),
    "distill.times": (FIVE_TIMES, STUDENTS, {"distill.intervals": [4]}),
    "distill.chained": (False, STUDENTS, {}),
    "distill.start": ("teacher", STUDENTS, {}),
    "distill.intervals": ([100, 20, 4], STUDENTS, {}),
    "distill.teacher_steps": (40, STUDENTS, {}),
    "distill.teacher_solver": ("heun", STUDENTS, {}),
    "distill.guidance": (2.0, STUDENTS, {}),
    "distill.steps": (401, STUDENTS, {}),
    "distill.batch_size": (64, STUDENTS, {}),
    "distill.lr": (1.0e-4, STUDENTS, {}),
    "distill.ema": (0.9, STUDENTS, {}),
    "distill.target": ("endpoint", STUDENTS, {}),
    "distill.huber": (0.03, STUDENTS, {}),
    "distill.schedule": ("constant", STUDENTS, {}),
    "distill.warmup": (10, STUDENTS, {}),
    "distill.clip": (1.0, STUDENTS, {}),
    "distill.restarts": (1, STUDENTS, {}),
    "distill.accumulate": (2, STUDENTS, {}),
    "distill.precision": ("bfloat16", STUDENTS, {}),
    "distill.pairs": (100, STUDENTS, AS_ADVERSARIAL),
    "distill.weight": (0.5, STUDENTS, AS_ADVERSARIAL),
    "distill.pairs_weight": (0.5, STUDENTS, AS_ADVERSARIAL),
    "distill.gamma": (0.1, STUDENTS, AS_ADVERSARIAL),
    "distill.clean": (0.5, STUDENTS, AS_ADVERSARIAL),
    "distill.latest": (0.5, STUDENTS, AS_ADVERSARIAL),
    "distill.width": (32, STUDENTS, AS_ADVERSARIAL),
    "distill.rate": (1.0, STUDENTS, AS_ADVERSARIAL),
    "teacher.weights": ("b.pt", NOTHING, AS_GIVEN),  # its content is in the keys
    "teacher.weights_sha256": ("1" * 64, ALL, AS_GIVEN),
    "teacher.weights_names": ({"a.": ""}, ALL, AS_GIVEN),
    "teacher.logit_normal": ([-0.4, 1.0], ALL, {}),
    "teacher.calibrate": (True, ALL, {}),
    "distill.calibrate": (True, STUDENTS, {}),
    "sampling.calibrated": (False, EVALUATION, {}),
    "teacher.averages": ([0.5], ALL, {}),
    "distill.averages": ([0.5], STUDENTS, {}),
    "distill.adversarial": (0.5, STUDENTS, AS_MATCHING),
    "sampling.ema": (0.5, EVALUATION, {"distill.averages": [0.5]}),
    "distill.form": ("mean", STUDENTS, AS_FLOW_MAP),
    "distill.velocity": ("path", STUDENTS, {**AS_FLOW_MAP, "distill.form": "mean"}),
    "distill.diagonal": (0.75, STUDENTS, AS_FLOW_MAP),
    "distill.first": (1.0, STUDENTS, AS_MATCHING),
    "distill.alpha": (0.9, STUDENTS, AS_MATCHING),
    "distill.ratio": (1.02, STUDENTS, {**AS_MATCHING, "distill.alpha": 0.9}),
    "distill.earliest": (0.1, STUDENTS, AS_MATCHING),
    "distill.fake_steps": (5, STUDENTS, AS_MATCHING),
    "distill.fake_rate": (2.0, STUDENTS, AS_MATCHING),
    "distill.betas": ([0.0, 0.999], STUDENTS, AS_MATCHING),
    "distill.stages": ([{**FOUR, "target": "endpoint"}], STUDENTS, AS_PROGRAMME),
    "sampling.model": ("teacher", EVALUATION, {}),
    "sampling.solver": ("heun", EVALUATION, AS_TEACHER),
    "sampling.steps": (5, EVALUATION, AS_TEACHER),
    "sampling.guidance": (2.0, EVALUATION, AS_TEACHER),
    "sampling.labels": (3, EVALUATION, {}),
    "sampling.times": (FIVE_TIMES, EVALUATION, AS_TEACHER),
    "sampling.gamma": (0.5, EVALUATION, AS_CONSISTENCY),
    "sampling.shaping": (0.01, EVALUATION, {}),
    "evaluation.samples": (100, EVALUATION, {}),
    "evaluation.metrics": (["fid"], EVALUATION, {}),
    "evaluation.features": ("inception-v3-compat", EVALUATION, {}),
    "evaluation.second": (None, EVALUATION, {}),
    "evaluation.weights": (
        "b.pth",
        NOTHING,
        INCEPTION,
    ),  # where a file lies; what is in it is the checksum's
    "evaluation.weights_sha256": ("0" * 64, EVALUATION, INCEPTION),
    "evaluation.seeds": (2, EVALUATION, {}),
    "evaluation.every": (5, NOTHING, {}),  # a look at the teacher leaves it as it is
    "evaluation.every_student": (5, NOTHING, {}),
    "evaluation.every_samples": (100, NOTHING, {"evaluation.every": 5}),
    "evaluation.diagnostics": ([], EVALUATION, {}),
    "checkpoint.steps": (7, NOTHING, {}),
    "checkpoint.minutes": (0.1, NOTHING, {}),
    "checkpoint.keep": (5, NOTHING, {}),
    "cluster.workers": (2, NOTHING, {}),
    "cluster.cpus_per_worker": (2.0, NOTHING, {}),
    "cluster.gpus_per_worker": (1.0, NOTHING, {}),
    "cluster.compile": (True, NOTHING, {}),
    "tracking.uri": ("http://127.0.0.1:5000", NOTHING, {}),
    "tracking.on_end": ("true", NOTHING, {}),
}


def keys(overrides: dict[str, object]) -> dict[str, str]:
    """The keys of the teacher, of the student of 4 steps and of the evaluation of one run."""
    config = override(experiment(), overrides)
    chain = plan(config, "student").trials[0].chain
    fours = (
        "student 4",
        "student progressive 4",
        "student consistency",
        "student adversarial 4",
        "student matching 4",
        "student flow_map",
    )
    four = next(stage for stage in chain if stage.label in fours)
    evaluation = plan(config).trials[0].key
    return {"teacher": chain[0].key, "student": four.key, "evaluation": evaluation}


def test_every_setting_is_known_to_change_a_key_or_not_to():
    assert {key for key in leaves(Experiment) if not key.startswith("sweep.")} == set(SETTINGS) | {
        "plugins"  # what a plugin makes has its hash in its key: methods/test_plugins.py
    }


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_changes_exactly_the_keys_of_the_stages_whose_results_depend_on_it(key):
    value, changed, base = SETTINGS[key]
    before, after = keys(base), keys({**base, key: value})
    assert [kind for kind in before if before[kind] != after[kind]] == list(changed)


CONTENT = (
    "name",
    "root",
    "size",
    "limit",
    "background",
    "binary",
    "split",
    "skip_damaged",
)  # what the images are made of


def facts_of(config: Experiment) -> Facts:
    """Facts as a machine has them where every data block means other images."""
    images = json.dumps({key: getattr(config.data, key, None) for key in CONTENT})
    features = features_for(config.data.name, config.evaluation.features, config.evaluation.weights)
    second = second_for(config.data.name, features, config.evaluation.second)
    return Facts(
        by_name(config.data, hashlib.sha256(images.encode()).hexdigest()), features, second
    )


def swept(key: str) -> bool:
    return key.partition(".")[0] not in NOT_SWEPT and key not in NOT_SWEPT_KEYS


@pytest.mark.parametrize("key", filter(swept, SETTINGS))
def test_two_trials_that_differ_in_a_setting_have_their_own_keys_or_the_same_result(key):
    value, changed, base = SETTINGS[key]
    config = override(experiment(), base)
    space = {key: {"grid": [config.value(key), value]}}
    both = override(config, {"sweep": {"metric": config.evaluation.metrics[0], "space": space}})
    trials = make(both, facts_of).trials
    if len(trials) == 1:  # one of the values cannot be, and is left out with its reason
        assert make(both, facts_of).skipped
        return
    one, two = trials
    assert (one.config.value(key), two.config.value(key)) == (config.value(key), value)
    images = key.startswith("data.") and key.removeprefix("data.") in CONTENT
    assert (one.key != two.key) == (images or EVALUATION[0] in changed)
    assert (one.chain[0].key != two.chain[0].key) == (images or "teacher" in changed)
    assert (one.facts.fingerprint != two.facts.fingerprint) == images
    for trial in trials:  # what workers are asked is made of the trial's own settings
        alone = make(trial.config, facts_of).trials[0]
        assert [s.key for s in alone.stages()] == [s.key for s in trial.stages()]
        assert weights_of(trial.config) == (
            trial.config.evaluation.weights,
            trial.config.evaluation.weights_sha256,
        )
        for stage in trial.stages():
            assert stage.data == DataRef(trial.config.data.name, trial.facts.fingerprint)


@pytest.mark.parametrize("kind", DistillerKind.family.names())
def test_a_stage_that_is_read_back_from_what_is_hashed_is_the_same(kind):
    if kind == "programme":
        base = AS_PROGRAMME
    else:
        base = {"distill.kind": kind, "distill.intervals": [4], "sampling.model": "teacher",
                "distill.averages": [0.5]}  # fmt: skip
    config = override(experiment(), {**base, "teacher.averages": [0.25, 0.0]})
    for stage in plan(config, "student").trials[0].chain:
        again = of_content(stage.kind, json.loads(json.dumps(stage.content)), "student")
        assert again == stage.spec and again.content == stage.content


def test_a_sweep_leaves_the_keys_alone():
    swept = plan(experiment({"sampling.steps": [4, 2]}))
    single = plan(experiment())
    assert swept.trials[0].key == single.trials[0].key
    assert swept.trials[0].chain == single.trials[0].chain


@pytest.mark.parametrize("kind", ["flow_matching", "diffusion"])
@pytest.mark.parametrize("unused, value", [("damping", 9.0), ("speed", 3.0)])
def test_a_path_of_given_width_does_not_depend_on_the_kac_process(kind, unused, value):
    one, other, derived, changed = (
        plan(experiment(path__kind=kind, **settings)).trials[0].chain[0]
        for settings in (
            {"path__width": 0.4},
            {"path__width": 0.4, f"path__{unused}": value},
            {},
            {f"path__{unused}": value},
        )
    )
    assert one.key == other.key
    assert derived.key != changed.key  # without a width it is the Kac prior's


@pytest.mark.parametrize(
    "key, values",
    [("path.signal", ["linear", "exponential"]), ("path.clock", ["linear", "quadratic"])],
)
def test_a_swept_setting_that_only_one_kind_has_varies_the_trials_of_that_kind_alone(key, values):
    swept = plan(experiment({"path.kind": ["kac", "flow_matching"], key: values}))
    kinds = [trial.config.path.kind for trial in swept.trials]
    assert kinds == ["kac", "kac", "flow_matching"]
    assert [trial.overrides[key] for trial in swept.trials] == [*values, None]
    flow = plan(experiment(path__kind="flow_matching")).trials[0].key
    assert swept.trials[2].key == flow
    name = key.partition(".")[2]
    line = f"left out {name} in 1 trial: path.kind flow_matching has no such key"
    assert skipped_lines(swept) == [line]


@pytest.mark.parametrize(
    "written, meant", [("path.damping", 25), ("teacher.lr", 0.002), ("distill.guidance", 1)]
)
def test_one_number_written_in_two_ways_is_one_key(written, meant):
    assert (
        plan(override(experiment(), {written: meant})).trials[0].key
        == plan(experiment()).trials[0].key
    )


def test_the_order_of_metrics_does_not_change_the_evaluation():
    one, other = (
        plan(experiment(evaluation__metrics=m)).trials[0].key
        for m in (["fid", "kid"], ["kid", "fid"])
    )
    assert one == other


def test_other_data_under_the_same_name_is_another_teacher():
    config = experiment()
    one, other = (
        make(config, alike(content, "digits-cnn-v1")).trials[0].chain[0].key
        for content in ("a", "b")
    )
    assert one != other


def test_a_student_depends_on_all_its_ancestors():
    def chain(**settings: object) -> list[str]:
        return [s.key for s in plan(experiment(sampling__steps=1, **settings)).trials[0].chain]

    base = chain()
    assert len(set(base)) == len(base) == 5
    assert [a == b for a, b in zip(base, chain(teacher__lr=1e-3), strict=True)] == [False] * 5
    second = chain(distill__steps=[400, 401, 400, 400])
    assert [a == b for a, b in zip(base, second, strict=True)] == [True, True, False, False, False]


def test_the_label_of_a_stage_is_no_part_of_its_key_nor_of_its_random_numbers():
    chain = plan(experiment(sampling__steps=1)).trials[0].chain
    for stage in chain:
        renamed = dataclasses.replace(stage, label="another")
        assert renamed.key == stage.key and renamed.stream == stage.stream
        assert renamed == stage
    assert len({stage.stream for stage in chain}) == len(
        chain
    )  # each stage of a chain draws its own


def test_ids_and_keys_are_the_same_in_every_process():
    code = (
        "from orchestrator.settings.loading import parse; from orchestrator.plan.plan import alike, make\n"
        "e = parse({'name': 'plan', 'data': {'name': 'digits'}, 'path': {'kind': 'kac'},"
        " 'sweep': {'space': {'sampling.steps': {'grid': [4, 2]}}}})\n"
        "p = make(e, alike('fingerprint', 'digits-cnn-v1', 'digits-resnet-v1'))\n"
        "print(p.id, *(s.key for s in p.stages()))"
    )
    here = plan(experiment({"sampling.steps": [4, 2]}))
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert found.stdout.split() == [here.id, *(s.key for s in here.stages())]


def test_the_format_of_a_key_is_pinned():
    # results in people's stores are found by it: raise FORMAT on purpose, never change a key by
    # accident
    stage = any_stage("teacher", {"b": 1, "a": [0.5, None]})
    assert (
        stage.key == "095f54fdc05dd850faf5"
    )  # printf '["teacher", 3, {"a": [0.5, null], "b": 1}, []]' | sha256sum
    child = any_stage("student", {"c": "d"}, (stage,))
    assert child.key == digest(f'["student", 3, {{"c": "d"}}, ["{stage.key}"]]')


def test_the_key_of_a_teacher_is_that_of_its_settings_written_out():
    config = experiment(path__damping=9.0, model__multipliers=[1, 2], teacher__steps=10, seed=3)
    written = (
        '["teacher", 3, {"data": {"fingerprint": "fingerprint", "name": "digits"}, "label_dropout": 0.1, '
        '"model": {"attention": [], "blocks": 1, "channels": 32, "dropout": 0.0, "head_channels": 32, '
        '"kind": "unet", "multipliers": [1, 2], "patch": 1}, '
        '"optimise": {"batch_size": 128, "clip": null, "ema": 0.999, "lr": 0.002, "schedule": "cosine", '
        '"steps": 10, "warmup": 0}, '
        '"path": {"clock": "linear", "damping": 9.0, "kind": "kac", "signal": "linear", "speed": 2.0}, '
        '"seed": 3}, []]'
    )
    assert plan(config).trials[0].chain[0].key == digest(written)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
