"""Paths as people write them: with ~, blanks and letters of their language, in files and on command
lines, and files as other systems save them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import fabricated
import pytest
from commands import (
    REPOSITORY,
    TINY,
    command,
    everything_below,
    own_environment,
    run_here,
    settings,
)

from orchestrator import data, doctor, export, playground, sample, stages, status
from orchestrator.console.command_line import run_parser
from orchestrator.fields.addresses import expanded, expanded_uri
from orchestrator.fields.faults import ConfigError
from orchestrator.settings import loading
from orchestrator.settings.loading import override
from orchestrator.store.folder import Folder
from orchestrator.store.places import place_of
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records
from orchestrator.tracking import tracker

STRANGE = "my räume & 'runs' #1 %41 $HOME {x}"
SMALL = "mount -t tmpfs tmpfs . -o size=1m"
# by which a command's every option that is a path is given
OPTIONS = [
    (run_parser("sweep", ""), ["{}"], "file"),
    (doctor.parser(), ["{}"], "file"),
    (data.parser(), ["{}", "--out=x"], "file"),
    (data.parser(), ["x", "--out={}"], "out"),
    (status.parser(), ["{}"], "sweep"),
    (status.parser(), ["--storage={}"], "storage"),
    (stages.parser(), ["--storage={}", "list"], "storage"),
    (sample.parser(), ["x", "--out={}"], "out"),
    (sample.parser(), ["{}", "--out=x"], "source"),
    (sample.parser(), ["x", "--out=x", "--storage={}"], "storage"),
    (sample.parser(), ["x", "--out=x", "--tracking-uri=sqlite:///{}"], "tracking_uri"),
    (export.parser(), ["x", "--format=onnx", "--out={}"], "out"),
    (playground.parser(), ["{}"], "source"),
]


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep in a folder with a strange name."""
    root = tmp_path_factory.mktemp("strange") / STRANGE
    fabricated.sweep(root, fabricated.experiment(storage=str(root)))
    return root


