"""The experiments of the two papers, and of the methods that came after them: planned as they stand,
their networks counted at full size, and all their stages run, of small files in the published formats
and with little training of narrow networks."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from commands import REPOSITORY
from image_files import (
    jpeg,
    photograph,
    publish_celeba,
    publish_cifar10,
    write_celeba,
    write_cifar10,
    write_lsun,
)
from in_process import last_pictures_once
from inception_weights import write_random_inception

from kaccore.metrics.extractors import extractor
from orchestrator import sweep
from orchestrator.plan import data
from orchestrator.plan.plan import Trial
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import building, diagnostics, evaluation
from orchestrator.work.batch_loss import Group
from orchestrator.work.evaluation import build_reference, sample_part, score
from orchestrator.work.job import FeatureWeights, Job, Saving
from orchestrator.work.worker import run_stage

ALONE = Group(rank=0, world=1, device=torch.device("cpu"))
FOLDER = REPOSITORY / "experiments" / "paper"


class Facts(NamedTuple):
    parameters: int
    trials: int
    students: list[int]
    small: tuple[str, ...] = ()  # what this file alone needs to run here
    substeps: tuple[int, ...] = ()


# An FID of 2048 features takes ten seconds here: one file has its own, the others KID from the same
# features
BY_KID = ("evaluation.metrics=[kid]", "sweep.metric=kid")
CHAIN = (5, 5, 2, 2)
FILES = {
    "kacflow_cifar10": Facts(34_427_907, 9, []),
    "distillkac_cifar10": Facts(322_655_747, 34, [20, 4, 2, 1], BY_KID, CHAIN),
    "distillkac_celeba64": Facts(315_282_947, 14, [20, 4, 2, 1], (*BY_KID, "model.patch=2"), CHAIN),
    "distillkac_lsun_bedroom256": Facts(
        552_807_171, 14, [20, 4, 2, 1], (*BY_KID, "model.patch=4", "teacher.accumulate=2"), CHAIN
    ),
    "few_steps_cifar10": Facts(322_655_747, 4, [1, 1, 2], (*BY_KID, "evaluation.second=null")),
    "flow_map_cifar10": Facts(322_655_747, 6, [], BY_KID),
}
NFE = {  # network evaluations of the last trial of each model, all in two steps
    ("kacflow_cifar10", "teacher"): 4,  # midpoint
    ("distillkac_cifar10", "teacher"): 4,  # ab2, guided
    ("distillkac_cifar10", "student"): 2,
    ("distillkac_celeba64", "teacher"): 2,
    ("distillkac_celeba64", "student"): 2,
    ("distillkac_lsun_bedroom256", "teacher"): 2,
    ("distillkac_lsun_bedroom256", "student"): 2,
    ("few_steps_cifar10", "student"): 1,  # the last programme has one step
    ("flow_map_cifar10", "student"): 2,
}
SMALL = [
    "model.channels=8", "model.blocks=1", "model.head_channels=8", "cluster.workers=1", "teacher.steps=2",
    "teacher.batch_size=2", "distill.steps=1", "distill.batch_size=2", "evaluation.samples=4",
    "sweep.space.sampling.steps={grid: [1, 2]}",
]  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """Each data set in small, in its published format."""
    roots = {
        name: tmp_path_factory.mktemp(name) for name in ("cifar10", "celeba64", "lsun_bedroom256")
    }
    with pytest.MonkeyPatch.context() as patch:
        write_cifar10(roots["cifar10"], a_batch=1)
        publish_cifar10(roots["cifar10"], patch)
        write_celeba(roots["celeba64"], [0, 1, 0, 2, 0, 0])
        publish_celeba(roots["celeba64"], patch)
        write_lsun(
            roots["lsun_bedroom256"], {f"{i}": jpeg(photograph(i, 300, 256)) for i in range(4)}
        )
        yield roots
    evaluation._images.cache_clear()


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Iterator[list[str]]:
    """Settings that name a file with random weights of Inception: the official ones cannot be had
    everywhere."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    write_random_inception(path)
    yield [
        f"evaluation.weights={path}",
        f"evaluation.weights_sha256={hashlib.sha256(path.read_bytes()).hexdigest()}",
    ]
    extractor.cache_clear()


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Iterator[Path]:
    """One store for all: the two experiments on CIFAR-10 share their reference."""
    evaluation.network.cache_clear()
    with last_pictures_once():
        yield tmp_path_factory.mktemp("papers")


def path_of(name: str) -> str:
    return str(FOLDER / f"{name}.yaml")


def placed(name: str, roots: dict[str, Path]) -> list[str]:
    """The setting that names the small data set of the file called `name`."""
    return [f"data.root={roots[loading.load(path_of(name)).data.name]}"]


