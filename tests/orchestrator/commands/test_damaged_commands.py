"""What commands that only read say of damaged results: one line, how to mend it, exit status 2."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import fabricated
import pytest
from commands import everything_below
from rich.console import Console

from orchestrator import export, playground, report, sample, stages, status
from orchestrator.console import conclusion, dry_run
from orchestrator.console.live_view import View
from orchestrator.host import printed
from orchestrator.plan.stage import Stage
from orchestrator.reports.page import page
from orchestrator.settings.sweep_block import Sweep
from orchestrator.store import integrity
from orchestrator.sweeps import earlier, opening
from orchestrator.sweeps.records import Records

CONTENTS = [b"", b'{"fid": 1.0', b"[]", b"null", b"\xff\xfe"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A sweep in runs/ of a folder of its own, of which each test gets a copy to damage."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return fabricated.sweep(folder / "runs", fabricated.experiment(storage="runs"))


@pytest.fixture
def records(finished: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(str(finished.store.root)), "runs")
    return fabricated.opened(Path("runs"), finished.plan)


def stage_of(records: Records, kind: str) -> Stage:
    return next(s for s in records.plan.stages() if s.kind == kind)


def file_of(records: Records, kind: str, name: str) -> Path:
    return file_in(records, stage_of(records, kind), name)


def file_in(records: Records, stage: Stage, name: str) -> Path:
    return Path(records.store.root) / "stages" / stage.key / name


def fresh(records: Records) -> Records:
    return opening.records_of(records.folder)


COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str], str, str]] = {
    "sample": (
        sample.main,
        ["fabricated:0", "--count", "2", "--out", "x.png"],
        "teacher",
        "model.safetensors",
    ),
    "the best": (
        sample.main,
        ["fabricated", "--count", "2", "--out", "x.png"],
        "evaluation",
        "metrics.json",
    ),
    "export": (
        export.main,
        ["fabricated:0", "--format", "torchscript", "--out", "x"],
        "teacher",
        "model.safetensors",
    ),
    "playground": (playground.main, ["fabricated:0"], "teacher", "model.safetensors"),
    "report": (report.main, ["fabricated"], "evaluation", "metrics.json"),
    "status": (status.main, ["fabricated"], "student", "losses.json"),
    "status of all": (status.main, [], "evaluation", "metrics.json"),
}


@pytest.mark.parametrize("damage", ["flipped", "emptied", "removed"])
@pytest.mark.parametrize("main, arguments, kind, name", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_only_reads_names_the_file_and_the_remedy_and_changes_nothing(
    records, capsys, main, arguments, kind, name, damage
):
    file = file_of(records, kind, name)
    if damage == "removed":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content) if damage == "flipped" else b"")
    before = everything_below(Path("runs"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"stages/{stage_of(records, kind).key}: {name} is " in said
    again = printed.command("sweep", f"runs/sweeps/fabricated/{records.plan.id}/config.yaml")
    assert said.endswith(f"run the sweep again: {again}; {integrity.AGAIN}\n")
    assert "Traceback" not in said and len(said.splitlines()) == 2
    after = everything_below(Path("runs"))
    assert {k: v for k, v in after.items() if "mlflow" not in k} == before


@pytest.mark.parametrize("content", CONTENTS)
def test_an_unreadable_manifest_is_said_by_every_reader(records, capsys, content):
    file_of(records, "teacher", "manifest.json").write_bytes(content)
    for main, arguments in ((sample.main, ["fabricated:0", "--out", "x.png"]), (status.main, ["fabricated"]),
                            (report.main, ["fabricated"])):  # fmt: skip
        assert main(arguments) == 2
        assert "manifest.json is damaged" in capsys.readouterr().err
    assert stages.main(["list"]) == 0
    said = capsys.readouterr().out
    assert "damaged" in said and stage_of(records, "teacher").key[:10] in said


@pytest.mark.parametrize("content", CONTENTS)
def test_view_table_and_report_are_made_of_what_is_there_and_say_what_is_damaged(records, content):
    """One file of each kind, in three trials' results: all that is drawn is drawn once."""
    for folder in ("samples", "figures"):
        for left in (records.folder / folder).find("*"):
            left.unlink()
    unmeasured, unpictured, *_ = (s for s in records.plan.stages() if s.kind == "evaluation")
    damaged = {
        "metrics.json": unmeasured,
        "samples.png": unpictured,
        "losses.json": stage_of(records, "student"),
    }
    for name, stage in damaged.items():
        # the picture that is fabricated is empty already
        spoiled = content or (b"no picture" if name == "samples.png" else b"")
        file_in(records, stage, name).write_bytes(spoiled)
    read, console = fresh(records), Console(file=io.StringIO(), width=200)
    with View(read, console, ours=False) as view:
        console.print(view.table())
    conclusion.write(read)
    conclusion.print_conclusion(read, console)
    said, report_page = console.file.getvalue(), page(read)
    assert read.damaged == {
        stage.key: f"{name} is damaged (its sha256 differs)" for name, stage in damaged.items()
    }
    for name, stage in damaged.items():
        assert f"{stage.key}: {name} is damaged" in said
        assert f"{stage.key}: {name} is damaged" in report_page
    assert "done, but losses.json is damaged (its sha256 differs)" in said