@pytest.mark.parametrize(("parser", "given", "name"), OPTIONS)
def test_a_home_folder_is_meant_by_a_tilde_in_every_option(
    parser, given, name, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    read = parser.parse_args([word.format("~/x y") for word in given])
    assert str(getattr(read, name)).removeprefix("sqlite:///") == f"{tmp_path}/x y"
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([word.format("~nobody-of-this-name/x") for word in given])
    assert ended.value.code == 2
    assert "no user nobody-of-this-name: write the full path" in capsys.readouterr().err


def test_a_home_folder_is_meant_by_a_tilde_in_every_setting_that_is_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = fabricated.experiment(
        storage="~/runs", data={"name": "cifar10", "root": "~/d", "cache": "~/c"}, tracking={"uri": "sqlite:///~/t.db"},
        evaluation={"features": "inception-v3-compat", "weights": "~/w.pt", "metrics": ["fid"]},
    )  # fmt: skip
    assert Store(asked.storage).root == tmp_path / "runs"
    assert asked.data.absolute().root == str(tmp_path / "d") and asked.data.absolute().cache == str(
        tmp_path / "c"
    )
    assert asked.evaluation.absolute().weights == str(tmp_path / "w.pt")
    here = fabricated.experiment(storage="~/runs", tracking={"uri": "sqlite:///~/t.db"})
    records = Records(fabricated.opening.make_plan(here, "x"), Store(here.storage))
    assert tracker.tracking_uri(records) == f"sqlite:///{tmp_path}/t.db"
    assert asked.to_yaml().count("~/") == 5  # what is kept for others is as it was written


@pytest.mark.parametrize(
    "key", ["storage", "data.root", "data.cache", "evaluation.weights", "tracking.uri"]
)
def test_a_home_folder_that_is_not_known_is_a_fault_of_its_setting(key):
    given = f"{key}=~nobody-of-this-name/x"
    with pytest.raises(ConfigError) as refused:
        files = {"data": {"name": "cifar10", "root": "/d"}} if key.startswith("data.") else {}
        override(fabricated.experiment(**files), {key: given.partition("=")[2]})
    assert any(
        f.key == key and "no user nobody-of-this-name" in f.message for f in refused.value.faults
    )


def test_other_tildes_are_part_of_a_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("./~/x", "a~b", "/x/~", "s3://bucket/x"):
        assert expanded(text) == text
    for text in ("http://host/~user", "sqlite:////abs/~x", "sqlite:///rel.db"):
        assert expanded_uri(text) == text
    assert expanded_uri("file:~/m") == f"file:{tmp_path}/m"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user without a home folder")
def test_without_a_home_folder_a_tilde_is_refused_and_no_folder_is_called_so(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY + "storage: ~/runs\n")
    nobody = [
        "setpriv",
        "--reuid=54321",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]
    without = {k: v for k, v in own_environment().items() if k != "HOME"}
    said = subprocess.run([*nobody, *command("sweep", "x.yaml", "--dry-run")], cwd=tmp_path, env=without,
                          capture_output=True, text=True)  # fmt: skip
    assert said.returncode == 2
    assert said.stderr == (
        'error: x.yaml: storage: got "~/runs", but this user has no home folder: set HOME; a folder of that name is '
        "./~\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


def test_commands_find_a_store_with_a_strange_name_from_another_folder(strange, tmp_path):
    for given in (["status", "fabricated"], ["stages"], ["report", "fabricated"]):
        said = run_here(tmp_path, *given, "--storage", strange)
        assert said.returncode == 0, said.stderr
    out = tmp_path / "ein bild ü.png"
    said = run_here(
        tmp_path, "sample", "fabricated:0", "--storage", strange, "--out", out, "--count", 2
    )
    assert said.returncode == 0, said.stderr
    assert out.exists() and str(out) in said.stdout
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["status", "stages", "report", "sample", "export", "playground"])
def test_a_store_that_is_not_there_is_refused(name, tmp_path):
    more = {"report": ["x"], "sample": ["x", "--out=x.png"], "export": ["x", "--format=safetensors", "--out=x.st"],
            "playground": ["x"]}.get(name, [])  # fmt: skip
    said = run_here(tmp_path, name, *more, "--storage=nowhere")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "error: --storage: got nowhere, which does not exist\n"
    (tmp_path / "other").mkdir()
    said = run_here(tmp_path, name, *more, "--storage=other")
    assert (
        said.stderr
        == "error: --storage: got other, expected a store: a folder with stages/ and sweeps/\n"
    )


def test_a_table_of_the_sweeps_of_nothing_is_no_empty_table(tmp_path):
    said = run_here(tmp_path, "status")
    assert said.returncode == 2 and "--storage: got runs, which does not exist" in said.stderr


def test_a_file_as_windows_saves_it_is_read_wherever_it_lies(tmp_path):
    there = tmp_path / "mein ordner ü"
    there.mkdir()
    file = there / "versuch 1 (kopie).yaml"
    file.write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").encode())
    file.chmod(0o444)
    there.chmod(0o555)
    before = everything_below(tmp_path)
    said = run_here(tmp_path, "train", file, "--dry-run", *settings(storage=f'"{there}/runs"'))
    if os.geteuid():
        assert said.returncode == 2 and "cannot be written" in said.stderr
    else:
        assert said.returncode == 0, said.stderr
    said = run_here(tmp_path, "train", file.relative_to(tmp_path), "--dry-run")
    assert said.returncode == 0, said.stderr
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ("mount -t tmpfs -o ro tmpfs .", "but {} cannot be written"),
        (SMALL, ""),
        (
            f"{SMALL} && cd $PWD && head -c 2M /dev/zero > fill",
            "but the disk of {} is full: make room",
        ),
        (f"{SMALL},nr_inodes=2 && cd $PWD && touch fill", "but the disk of {} is full: make room"),
    ],
)
def test_a_disk_that_takes_nothing_is_told_before_anything_starts(mount, expected, tmp_path):
    look = f"from orchestrator.store.folder import Folder; print(Folder('{tmp_path}/a/b').problem(), end='')"
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    said = subprocess.run(["unshare", "--mount", *rights, "bash", "-c", f'{mount}; exec "$0" -c "$1"',
                           sys.executable, look], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                           capture_output=True, text=True)  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout == expected.format(tmp_path)


def test_a_name_that_no_disk_takes_is_told(tmp_path):
    assert (
        Folder(tmp_path / ("x" * 300) / "runs").problem()
        == "but it cannot be used: File name too long"
    )
    assert place_of(str(tmp_path / "a" / "b")).problem() == ""


def test_types_of_arguments_leave_addresses_alone():
    parsed = status.parser().parse_args(["--storage", "s3://bucket/x~y"])
    assert isinstance(parsed, argparse.Namespace) and parsed.storage == "s3://bucket/x~y"
    assert loading.parse(
        fabricated.experiment(storage="s3://bucket/x", tracking={"uri": "http://h"}).model_dump()
    )