def test_there_is_a_test_of_every_file():
    assert {path.stem for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_it_is_planned_as_the_paper_has_it(name, roots):
    experiment = loading.load(path_of(name), placed(name, roots))
    plan = opening.make_plan(experiment, path_of(name))
    chain = max((trial.chain for trial in plan.trials), key=len)
    assert len(plan.trials) == FILES[name].trials
    contents = [stage.content for stage in chain if stage.kind == "student"]
    assert [c["intervals"] for c in contents if "intervals" in c] == FILES[name].students
    assert tuple(c["substeps"] for c in contents if c.get("substeps")) == FILES[name].substeps
    reference = plan.trials[0].reference
    assert (
        reference.content["features"] == "inception-v3-compat"
        and experiment.evaluation.samples == 50_000
    )
    assert experiment.cluster.workers > 1 and experiment.cluster.gpus_per_worker == 1


@pytest.mark.parametrize("name", FILES)
def test_its_network_has_the_parameters_that_it_states(name, roots):
    experiment = loading.load(path_of(name), placed(name, roots))
    teacher = opening.make_plan(experiment, path_of(name), "teacher").trials[0].chain[0]
    with torch.device("meta"):
        network = building.network(teacher, data.images(experiment.data))
    count = sum(weights.numel() for weights in network.parameters())
    assert count == FILES[name].parameters
    assert f"# {count:,} parameters" in Path(path_of(name)).read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_dry_run_prints_the_plan_and_starts_nothing(name, roots, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    overrides = [word for text in placed(name, roots) for word in ("--set", text)]
    assert sweep.main([path_of(name), "--dry-run", *overrides]) == 0
    assert f"{FILES[name].trials} trials" in capsys.readouterr().out
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_it_is_trained_distilled_sampled_and_scored(name, roots, inception, storage, monkeypatch):
    monkeypatch.setattr(diagnostics, "GAP_SAMPLES", 4)
    monkeypatch.setattr(diagnostics, "GAP_SUBSTEPS", 4)
    monkeypatch.setattr(evaluation, "REAL_SPLITS_WIDE", 1)
    experiment = loading.load(
        path_of(name), [*placed(name, roots), *inception, *SMALL, *FILES[name].small]
    )
    experiment = with_few_pairs(experiment)
    plan = opening.make_plan(experiment, path_of(name))
    for leader in plan.leaders():
        train(leader, experiment, storage)
    last = {trial.config.sampling.model: trial for trial in plan.trials}
    assert {(name, model) for model in last} == {key for key in NFE if key[0] == name}
    for model, trial in last.items():
        metrics = measure(trial, experiment, storage)
        assert (
            metrics["fid_features"].startswith("inception-v3-compat@") and metrics["samples"] == 4
        )
        assert torch.tensor(metrics[experiment.evaluation.metrics[0]]).isfinite()
        assert metrics["nfe"] == NFE[name, model]
        assert ("memorisation_fraction" in metrics) == (
            "memorisation" in experiment.evaluation.diagnostics
        )
        assert ("gap_at_ends" in metrics) == (
            model == "student" and "gap" in experiment.evaluation.diagnostics
        )


def with_few_pairs(experiment: Experiment) -> Experiment:
    """The same with tiny programmes."""
    programmes = experiment.sweep.space.get("distill.stages")
    if programmes is None:
        return experiment
    few = {"pairs": 20, "teacher_steps": 1, "width": 4}
    shrunk = [
        [{key: few.get(key, value) for key, value in stage.items()} for stage in stages]
        for stages in programmes.values
    ]
    return override(experiment, {"sweep.space.distill.stages": {"grid": shrunk}})


def train(trial: Trial, experiment: Experiment, storage: Path) -> None:
    leases = (0,) * len(trial.chain)
    job = Job(
        trial.chain,
        leases,
        str(storage),
        experiment.data,
        Saving(1000, 60.0, 2),
        threads=1,
        run="run",
    )
    for stage in trial.chain:
        if not Store(storage).done(stage.key):
            run_stage(stage, job, ALONE)


def measure(trial: Trial, experiment: Experiment, storage: Path) -> dict[str, float]:
    """Sample and score as the trial's tasks would: its metrics."""
    weights = FeatureWeights(experiment.evaluation.weights, experiment.evaluation.weights_sha256)
    if not Store(storage).done(trial.reference.key):
        build_reference(trial.reference, str(storage), experiment.data, weights)
    part = sample_part(
        trial.evaluation,
        str(storage),
        experiment.data,
        weights,
        0,
        0,
        experiment.evaluation.samples,
    )
    score(trial.evaluation, str(storage), experiment.data, 0.0, part)
    return json.loads(Store(storage).result(trial.evaluation.key).path("metrics.json").read_text())
