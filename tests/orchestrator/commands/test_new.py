"""`kacflow new` and `kacflow schema`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import new, schema
from orchestrator.settings import json_schema, loading, shipped


def test_without_a_name_it_lists_the_experiments_and_what_they_are_for(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert new.main([]) == 0
    said = capsys.readouterr().out
    assert all(f" {name} " in said for name in shipped.names())
    assert "Which damping and speed give the best 4-step student on digits?" in said


@pytest.mark.parametrize("name", ["nfe_sweep", "toy_2d", "paper/kacflow_cifar10"])
def test_what_it_writes_is_the_shipped_experiment(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert new.main([name]) == 0
    written = f"{name.rpartition('/')[2]}.yaml"
    source = shipped.file_of(name)
    assert source is not None
    assert loading.load(written) == loading.load(source)
    assert json.loads((tmp_path / new.SCHEMA).read_text()) == json_schema.schema()
    assert (tmp_path / written).read_text().splitlines()[0].endswith(f"$schema={new.SCHEMA}")
    assert f"kacflow sweep {written}" in capsys.readouterr().out


def test_it_writes_where_out_says_and_over_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    assert new.main(["toy_2d.yaml", "--out", "below/mine.yaml"]) == 0
    assert (tmp_path / "below" / new.SCHEMA).exists()
    before = (tmp_path / "below/mine.yaml").read_text()
    assert new.main(["mnist", "--out", "below/mine.yaml"]) == 2
    assert "below/mine.yaml: is there already: give another name" in capsys.readouterr().err
    assert (tmp_path / "below/mine.yaml").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nfe_swep"], 'NAME: got "nfe_swep", expected one of '),
        (["nfe_sweep", "--out", "nowhere/x.yaml"], "nowhere/x.yaml: there is no folder nowhere"),
        (["nfe_sweep", "--out", "x.txt"], "x.txt: expected a name that ends with .yaml"),
    ],
)
def test_bad_words_are_refused_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    assert new.main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_out_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        new.main(["--out", "x.yaml"])
    assert ended.value.code == 2 and "name one" in capsys.readouterr().err


def test_the_first_run_from_an_empty_folder_takes_two_commands(tmp_path):
    kacflow = Path(sys.executable).parent / "kacflow"
    for words in (["new", "nfe_sweep"], ["sweep", "nfe_sweep.yaml", "--dry-run"]):
        done = subprocess.run([kacflow, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "16 trials" in done.stdout


def test_schema_prints_it_with_the_kinds_of_a_files_plugins(tmp_path, capsys):
    assert schema.main([]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain == json_schema.schema()
    (tmp_path / "path_for_schema.py").write_text(
        "from typing import Literal\n"
        "from orchestrator.methods.path_kind import PathKind\n"
        "from orchestrator.methods.paths.flow_matching import FlowMatching\n"
        "@PathKind.family.register\n"
        "class ForSchema(FlowMatching):\n"
        "    '''A path for editors.'''\n"
        '    kind: Literal["for_schema"] = "for_schema"\n'
    )
    (tmp_path / "x.yaml").write_text(
        "name: x\ndata: {name: digits}\nplugins: [path_for_schema.py]\npath: {kind: for_schema}\n"
    )
    assert schema.main([str(tmp_path / "x.yaml")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["$defs"]["path.for_schema"]["description"] == "A path for editors."
    assert schema.main([str(tmp_path / "nowhere.yaml")]) == 2
