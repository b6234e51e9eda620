"""Messages to a caller of Python name arguments; to a user of commands, options."""

from pathlib import Path

import kacflow as kf
import pytest

from orchestrator import sample, sweep
from orchestrator.fields.options import named_as_arguments, option, setting
from orchestrator.sweeps.records import Records


def refusal(call) -> str:
    with pytest.raises((ValueError, ConnectionError)) as raised:
        call()
    return str(raised.value)


GRID = {"sweep.space.path.damping": {"grid": [9.0, 25.0]}}
EXPERIMENT = Path(__file__).parents[3] / "experiments" / "toy_2d.yaml"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: kf.train("nfe_sweep", {"path.damping": -1}),
            'set={"path.damping": -1}: path.damp',
        ),
        (lambda: kf.train("nfe_sweep", {"name": 3}), 'set={"name": 3}: name: got 3'),
        (lambda: kf.train("nfe_sweep", {"path.dampng": 1}), 'set={"path.dampng": 1}: path.dampng'),
        (lambda: kf.train(kf.experiment(base="nfe_sweep"), {"path.damping": -1}), 'set={"path.d'),
        (
            lambda: kf.experiment(base="nfe_sweep", set={"teacher.lr": 0.0}),
            'set={"teacher.lr": 0.0}',
        ),
        (
            lambda: kf.sweep("damping_speed_sweep", {"path.damping": 9.0}),
            'set={"path.damping": 9.0}: path.damping: got 9.0, which no trial would use, since '
            "sweep.space varies it",
        ),
        (
            lambda: kf.sweep("damping_speed_sweep", {"path.damping": 9.0}),
            """give the sweep its values with set={"sweep.space.path.damping": {'grid': [9.0]}}""",
        ),
        (
            lambda: kf.sweep(kf.experiment(base="damping_speed_sweep"), {"path.damping": 9.0}),
            'set={"path.damping": 9.0}: path.damping: got 9.0, which no trial would use, since ',
        ),
        (lambda: kf.load("models:/none", storage="nowhere"), "storage: models:/none is looked up"),
        (lambda: kf.load("0" * 32, tracking_uri="sqlite:///no.db"), "tracking_uri: run 000"),
        (lambda: kf.load("models:/none", storage="s3://bucket/runs"), "tracking_uri: s3://bucket"),
        (lambda: kf.train("nfe_sweep", address="127.0.0.1:9"), "address 127.0.0.1:9: no Ray"),
    ],
)
def test_python_is_told_of_its_arguments(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refusal(call)
    assert message in said
    assert "--" not in said


def test_a_network_is_told_so_too(fabricated_sweep: Records):
    network = kf.load(str(fabricated_sweep.folder), steps=1)
    assert refusal(lambda: network(["x"])).startswith("labels: got x, expected classes of digits")


def test_commands_are_told_of_their_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        kf.load("models:/none", storage="nowhere")  # which changes no later message
    assert sample.main(["models:/none", "--out", "x.png"]) == 2
    assert capsys.readouterr().err.startswith("error: --storage: models:/none is looked up")
    assert sweep.main([str(EXPERIMENT), "--set", "seed=-1"]) == 2
    assert "--set seed=-1: seed: got -1" in capsys.readouterr().err


def test_how_options_and_settings_are_named():
    assert (option("tracking_uri"), setting("seed=1")) == ("--tracking-uri", "--set seed=1")
    with named_as_arguments():
        assert (option("tracking_uri"), setting("seed=1")) == ("tracking_uri", 'set={"seed": 1}')
        assert setting("name=a: b: c") == 'set={"name": a: b: c}'  # no YAML: as it was given
    assert option("storage") == "--storage"


def test_the_origin_of_a_teacher_does_not_call_it_a_student(fabricated_sweep: Records):
    storage = str(fabricated_sweep.store.root)
    teacher = repr(kf.load("fabricated", steps=5, storage=storage))
    assert "(the best trial of a student, fid 2): teacher, stage " in teacher
    assert teacher.startswith("fabricated: teacher by euler, 5 steps\n")
