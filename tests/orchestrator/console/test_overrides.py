"""What `--set` and `--only` do: refused where they would be ignored, said where they change
nothing."""

import importlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from commands import own_environment
from test_keys import SETTINGS

from kaccore.metrics.features import features_for, second_for
from orchestrator.console import overrides
from orchestrator.plan.data import by_name
from orchestrator.plan.plan import Facts, make
from orchestrator.settings import experiment, loading
from orchestrator.settings.loading import override

FILE: dict[str, Any] = {
    "name": "swept",
    "data": {"name": "digits"},
    "path": {"kind": "kac", "damping": 25.0},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "sampling": {"model": "student", "steps": 4},
    "evaluation": {"samples": 40, "metrics": ["fid"]},
}
DIFFUSION = {"space": {"path.kind": {"grid": ["diffusion"]}}}
GRID = {"space": {"path.damping": {"grid": [9.0, 36]}, "path.speed": {"grid": [1.0, 2.0]}}}
DRAWN = {
    "search": "random",
    "num_trials": 2,
    "space": {"path.damping": {"uniform": [1, 90]}, "seed": {"grid": [0, 1]}},
}
TWO = "sampling.steps=2"
GROWING = {**DRAWN, "search": "optuna"}
MODELS = {
    "space": {
        "sampling.model": {"grid": ["teacher", "student"]},
        "sampling.guidance": {"grid": [1.0, 3.0]},
    },
    "conditions": {"sampling.guidance": 'sampling.model == "teacher"'},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(
        os.environ, own_environment(), clear=True
    ):  # what a command sets is its own
        yield tmp_path


def facts(of: experiment.Experiment) -> Facts:
    """As the commands have them, without a look at files."""
    features = features_for(of.data.name, of.evaluation.features, of.evaluation.weights)
    second = second_for(of.data.name, features, of.evaluation.second)
    return Facts(by_name(of.data, "fingerprint"), features, second)


def dry(command: str, *texts: str, only: tuple[str, ...] = (), **blocks: Any) -> int:
    """The status of a dry run of a file with these blocks in the folder that this process is in."""
    Path("x.yaml").write_text(yaml.safe_dump({**FILE, **blocks}, sort_keys=False))
    given = [word for text in texts for word in ("--set", text)] + [
        word for text in only for word in ("--only", text)
    ]
    return importlib.import_module(f"orchestrator.{command}").main(["x.yaml", "--dry-run", *given])


@pytest.mark.parametrize("text, sweep, words", [
    ("path.damping=36", GRID, ["--set path.damping=36: path.damping: got 36", "--only path.damping=36",
                               "--set 'sweep.space.path.damping={grid: [36]}'"]),
    ("path.damping=35", GRID, ["over [9.0, 36]", "--set 'sweep.space.path.damping={grid: [35]}'"]),
    ("path={kind: kac, damping: 9}", GRID, ["path.damping: got 9", "--only path.damping=9"]),
    ("seed=1", DRAWN, ["seed: got 1", "--only seed=1", "--set 'sweep.space.seed={grid: [1]}'"]),
    ("path.damping=36", DRAWN, ["--set 'sweep.space.path.damping={choice: [36]}'"]),
    ("path.damping=36", GROWING, ["--set 'sweep.space.path.damping={choice: [36]}'"]),
    ("seed=1", GROWING, ["--set 'sweep.space.seed={grid: [1]}'"]),
])  # fmt: skip
def test_a_sweep_refuses_to_have_set_what_it_varies_and_names_the_ways_that_work(
    folder, capsys, text, sweep, words
):
    assert dry("sweep", text, sweep=sweep) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert ("--only" in said) == any(word.startswith("--only") for word in words)
    assert sorted(p.name for p in folder.iterdir()) == ["x.yaml"]


def test_both_ways_that_the_refusal_names_are_taken(folder, capsys):
    assert dry("sweep", only=("path.damping=36",), sweep=GRID) == 0
    assert "36, speed 1" in capsys.readouterr().out.replace("36.0", "36").replace("1.0", "1")
    assert dry("sweep", "sweep.space.path.damping={grid: [36]}", sweep=GRID) == 0
    assert ": 2 trials" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "distill", "evaluate"])
def test_a_single_run_heeds_what_its_file_also_sweeps(folder, capsys, command):
    assert dry(command, "path.damping=36", sweep=GRID) == 0
    assert "changes nothing" not in capsys.readouterr().out


def test_what_trials_have_where_a_condition_fails_may_be_set(folder, capsys):
    guided = {**MODELS, "space": {"sampling.steps": {"grid": [2, 4]}, "sampling.guidance": {"grid": [3.0]}},
              "conditions": {"sampling.guidance": "sampling.steps > 2"}}  # fmt: skip
    teacher = {"model": "teacher", "steps": 4}
    assert dry("sweep", "sampling.guidance=2.0", sampling=teacher, sweep=guided) == 0
    said = capsys.readouterr().out
    assert "changes nothing" not in said and "steps 2, guidance 2" in said


