import csv
import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import manifests, run, run_here
from conftest import SweepRun
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from kaccore.files import file_sha256
from orchestrator.settings import yaml_reader
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import load, override
from orchestrator.store.places import place_of
from orchestrator.sweeps import opening
from orchestrator.sweeps.verdict import verdicts

PARENT = "mlflow.parentRunId"
SWEPT = ["sampling.model", "sampling.solver", "sampling.steps"]
MEASURED = [
    "nfe",
    "fid",
    "fid_features",
    "kid",
    "precision",
    "recall",
    "seconds_per_image",
    "kinetic_path_energy",
]
METRICS = {
    "fid",
    "kid",
    "nfe",
    "seconds_per_image",
    "kinetic_path_energy",
}  # precision and recall are not asked for
PARAMETERS = {
    "damping",
    "speed",
    "clock",
    "intervals",
    "nfe",
    "model",
    "solver",
    "steps",
    "guidance",
    "path",
    "distiller",
}
EVALUATIONS_A_STEP = {"euler": 1, "ab2": 1, "midpoint": 2, "heun": 2, "rk4": 4}
CHATTER = (
    "WARN",
    "deprecat",
    "telemetry",
    "Traceback",
    "ray::",
    "(pid=",
    "INFO",
    "usage stats",
    "rank=",
    "Error",
)


