"""All commands by one name."""

import sys
from pathlib import Path

import pytest
from commands import REPOSITORY

from orchestrator import kacflow
from orchestrator.console import command_line


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


@pytest.mark.parametrize("name", ["sweep", "status"])
def test_usage_lines_name_a_command_as_it_was_called(name, capsys):
    assert kacflow.main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: kacflow {name} [-h]")
    assert kacflow.main([name, "--nothing"]) == 2
    assert f"kacflow {name}: error: " in capsys.readouterr().err
    sys.argv = ["elsewhere"]
    assert command_line.make_parser(name, "").prog == f"python -m orchestrator.{name}"


def test_its_version_is_that_of_the_package(capsys):
    assert kacflow.main(["--version"]) == 0
    assert capsys.readouterr().out == "kacflow 0.1.0\n"


def test_another_word_is_refused_with_the_nearest_command(capsys):
    assert kacflow.main(["swep", "x.yaml"]) == 2
    said = capsys.readouterr().err
    assert (
        'got "swep", expected one of completion, data' in said and 'did you mean "sweep"?' in said
    )