def test_what_makes_the_base_a_sound_run_may_be_set_though_it_is_swept(folder, capsys):
    sweep = {"space": {"sampling.steps": {"grid": [10, 2]}}}
    assert dry("sweep", "distill.intervals=[10, 2]", sweep=sweep) == 2
    assert "sampling.steps: got 4, expected one of 10, 2" in capsys.readouterr().err
    assert dry("sweep", "distill.intervals=[10, 2]", "sampling.steps=2", sweep=sweep) == 0


@pytest.mark.parametrize("command, texts, blocks, said", [
    ("sweep", ["path.speed=2"], {}, "--set path.speed=2 changes nothing: path.speed is 2.0 without it"),
    ("train", ["path={kind: kac}"], {"path": {"kind": "kac"}}, "path={kind: kac} changes nothing: path is the same"),
    ("train", ["seed=1", "seed=2"], {}, "--set seed=1 changes nothing: --set seed=2 comes after it"),
    ("sweep", ["path.clock=quadratic"], {"sweep": DIFFUSION}, "changes nothing: no trial uses path.clock"),
    ("train", ["distill.steps=10"], {}, "distill.steps=10 changes nothing: this run does not use distill.steps"),
    ("evaluate", ["distill.steps=10"], {"sampling": {"model": "teacher"}}, "this run does not use distill.steps"),
    ("sweep", ["sweep.space.path.damping={grid: [9.0, 36]}"], {"sweep": GRID}, "sweep.space.path.damping is the same"),
    ("sweep", ["sweep.num_trials=2"], {"sweep": GROWING}, "sweep.num_trials is 2 without it"),
    ("train", ["cluster.workers=1"], {}, "cluster.workers is 1 without it"),
    ("sweep", ["evaluation.features=digits-cnn-v1"], {"sweep": GRID}, "no trial uses evaluation.features"),
])  # fmt: skip
def test_an_override_that_changes_nothing_is_said(folder, capsys, command, texts, blocks, said):
    assert dry(command, *texts, **blocks) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if "changes nothing" in line]
    assert len(found) == 1 and said in found[0]


@pytest.mark.parametrize("command, texts, blocks", [
    ("sweep", ["sweep.space.path.schedule={grid: [vp]}"], {"sweep": DIFFUSION}),
    ("sweep", ["distill.steps=10"], {"sweep": MODELS}),
    ("sweep", ["model.depth=5", "model.kind=dit", "model.channels=64"], {}),
    ("sweep", ["sampling.shaping=0.1"], {"sweep": {**GRID, "constraints": ["sampling.shaping > 0 or damping < 10"]},
                                         "sampling": {"model": "teacher"}}),
    ("sweep", ["distill.intervals=[10, 2]", TWO], {"sweep": {"space": {"sampling.steps": {"grid": [2]}}}}),
    ("sweep", ["path.clock=quadratic"], {"sweep": GROWING}),
    ("train", ["sweep.num_trials=5"], {"sweep": GROWING}),
    ("train", ["checkpoint.steps=5"], {}),
    ("train", ["evaluation.every=5", "name=other", "storage=elsewhere", "tracking.uri=http://127.0.0.1:9"], {}),
    ("distill", ["distill.steps=10"], {}),
])  # fmt: skip
def test_an_override_that_changes_something_is_not_called_useless(
    folder, capsys, command, texts, blocks
):
    assert dry(command, *texts, **blocks) == 0
    assert "changes nothing" not in capsys.readouterr().out


@pytest.mark.parametrize("key", SETTINGS)
def test_of_every_setting_it_is_known_whether_a_run_uses_it(folder, key):
    value, _, base = SETTINGS[key]
    text = f"{key}={yaml.safe_dump(value, default_flow_style=True).split(chr(10))[0]}"
    plain = {"name": "plan", "data": {"name": "digits"}, "path": {"kind": "kac"}}
    Path("x.yaml").write_text(override(loading.parse(plain), base).to_yaml())
    plan = make(loading.load("x.yaml", [text]), facts, "evaluation")
    assert list(overrides.set_without_effect(plan, partial(loading.load, "x.yaml"), [text])) == []


def test_only_that_leaves_all_trials_is_said(folder, capsys):
    one = {"space": {"path.damping": {"grid": [9.0]}, "path.speed": {"grid": [1.0, 2.0]}}}
    assert dry("sweep", only=("path.damping=9",), sweep=one) == 0
    assert (
        "--only path.damping=9 changes nothing: all 2 trials have this value"
        in capsys.readouterr().out
    )
    assert dry("sweep", only=("path.speed=1",), sweep=one) == 0
    assert "changes nothing" not in capsys.readouterr().out
