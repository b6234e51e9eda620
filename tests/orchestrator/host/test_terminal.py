"""Every command's output in every encoding: real processes, whose stdout takes ASCII or Latin-1
alone."""

import subprocess
from pathlib import Path

import fabricated
import pytest
from commands import command, own_environment

from orchestrator.host import terminal

pytestmark = pytest.mark.system

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    # a locale of before UTF-8, in which Python reads files in ASCII too
    "locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep in a folder whose name neither ASCII nor Latin-1 has, which its config.yaml
    names."""
    root = tmp_path_factory.mktemp("plain") / "läufe-日本"
    fabricated.sweep(root, fabricated.experiment(storage=str(root)))
    return root


def said(folder: Path, environment: dict[str, str], *arguments: object) -> str:
    ended = subprocess.run(
        command(*map(str, arguments)),
        cwd=folder,
        env={**own_environment(), **environment},
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
    return ended.stdout.decode(environment.get("PYTHONIOENCODING", "ascii"))


@pytest.mark.parametrize("environment", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_tables_and_bars_are_drawn_in_plain_characters(environment, store, tmp_path):
    shown = said(tmp_path, environment, "status", "fabricated", "--storage", store)
    assert "#################### 3 of 3" in shown
    listed = said(tmp_path, environment, "status", "--storage", store)
    assert "+---" in listed and "fabricated/" in listed


def test_a_locale_of_before_utf_8_reads_the_store_and_writes_names(store, tmp_path):
    environment, out = ENCODINGS["locale"], tmp_path / "ü日.png"
    written = said(tmp_path, environment, "report", "fabricated", "--storage", store)
    assert "l\\xc3\\xa4ufe-\\xe6\\x97\\xa5\\xe6\\x9c\\xac/sweeps/fabricated" in written
    assert said(
        tmp_path,
        environment,
        "sample",
        "fabricated:0",
        "--storage",
        store,
        "--out",
        out,
        "--count",
        1,
    )
    assert out.exists()


def test_a_bar_keeps_its_width():
    terminal.make_plain()
    plain = "━━╌╌ a…b ü".encode("ascii", terminal.PLAIN)
    assert plain == b"##-- a.b \\xfc"
    assert (
        "\udcc3x".encode("utf-8", terminal.PLAIN) == b"\\xc3x"
    )  # a byte of a name that is no UTF-8


def test_a_fault_names_a_file_that_the_encoding_does_not_have(tmp_path):
    for environment in ENCODINGS.values():
        ended = subprocess.run(command("sweep", "日.yaml"), cwd=tmp_path, env={**own_environment(), **environment},
                               capture_output=True)  # fmt: skip
        assert ended.returncode == 2
        assert ended.stderr.startswith(
            b"error: \\u65e5.yaml: there is no such file"
        ) or ended.stderr.startswith(b"error: \\xe6\\x97\\xa5.yaml: there is no such file")
