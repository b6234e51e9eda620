"""Shells complete `kacflow` by the script that `kacflow completion` prints."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import completion
from orchestrator.console.commands import commands
from orchestrator.settings import shipped

# keys are typed, Tab is pressed, and reading ends when the words are shown
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -U compinit; compinit -u -D; eval "$(<script)"; PS1=$(print READ)Y'
zpty -r shell shown '*READY*'
zpty -w -n shell $1$'\t'
zpty -r shell shown $2
print -r -- $shown
"""


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where someone types: with two experiments, another file and a folder."""
    for name in ("mine.yaml", "my other.yaml", "mine.txt"):
        (tmp_path / name).touch()
    (tmp_path / "results").mkdir()
    return tmp_path


def run(folder: Path, shell: str, *arguments: str) -> str:
    (folder / "script").write_text(completion.script(shell))
    said = subprocess.run(
        [shell, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def by_bash(folder: Path, *words: str) -> list[str]:
    code = (
        'source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_kacflow; '
        r'printf "%s\n" "${COMPREPLY[@]}"'
    )
    said = run(folder, "bash", "--norc", "-c", code, "bash", "kacflow", *words)
    return sorted(said.splitlines())


@needs("bash")
@pytest.mark.parametrize(("words", "expected"), [
    (["sta"], ["stages", "status"]),
    (["sweep", "--dr"], ["--dry-run"]),
    (["sweep", "m"], ["mine.yaml", "my other.yaml"]),
    (["sweep", "mine.yaml", "--set", "path.damping=9.0", "--o"], ["--only"]),
    (["sample", "mi"], ["mine.txt", "mine.yaml"]),
    (["export", "mine.yaml", "--format", ""], ["onnx", "safetensors", "torchscript"]),
    (["export", "mine.yaml", "--out", "mine.t"], ["mine.txt"]),
    (["status", "--storage", ""], ["results"]),
    (["stages", "gc", "--k"], ["--keep-sweeps"]),
    (["new", "nfe"], ["nfe_sweep"]),
    (["completion", ""], ["bash", "fish", "zsh"]),
    (["--vers"], ["--version"]),
])  # fmt: skip
def test_bash_completes_commands_options_and_what_their_arguments_may_be(folder, words, expected):
    assert by_bash(folder, *words) == expected


@needs("bash")
def test_every_command_and_every_option_of_each_is_completed(folder):
    assert by_bash(folder, "") == sorted(commands())
    for action in completion.whole()._actions:
        for name, parser in (action.choices or {}).items():
            options = [option for each in parser._actions for option in each.option_strings]
            assert by_bash(folder, name, "-") == sorted(options), name
    assert by_bash(folder, "new", "") == sorted(shipped.names())


@needs("zsh")
@pytest.mark.parametrize(("typed", "shown"), [
    ("kacflow sta", "*stages*status*"),
    ("kacflow sweep --dr", "*--dry-run*"),
    ("kacflow sweep mi", "*mine.yaml*"),
])  # fmt: skip
def test_zsh_completes_a_command_an_option_and_a_file(folder, typed, shown):
    assert run(folder, "zsh", "-f", "-c", ZSH, "zsh", typed, shown)


@needs("fish")
@pytest.mark.parametrize(("typed", "shown"), [
    ("kacflow sta", ["stages", "status"]),
    ("kacflow sweep --dr", ["--dry-run"]),
    ("kacflow sweep mi", ["mine.yaml"]),
])  # fmt: skip
def test_fish_completes_a_command_an_option_and_a_file(folder, typed, shown):
    said = run(folder, "fish", "-N", "-c", f'source ./script; complete -C "{typed}"')
    assert [line.partition("\t")[0] for line in said.splitlines()] == shown


def test_the_script_needs_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import sys; from orchestrator import completion; completion.script('bash'); "
        "print(*{'ray', 'torch', 'mlflow'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (said.stdout, said.stderr) == ("\n", "")


def test_another_shell_is_refused_with_those_that_can(capsys):
    with pytest.raises(SystemExit) as ended:
        completion.main(["cmd"])
    assert ended.value.code == 2
    assert "invalid choice: 'cmd' (choose from 'bash', 'zsh', 'fish')" in capsys.readouterr().err