def rows_of(sweep: SweepRun) -> list[dict[str, str]]:
    with (sweep.folder / "results.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def configuration_of(sweep: SweepRun, row: dict[str, str]) -> Experiment:
    base = override(load(sweep.folder / "config.yaml"), {"sweep": None})
    return override(base, {key: yaml_reader.load_text(row[key], key) for key in SWEPT})


def client_of(storage: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")


def runs_of(storage: Path) -> list[Run]:
    client = client_of(storage)
    experiment = client.get_experiment_by_name("nfe-sweep")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert found.token is None
    return list(found)


def runs_of_kind(storage: Path, kind: str) -> list[Run]:
    return [r for r in runs_of(storage) if r.data.tags.get("kind") == kind]


def content(storage: Path) -> list[tuple[Any, ...]]:
    """What MLflow says, without what it makes up itself."""
    return sorted(
        (
            r.data.tags["kind"],
            r.info.run_name,
            r.info.status,
            sorted(r.data.params.items()),
            sorted(r.data.metrics.items()),
        )
        for r in runs_of(storage)
    )


def test_the_default_sweep_ends_well(default_sweep):
    assert default_sweep.said.returncode == 0, default_sweep.said.stdout + default_sweep.said.stderr


def test_nothing_is_said_that_is_not_of_this_program(default_sweep):
    assert default_sweep.said.stderr == ""
    said = default_sweep.said.stdout
    assert [word for word in CHATTER if word in said] == []
    log = [
        line
        for line in said.splitlines()[1:]
        if not re.match(r"\[\d+:\d\d\] |left out |[┏┃┡│└]", line)
    ]
    first, *others = only_verdict(default_sweep).lines()
    verdict = [f"verdict   {first}", *(f"        {line}" for line in others)]
    assert log[: len(verdict)] == verdict and len(verdict) > 8
    assert [line.split()[0] for line in log[len(verdict) :]] == [
        "second",
        "tone",
        "features",
        "results",
        "report",
        "MLflow",
        "open",
        "filter",
    ]


def only_verdict(sweep):
    (found,) = verdicts(opening.records_of(place_of(str(sweep.folder))))
    return found


def test_the_table_ends_the_run_with_the_best_trial_first(default_sweep):
    lines = [
        line.split("│") for line in default_sweep.said.stdout.splitlines() if line.startswith("│")
    ]
    shown = [int(cells[1]) for cells in lines]
    fid = {int(row["trial"]): float(row["fid"]) for row in rows_of(default_sweep)}
    assert sorted(shown) == sorted(fid)
    assert [fid[i] for i in shown] == sorted(fid.values())


def test_the_run_says_where_everything_lies(default_sweep):
    said = dict(line.split(maxsplit=1) for line in default_sweep.said.stdout.splitlines()[-6:])
    assert said["features"] == "digits-cnn-v1"
    for what in ("results", "report"):
        assert (default_sweep.cwd / said[what]).is_file()
    assert shlex.split(said["MLflow"])[1:] == [
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        "sqlite:///runs/mlflow.db",
    ]
    assert (default_sweep.storage / "mlflow.db").is_file()


def test_results_csv_has_the_promised_columns_and_a_row_for_each_trial(default_sweep):
    rows = rows_of(default_sweep)
    columns = list(rows[0])
    promised = [
        "trial",
        "status",
        *SWEPT,
        *MEASURED,
        "seed",
        "mlflow_run_id",
        "samples",
        "error",
        "fid_second",
        "fid_second_features",
        "fid_of_real",
        "training_nfe",
    ]
    assert columns[: len(promised)] == promised
    further = {"memorisation_fraction", "training_seconds", "evaluation_stage", "path.damping"}
    assert further <= set(columns) and len(set(columns)) == len(columns)
    assert [row["trial"] for row in rows] == [str(i) for i in range(16)]
    wanted = {
        ("teacher", solver, n)
        for solver in ("euler", "ab2")
        for n in (1, 2, 4, 10, 20, 50, 100)
        if solver == "euler" or n <= 20
    }
    wanted |= {("student", "euler", n) for n in (1, 2, 4, 20)}
    assert {
        (r["sampling.model"], r["sampling.solver"], int(r["sampling.steps"])) for r in rows
    } == wanted
    constant = {(r["status"], r["error"], r["seed"], r["fid_features"]) for r in rows}
    assert constant == {("done", "", "0", "digits-cnn-v1")}


def test_nfe_counts_every_evaluation_of_the_network(default_sweep):
    for row in rows_of(default_sweep):
        sampling = configuration_of(default_sweep, row).sampling
        guided = 1 if sampling.guidance == 1.0 else 2
        assert int(row["nfe"]) == sampling.steps * EVALUATIONS_A_STEP[sampling.solver] * guided


def test_every_measure_is_a_number_where_it_was_asked_for(default_sweep):
    for row in rows_of(default_sweep):
        assert all(
            float(row[name]) > 0 for name in ("fid", "seconds_per_image", "kinetic_path_energy")
        )
        assert float(row["kid"]) == float(row["kid"])
        assert row["precision"] == row["recall"] == ""


def test_the_sweeps_folder_has_what_is_promised(default_sweep):
    folder = default_sweep.folder
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["id"] == folder.name
    assert len(plan["trials"]) == 16
    assert set(plan["stages"]) == {p.name for p in (default_sweep.storage / "stages").iterdir()}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["teacher"]["steps"], config["cluster"]["workers"]) == (40, 1)
    assert load(folder / "config.yaml") == load(
        default_sweep.arguments[0], default_sweep.arguments[2::2]
    )
    assert "</html>" in (folder / "report.html").read_text()
    with Image.open(folder / "figures" / "fid_vs_nfe.png") as figure:
        assert figure.format == "PNG"
    for row in rows_of(default_sweep):
        with Image.open(folder / row["samples"]) as grid:
            assert grid.format == "PNG"


def test_the_report_shows_every_trial_and_needs_no_other_file(default_sweep):
    page = (default_sweep.folder / "report.html").read_text()
    rows = rows_of(default_sweep)
    table = page[page.index('<table class="sortable">') :]
    shown = re.findall(r'<tr class="done"><td data-value="(\d+)">', table)
    assert [int(index) for index in shown] == [
        int(row["trial"]) for row in sorted(rows, key=lambda r: float(r["fid"]))
    ]
    for row in rows:
        assert f'<td data-value="{float(row["fid"])}">{float(row["fid"]):.4g}</td>' in table
    ours = "".join(part for part in page.split("<script") if "plotly.js v" not in part)
    assert (
        ours.count('src="data:image/png;base64,') == 16 + 2
    )  # the same seeds at every NFE; real images above them; training images
    assert not re.search(r'(?:src|href)="(?!data:)', ours)
    made_by = json.loads((default_sweep.folder / "plan.json").read_text())["made_by"]
    assert f"torch=={made_by['torch']}" in page


def test_every_stage_has_a_manifest_with_its_files_checksums(default_sweep):
    stages = default_sweep.storage / "stages"
    kinds: Counter[str] = Counter()
    for folder in stages.iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["key"] == folder.name
        found = {p.name: file_sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
        assert {name: said["sha256"] for name, said in manifest["files"].items()} == found
        assert all((stages / parent / "manifest.json").exists() for parent in manifest["parents"])
        kinds[manifest["kind"]] += 1
    training = {"teacher": 1, "pairs": 1, "student": 5}
    assert kinds == {**training, "reference": 2, "evaluation": 16}


def test_nothing_unfinished_and_nothing_of_rays_stays_behind(default_sweep):
    assert not list((default_sweep.storage / "work").glob("*/*"))
    assert not list(default_sweep.storage.glob("ray/*"))
    assert {p.name for p in default_sweep.cwd.iterdir()} == {"runs"}


def test_mlflow_has_one_finished_run_for_the_sweep_each_trial_and_each_training(default_sweep):
    found = runs_of(default_sweep.storage)
    assert Counter(r.data.tags["kind"] for r in found) == {
        "sweep": 1,
        "trial": 16,
        "teacher": 1,
        "student": 5,
    }
    assert {r.info.status for r in found} == {"FINISHED"}
    (parent,) = runs_of_kind(default_sweep.storage, "sweep")
    children = [r for r in found if r.info.run_id != parent.info.run_id]
    assert {r.data.tags[PARENT] for r in children} == {parent.info.run_id}


def test_a_trials_mlflow_run_has_the_promised_parameters_and_metrics(default_sweep):
    by_id = {r.info.run_id: r.data for r in runs_of_kind(default_sweep.storage, "trial")}
    rows = rows_of(default_sweep)
    assert {row["mlflow_run_id"] for row in rows} == set(by_id)
    for row in rows:
        data = by_id[row["mlflow_run_id"]]
        assert set(data.params) >= PARAMETERS
        assert set(data.metrics) >= METRICS
        assert (data.params["intervals"], data.params["damping"], data.params["path"]) == (
            "endpoint 20, pairs 1, adversarial 1-2-4",
            "25.0",
            "kac",
        )
        assert {f"sampling.{k}": data.params[k] for k in ("model", "solver", "steps")} == {
            k: row[k] for k in ("sampling.model", "sampling.solver", "sampling.steps")
        }
        assert data.params["nfe"] == row["nfe"]
        assert not {"sampling.model", "sampling.steps"} & data.params.keys()
        assert {name: data.metrics[name] for name in METRICS} == {
            name: float(row[name]) for name in METRICS
        }


def test_a_trials_mlflow_run_has_its_samples_and_its_complete_configuration(
    default_sweep, tmp_path
):
    client = client_of(default_sweep.storage)
    row = rows_of(default_sweep)[-1]
    names = {a.path for a in client.list_artifacts(row["mlflow_run_id"])}
    assert names - {"gap.png"} == {
        "samples.png",
        "nearest.png",
        "config.yaml",
    }  # a student has its gap too
    config = client.download_artifacts(row["mlflow_run_id"], "config.yaml", str(tmp_path))
    assert load(config) == configuration_of(default_sweep, row)
    samples = Path(client.download_artifacts(row["mlflow_run_id"], "samples.png", str(tmp_path)))
    assert samples.read_bytes() == (default_sweep.folder / row["samples"]).read_bytes()


def test_the_sweeps_mlflow_run_has_the_report_the_table_and_the_figure(default_sweep, tmp_path):
    client = client_of(default_sweep.storage)
    (parent,) = runs_of_kind(default_sweep.storage, "sweep")
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert names >= {"report.html", "results.csv", "fid_vs_nfe.png"}
    table = Path(client.download_artifacts(parent.info.run_id, "results.csv", str(tmp_path)))
    assert table.read_bytes() == (default_sweep.folder / "results.csv").read_bytes()


def test_training_runs_in_mlflow_have_their_loss_by_step(default_sweep):
    client = client_of(default_sweep.storage)
    for kind, steps in (("teacher", 40), ("student", 10)):
        for training in runs_of_kind(default_sweep.storage, kind):
            history = client.get_metric_history(training.info.run_id, "loss")
            assert [m.step for m in history] == list(range(1, steps + 1))
            block = "teacher" if kind == "teacher" else "distill"
            assert training.data.params[f"{block}.steps"] == str(steps)
            stage = json.loads(manifests(default_sweep.storage)[training.data.tags["stage_key"]])
            assert stage["kind"] == kind


def test_training_runs_in_mlflow_say_what_made_them_of_what_and_what_it_took(default_sweep):
    for kind in ("teacher", "student"):
        for training in runs_of_kind(default_sweep.storage, kind):
            data = training.data
            assert {
                "python_version",
                "torch_version",
                "ray_version",
                "mlflow_version",
            } <= data.tags.keys()
            assert data.metrics["system/memory_mb"] > 50
            assert data.metrics["system/cpu_percent"] >= 0
            assert [i.dataset.name for i in training.inputs.dataset_inputs] == ["digits"]


def test_the_best_student_is_registered_under_the_experiments_name(default_sweep):
    (version,) = client_of(default_sweep.storage).search_model_versions("name = 'nfe-sweep'")
    students = [row for row in rows_of(default_sweep) if row["sampling.model"] == "student"]
    best = min(students, key=lambda row: float(row["fid"]))
    trial = json.loads((default_sweep.folder / "plan.json").read_text())["trials"][
        int(best["trial"])
    ]
    assert (version.tags["sweep_id"], version.tags["trial_key"]) == (
        default_sweep.folder.name,
        trial["key"],
    )


@pytest.mark.usefixtures("on_shared_ray")
def test_the_same_command_again_finds_everything_and_adds_nothing(copied):
    before = manifests(copied.storage)
    table = (copied.folder / "results.csv").read_bytes()
    known = {r.info.run_id for r in runs_of(copied.storage)}
    again = run(copied.cwd, "sweep", *copied.arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "25 already done" in again.stdout
    assert manifests(copied.storage) == before
    assert (copied.folder / "results.csv").read_bytes() == table
    assert {r.info.run_id for r in runs_of(copied.storage)} == known
    assert {r.info.status for r in runs_of(copied.storage)} == {"FINISHED"}


def test_a_lost_mlflow_database_is_published_again_from_the_store(default_sweep, copied):
    (copied.storage / "mlflow.db").unlink()
    shutil.rmtree(copied.storage / "mlartifacts")
    again = run_here(copied.cwd, "report", copied.folder, "--publish")
    assert again.returncode == 0, again.stdout + again.stderr
    assert content(copied.storage) == content(default_sweep.storage)
    client = client_of(copied.storage)
    for row in rows_of(copied):
        names = {a.path for a in client.list_artifacts(row["mlflow_run_id"])}
        of_students = {"gap.png"} if row["sampling.model"] == "student" else set()
        assert names == {"samples.png", "nearest.png", "config.yaml"} | of_students


def test_a_report_can_be_made_again_from_the_store_alone(copied):
    made = {name: (copied.folder / name).read_bytes() for name in ("results.csv", "report.html")}
    figure = copied.folder / "figures" / "fid_vs_nfe.png"
    for file in (
        *(copied.folder / name for name in made),
        figure,
        *(copied.folder / "samples").iterdir(),
    ):
        file.unlink()
    again = run_here(copied.cwd, "report", copied.folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {name: (copied.folder / name).read_bytes() for name in made} == made
    assert figure.is_file()


def test_a_dry_run_says_what_is_there_and_writes_nothing(default_sweep, tmp_path):
    said = run_here(tmp_path, "sweep", *default_sweep.arguments, "--dry-run")
    assert said.returncode == 0, said.stdout + said.stderr
    assert len(re.findall(r"to do", said.stdout)) == 25
    assert list(tmp_path.iterdir()) == []
