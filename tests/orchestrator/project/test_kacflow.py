"""All commands by one name."""

import sys
from pathlib import Path

import pytest
from commands import REPOSITORY

from orchestrator import kacflow


@pytest.fixture(autouse=True)
def arguments_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_it_lists_every_command_with_what_it_does(capsys):
    assert kacflow.main([]) == 0
    said = capsys.readouterr().out
    modules = {path.stem for path in (REPOSITORY / "orchestrator").glob("*.py")}
    assert set(kacflow.commands()) == modules - {"__init__", "kacflow"}
    assert all(
        f"  {name} " in said and what[-1] == "." for name, what in kacflow.commands().items()
    )
    assert "  sweep       Run every trial of an experiment's sweep" in said
    assert kacflow.main(["--help"]) == 0 and capsys.readouterr().out == said


def test_it_runs_a_command_as_python_does(capsys):
    file = str(REPOSITORY / "experiments" / "toy_2d.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(file).parent)
        assert kacflow.main(["sweep", file, "--dry-run"]) == 0
    assert "trials" in capsys.readouterr().out
    assert kacflow.main(["sweep", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: there is no such file" in capsys.readouterr().err


def test_its_version_is_that_of_the_package(capsys):
    assert kacflow.main(["--version"]) == 0
    assert capsys.readouterr().out == "kacflow 0.1.0\n"


def test_another_word_is_refused_with_the_nearest_command(capsys):
    assert kacflow.main(["swep", "x.yaml"]) == 2
    said = capsys.readouterr().err
    assert 'got "swep", expected one of data, distill' in said and 'did you mean "sweep"?' in said