def test_a_dry_run_says_what_a_run_would_set_aside_and_leaves_it(records, capsys):
    file_of(records, "teacher", "model.safetensors").write_bytes(b"")
    before = everything_below(Path("runs"))
    console = Console(file=io.StringIO(), width=200)
    dry_run.print_plan(records.plan, console)
    said = console.file.getvalue()
    assert "model.safetensors is damaged (it has 0 bytes" in said and "a run sets it aside" in said
    assert everything_below(Path("runs")) == before


def test_who_learns_from_a_sweep_with_damaged_metrics_is_told_before_anything_starts(records):
    file_of(records, "evaluation", "metrics.json").write_bytes(b"{}")
    space = {"path.damping": {"uniform": [1.0, 30.0]}}
    other = fabricated.experiment("other", storage="runs", sweep={
        "search": "optuna", "num_trials": 2, "learn_from": ["fabricated"], "space": space})  # fmt: skip
    assert isinstance(other.sweep, Sweep)
    with pytest.raises(ValueError, match=r"metrics\.json is damaged"):
        earlier.earlier_points(Records(opening.make_plan(other, "other"), records.store), "other")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"stages": 3}'])
def test_nothing_is_collected_while_a_plan_cannot_be_read(records, capsys, content):
    (records.folder / "plan.json").put(content)
    before = everything_below(Path("runs"))
    assert stages.main(["gc", "--keep-sweeps", "*"]) == 2
    assert "plan.json is damaged" in capsys.readouterr().err
    assert everything_below(Path("runs")) == before


def test_garbage_collection_frees_what_was_set_aside_once_it_is_made_again(records, capsys):
    teacher = stage_of(records, "teacher")
    file_of(records, "teacher", "model.safetensors").write_bytes(b"")
    integrity.set_aside_damaged(records.store, [teacher])
    aside = Path("runs") / "damaged" / f"{teacher.key}-1"
    arguments = ["gc", "--keep-sweeps", "fabricated"]
    assert stages.main(arguments) == 0
    assert aside.is_dir()  # it says that the teacher is to be trained again
    assert stages.main(["list"]) == 0
    assert "1 damaged results were set aside in" in capsys.readouterr().out
    fabricated.finish(records.store, teacher)
    assert stages.main([*arguments, "--dry-run"]) == 0
    assert aside.is_dir() and "would remove the damaged result" in capsys.readouterr().out
    assert stages.main(arguments) == 0
    assert not aside.exists() and records.store.done(teacher.key)


def test_what_is_damaged_while_a_run_ends_is_not_published_and_the_rest_is(records):
    file_of(records, "evaluation", "metrics.json").write_bytes(b"")
    file_of(records, "student", "losses.json").write_bytes(b"")
    read = fresh(records)
    fabricated.publish(read)
    client = fabricated.client_of(read)
    (experiment,) = [e for e in client.search_experiments() if e.name == "fabricated"]
    runs = client.search_runs([experiment.experiment_id])
    kinds = sorted(run.data.tags["kind"] for run in runs if run.info.status == "FINISHED")
    assert kinds == ["student", "sweep", "teacher", "trial", "trial"]
    assert len(read.damaged) == 2
