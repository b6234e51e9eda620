"""A real sweep whose poor trial ASHA stops: what is left of it, in the store and in MLflow, and who
goes on with it."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from commands import run, run_here
from in_process import train
from mlflow import MlflowClient
from PIL import Image

from orchestrator.execution.stage_runner import TrialStoppedError, run_stages
from orchestrator.settings import loading
from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.leases import Lease, LeaseWatch, StopRequest
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.training_fids import FID_WHILE_TRAINING

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

SETTINGS = """\
name: stop
data: {name: digits}
path: {kind: kac}
model: {channels: 8, multipliers: [1], patch: 4}
teacher: {steps: 900, batch_size: 16}  # time enough between two measures for a stop to come
distill: {intervals: [4], teacher_steps: 8, steps: 10, batch_size: 16}
sampling: {model: student, steps: 4}
evaluation: {samples: 40, metrics: [fid], every: 300, every_samples: 64}
checkpoint: {steps: 1000}
"""
SWEEP = """\
sweep:
  scheduler: asha
  reduction_factor: 2
  max_concurrent_trials: 1
  space:
    teacher.lr: {grid: [1.0e-3, 2.0e-3, 1.0e-7]}
"""
POOR = "teacher.lr=1.0e-7"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep ran: the last trial is far behind the two before it."""
    cwd = tmp_path_factory.mktemp("stopped")
    (cwd / "x.yaml").write_text(SETTINGS + SWEEP)
    (cwd / "single.yaml").write_text(SETTINGS.replace("every: 300, ", ""))
    said = run(cwd, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "trial 2 stopped: its teacher's FID was" in said.stdout
    return cwd


def table(cwd: Path) -> list[dict[str, str]]:
    (path,) = cwd.glob("runs/sweeps/stop/*/results.csv")
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def looks_in(folder: Path) -> list[int]:
    """The steps of the pictures in a stage's folder."""
    return sorted(layout.step_of_look(picture.name) for picture in folder.glob(layout.LOOKS))


def left_over(cwd: Path) -> Path:
    """The work folder of the teacher that was stopped."""
    (folder,) = {p.parents[1] for p in cwd.glob("runs/work/*/checkpoints/step-*.json")}
    return folder


def test_the_poor_trial_is_stopped_where_it_was_measured_and_keeps_its_stage(stopped):
    """A minute for the sweep: three teachers of 900 steps, measured on the way, and two students."""
    *others, poor = table(stopped)
    assert [row["status"] for row in (*others, poor)] == ["done", "done", "stopped"]
    assert poor["fid"] == "" and poor["error"].endswith("after 300 steps")
    folder = left_over(stopped)
    assert json.loads((folder / FIDS).read_text())[0]["step"] == 300
    assert sorted((folder / "checkpoints").glob("step-*.json"))
    assert looks_in(folder)[0] == 300
    for path in stopped.glob(f"runs/stages/*/{FIDS}"):
        curve = json.loads(path.read_text())
        assert [point["step"] for point in curve] == looks_in(path.parent) == [300, 600, 900]
        for picture in path.parent.glob(layout.LOOKS):
            with Image.open(picture) as image:
                assert image.size == (4 * 50 + 2, 4 * 50 + 2)  # 16 digits, enlarged six times
        assert curve[0]["fid"] > curve[-1]["fid"]


def test_mlflow_has_the_curves_and_who_was_stopped(stopped):
    client = MlflowClient(f"sqlite:///{stopped / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("stop")
    runs = client.search_runs([experiment.experiment_id])
    trials = {r.data.tags["trial"]: r for r in runs if r.data.tags["kind"] == "trial"}
    assert (trials["0"].info.status, trials["2"].info.status) == ("FINISHED", "KILLED")
    history = client.get_metric_history(trials["2"].info.run_id, FID_WHILE_TRAINING)
    assert history[0].step == 300  # it may have come further since
    teachers = [r for r in runs if r.data.tags["kind"] == "teacher"]
    for teacher in teachers:
        assert [
            m.step for m in client.get_metric_history(teacher.info.run_id, FID_WHILE_TRAINING)
        ] == [300, 600, 900]
    assert {r.info.status for r in runs} == {"FINISHED", "KILLED"}
    for teacher in teachers:
        images = client.list_artifacts(teacher.info.run_id, "samples_while_training")
        assert [Path(image.path).name for image in images] == [
            "step-300.png",
            "step-600.png",
            "step-900.png",
        ]


def test_the_report_shows_the_curves_also_of_who_was_stopped(stopped):
    (folder,) = stopped.glob("runs/sweeps/stop/*")
    page = (folder / "report.html").read_text()
    (chart,) = re.findall(r'id="chart-fid_while_training".*?</script>', page, re.DOTALL)
    curves = [json.loads(steps) for steps in re.findall(r'"x":(\[[\d,]+\])', chart)]
    assert len(curves) == 3 and curves.count([300, 600, 900]) == 2, chart[:3000]
    assert (folder / "figures" / "fid_while_training.png").stat().st_size > 1000


def test_the_report_shows_samples_of_each_teacher_by_step_and_is_over(stopped):
    (folder,) = stopped.glob("runs/sweeps/stop/*")
    page = (folder / "report.html").read_text()
    rows = re.findall(r"<h3>teacher[^<]*looks?</h3>.*?</div>", page)
    assert len(rows) == 3
    captions = [re.findall(r"<figcaption>step ([\d,]+), FID [\d.]+<", row) for row in rows]
    assert captions.count(["300", "600", "900"]) == 2 and all(c[0] == "300" for c in captions)
    assert "http-equiv" not in page and 'class="running"' not in page


def test_the_same_command_again_leaves_it_stopped(stopped):
    before = table(stopped)
    again = run_here(stopped, "sweep", "x.yaml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert table(stopped) == before


def test_without_a_scheduler_the_sweep_goes_on_from_there_to_the_same_weights(stopped, tmp_path):
    key = left_over(stopped).name
    stopped = shutil.copytree(stopped, tmp_path / "copy")  # other tests look at what was stopped
    single = loading.load(stopped / "single.yaml", [POOR])
    (trial,) = opening.make_plan(single, "single.yaml", "teacher").trials
    train(trial.chain, trial.config.data, tmp_path / "anew")
    onward = run(stopped, "sweep", "x.yaml", "--set", "sweep.scheduler=none")
    assert onward.returncode == 0, onward.stdout + onward.stderr
    assert [row["status"] for row in table(stopped)] == ["done", "done", "done"]
    kept, anew = (Path(root) / "stages" / key for root in (stopped / "runs", tmp_path / "anew"))
    assert (kept / "model.safetensors").read_bytes() == (anew / "model.safetensors").read_bytes()
    assert (
        json.loads((kept / FIDS).read_text())[0]["step"] == 300
    )  # what was measured before is kept
    assert not (anew / FIDS).exists() and looks_in(anew) == []
    assert looks_in(kept) == [300, 600, 900]


def test_a_halted_trial_hands_its_stages_over_at_once(tmp_path):
    from test_stage_runner import CHAIN

    store, stop = Store(tmp_path), StopRequest()

    def execute(stages):
        stop.request()  # as Ray Tune does, from another thread
        raise RuntimeError("the workers gave up")

    with pytest.raises(TrialStoppedError):
        run_stages(CHAIN, store, "run", execute, stop=stop)
    for stage in CHAIN:
        lease = LeaseWatch(
            store.work(stage.key)
        ).try_take()  # without the silence that a dead holder is given
        assert isinstance(lease, Lease) and lease.number == 3


def test_a_poor_student_is_stopped_beside_one_that_learns(tmp_path):
    """Two students of one teacher, the second with far too large a learning rate."""
    settings = SETTINGS.replace("every: 300", "every_student: 30").replace(
        "steps: 900", "steps: 60"
    )
    settings = settings.replace("teacher_steps: 8, steps: 10", "teacher_steps: 8, steps: 120")
    sweep = SWEEP.replace("teacher.lr", "distill.lr").replace(
        "1.0e-3, 2.0e-3, 1.0e-7", "2.0e-3, 0.1"
    )
    settings = settings.replace("intervals: [4]", "intervals: [1]").replace(
        "steps: 4}", "steps: 1}"
    )
    (tmp_path / "x.yaml").write_text(settings + sweep)
    said = run(tmp_path, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "trial 1 stopped: its student's FID was" in said.stdout
    good, poor = table(tmp_path)
    assert (good["status"], poor["status"]) == ("done", "stopped")
    assert poor["error"].endswith(" steps")
    (path,) = tmp_path.glob(f"runs/stages/*/{FIDS}")
    curve = json.loads(path.read_text())
    assert [point["step"] for point in curve] == looks_in(path.parent) == [30, 60, 90, 120]
    assert all(point["std"] > 0 for point in curve)
    (page,) = tmp_path.glob("runs/sweeps/stop/*/report.html")
    assert "FID during training" in page.read_text()
    again = run(tmp_path, "sweep", "x.yaml", "--set", "evaluation.every_student=60")
    assert again.returncode == 0 and "1 of 2 done" not in again.stdout  # looks change no key


@pytest.mark.parametrize(
    ("settings", "key", "remedy"),
    [
        (["evaluation.every=null"], "sweep.scheduler", "expected none, or evaluation.every"),
        (["evaluation.every=900"], "evaluation.every", "expected less than teacher.steps, 900"),
        (
            ["evaluation.every_student=10"],
            "evaluation.every_student",
            "expected less than the training steps of a student, 10",
        ),
        (["sweep.grace_steps=900"], "sweep.grace_steps", "expected less than teacher.steps, 900"),
        (
            ["sweep.grace_steps=300", "sweep.scheduler=none"],
            "sweep.grace_steps",
            "expected null: only sweep.scheduler",
        ),
        (["sweep.reduction_factor=1"], "sweep.reduction_factor", ">= 2"),
        (["evaluation.every_samples=1"], "evaluation.every_samples", ">= 2"),
        (["sweep.scheduler=median"], "sweep.scheduler", "asha"),
    ],
)
def test_bad_settings_are_refused_by_key(tmp_path, settings, key, remedy):
    (tmp_path / "x.yaml").write_text(SETTINGS + SWEEP)
    said = run_here(tmp_path, "sweep", "x.yaml", *(part for s in settings for part in ("--set", s)))
    assert said.returncode == 2 and not (tmp_path / "runs").exists()
    assert key in said.stderr and remedy in said.stderr, said.stderr
