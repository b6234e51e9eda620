import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import TINY, everything_below, own_environment, run

RUNNING = ("sweep", "train", "distill", "evaluate")
BAD_FILES = {
    "syntax": ("data: {name: digits\n", ["x.yaml", "line"]),
    "an unknown key": (
        TINY.replace("teacher: {steps", "teacher: {stepps", 1),
        ["x.yaml: teacher.stepps", "steps"],
    ),
    "a step count that no student has": (
        TINY.replace("steps: 4}", "steps: 3}"),
        ["x.yaml: sampling.steps", "4, 2"],
    ),
    "two faults": (
        TINY.replace("lr", "lrr").replace("steps: 20", "steps: -1"),
        ["x.yaml: teacher.steps"],
    ),
    "more GPUs than there are": (
        TINY + "cluster: {gpus_per_worker: 8}\n",
        ["x.yaml: cluster.gpus_per_worker", "8"],
    ),
    "more CPUs than there are": (
        TINY + "cluster: {cpus_per_worker: 5000}\n",
        ["x.yaml: cluster.cpus_per_worker"],
    ),
    "a storage below a file": (TINY + "storage: x.yaml/runs\n", ["x.yaml: storage", "is a file"]),
    "a storage of no known kind": (
        TINY + "storage: gs://bucket/runs\n",
        ["x.yaml: storage", "gs://bucket/runs"],
    ),
}


class Said(NamedTuple):
    """How a command ended, and what it said."""

    status: object
    out: str
    err: str


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """A command in this process, in an empty folder, by its name and its arguments: what it refuses
    does not depend on the process, whose start takes longer than the refusal."""
    monkeypatch.chdir(tmp_path)

    def called(name: str, *arguments: object) -> Said:
        try:
            status: object = importlib.import_module(f"orchestrator.{name}").main(
                [str(argument) for argument in arguments]
            )
        except SystemExit as ended:  # of argparse
            status = ended.code
        return Said(status, *capsys.readouterr())

    return called


ARGUMENTS = {
    **dict.fromkeys(RUNNING, "FILE"),
    **dict.fromkeys(["sample", "export", "playground"], "RUN"),
    **dict.fromkeys(["status", "report"], "SWEEP"),
}
ADDRESSES = ("127.0.0.1:9", "ray://127.0.0.1:9", "nonsense")
IN_TURN = """
import contextlib, io, json, runpy, sys
told = []
for words in json.loads(sys.argv[1]):
    sys.argv = words
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_module(f"orchestrator.{words[0]}", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            told.append([ended.code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


def in_turn(folder: Path, *commands: list[str]) -> list[Said]:
    """What commands say that run in `folder` one after the other, in one process: its start and its
    imports take longer than they do."""
    said = subprocess.run(
        [sys.executable, "-c", IN_TURN, json.dumps(commands)], cwd=folder, capture_output=True,
        text=True, timeout=300, env=own_environment(),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return [Said(status, out, err + said.stderr) for status, out, err in json.loads(said.stdout)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What each command says of itself; the folder stays empty."""
    folder = tmp_path_factory.mktemp("help")
    said = in_turn(folder, *([name, "--help"] for name in ARGUMENTS))
    assert list(folder.iterdir()) == []
    return dict(zip(ARGUMENTS, said, strict=True))


@pytest.fixture(scope="module")
def unreached(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What is said of each address; nothing is written."""
    folder = tmp_path_factory.mktemp("address")
    (folder / "x.yaml").write_text(TINY)
    said = in_turn(folder, *(["train", "x.yaml", "--address", address] for address in ADDRESSES))
    assert {p.name for p in folder.iterdir()} == {"x.yaml"}
    return dict(zip(ADDRESSES, said, strict=True))


@pytest.mark.parametrize("name, argument", ARGUMENTS.items())
def test_every_command_explains_itself(name, argument, told):
    assert told[name].status == 0 and told[name].err == ""
    assert argument in told[name].out


@pytest.mark.parametrize("text, words", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_by_its_name_and_key_before_anything_is_written(
    text, words, tmp_path, call
):
    (tmp_path / "x.yaml").write_text(text)
    before = everything_below(tmp_path)
    said = call("sweep", "x.yaml")
    assert (said.status, said.out) == (2, "")
    assert [word for word in words if word not in said.err] == []
    assert "Traceback" not in said.err
    assert everything_below(tmp_path) == before


def test_a_bad_file_ends_the_process_with_status_2_and_one_line(tmp_path):
    (tmp_path / "x.yaml").write_text("data: {name: digits\n")
    said = run(tmp_path, "sweep", "x.yaml")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("error: x.yaml") and "Traceback" not in said.stderr


@pytest.mark.parametrize("name", [*RUNNING, "sample", "playground"])
def test_a_missing_file_is_named(name, tmp_path, call):
    said = call(name, "nowhere.yaml", *(("--out", "x.png") if name == "sample" else ()))
    assert said.status == 2
    assert "nowhere.yaml" in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting, words", [
    ("teacher.stepps=3", ["--set teacher.stepps=3", "steps"]),
    ("teacher.steps=many", ["--set teacher.steps=many", "teacher.steps", "an integer"]),
    ("teacher.steps", ["--set teacher.steps", "KEY=VALUE"]),
])  # fmt: skip
def test_a_bad_setting_on_the_command_line_is_named(setting, words, tmp_path, call):
    (tmp_path / "x.yaml").write_text(TINY)
    said = call("train", "x.yaml", "--set", setting)
    assert said.status == 2
    assert [word for word in words if word not in said.err] == []
    assert {p.name for p in tmp_path.iterdir()} == {"x.yaml"}


def test_an_argument_that_is_not_known_is_refused(tmp_path, call):
    (tmp_path / "x.yaml").write_text(TINY)
    said = call("sweep", "x.yaml", "--learning-rate", 3)
    assert said.status == 2
    assert "--learning-rate" in said.err


def test_a_folder_that_is_no_sweeps_gives_no_report(tmp_path, call):
    said = call("report", tmp_path)
    assert said.status == 2
    assert "plan.json" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_cluster_that_does_not_answer_is_bad_input(address, unreached):
    said = unreached[address]
    assert said.status == 2, said.out + said.err
    assert f"--address {address}" in said.err
    assert "Traceback" not in said.err


def test_a_refusal_needs_neither_ray_nor_torch_nor_mlflow():
    """All commands one after the other: what one of them imported would be told after it."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    main = importlib.import_module(f'orchestrator.{name}').main\n"
        "    status = main(['nowhere.yaml'] + (['--out', 'x.png'] if name in ('sample', 'data') else []))\n"
        "    print(name, status, *sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    names = [*RUNNING, "sample", "playground", "data"]
    said = subprocess.run(
        [sys.executable, "-c", code, *names],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert said.stdout.splitlines() == [f"{name} 2" for name in names]
