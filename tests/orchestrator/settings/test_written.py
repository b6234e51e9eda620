"""Places as users write them: environment variables, slips that would make a folder, tracking
stores, passwords."""

import subprocess
import sys

import pytest
from commands import REPOSITORY, TINY, run_here

from orchestrator import sample
from orchestrator.fields.addresses import meant
from orchestrator.fields.faults import ConfigError, Fault, describe, masked
from orchestrator.settings.loading import load, parse
from orchestrator.settings.tracking_address import meant_uri

SECRET = "http://ann:geheim@host:5000"


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(TINY)
    return file


def refused(file, *overrides):
    with pytest.raises(ConfigError) as error:
        load(file, overrides)
    return str(error.value)


def test_variables_are_replaced_by_their_values_in_every_setting_that_is_a_path(file, monkeypatch):
    monkeypatch.setenv("WHERE", "/mnt/x")
    given = ["storage=$WHERE/runs", "data={name: cifar10, root: '${WHERE}/d', cache: ~/c}",
             "sweep.space.data.root={grid: ['$WHERE/a', b]}", "tracking.uri=sqlite:///$WHERE/m.db"]  # fmt: skip
    read = load(file, given)
    assert (read.storage, read.data.root, read.data.cache) == ("/mnt/x/runs", "/mnt/x/d", "~/c")
    assert read.tracking.uri == "sqlite:////mnt/x/m.db"
    assert list(read.sweep.space["data.root"].values) == ["/mnt/x/a", "b"]
    weights = ["evaluation={features: inception-v3-compat, weights: $WHERE/w, metrics: [fid]}"]
    assert load(file, weights).evaluation.weights == "/mnt/x/w"


@pytest.mark.parametrize("key", ["storage", "data.root", "data.cache", "evaluation.weights"])
def test_a_variable_that_is_not_set_is_refused_by_its_name(file, key, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("EMPTY", "")
    said = refused(file, f"{key}=$NOT_SET/x")
    assert (
        f'--set {key}=$NOT_SET/x: {key}: got "$NOT_SET/x", but the environment variable NOT_SET is not set'
        in said
    )
    assert "variable EMPTY is empty" in refused(file, f"{key}=${{EMPTY}}/x")


def test_an_option_has_variables_too_and_what_is_there_under_its_name_is_meant(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WHERE", str(tmp_path / "y"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a $WHERE").mkdir()
    parsed = sample.parser().parse_args(
        ["$WHERE/x.yaml", "--out=a $WHERE/x.png", "--storage", "$WHERE"]
    )
    assert (parsed.source, parsed.storage) == (f"{tmp_path}/y/x.yaml", f"{tmp_path}/y")
    assert parsed.out == "a $WHERE/x.png"
    with pytest.raises(SystemExit) as ended:
        sample.parser().parse_args(["x", "--out=$NOT_SET_EITHER/x.png"])
    assert ended.value.code == 2
    assert (
        "but the environment variable NOT_SET_EITHER is not set: set it, or write its value"
        in capsys.readouterr().err
    )


def test_what_was_kept_of_a_sweep_is_read_without_variables():
    kept = {
        "name": "a",
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "storage": "$NOT_SET/runs",
    }
    assert parse(kept).storage == "$NOT_SET/runs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3//bucket/runs", "did you mean s3://bucket/runs?"),
        ("S3:bucket/runs", "did you mean s3://bucket/runs?"),
        ("S3://bucket/runs", "did you mean s3://bucket/runs?"),
        ("C:\\Users\\runs", "a Windows path: write the path on this system, such as /mnt/c/Users/runs"),
        ("runs ", 'expected no blanks at its ends: write "runs"'),
    ],
)  # fmt: skip
def test_slips_that_would_make_a_folder_are_refused(file, text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(file, f"storage='{text}'")
    if ":" not in text:
        (tmp_path / text).mkdir(parents=True)
        assert meant(text) == text


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mlflow.db", "sqlite:///mlflow.db"),
        ("runs/mlflow", "sqlite:///runs/mlflow"),
        ("sqlite:mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("file:///tmp/q", "sqlite:////tmp/q/mlflow.db"),
        ("HTTP://host:5000", "http://host:5000"),
        ("http:/host", "http://host"),
        ("postgres://host/db", "postgresql://host/db"),
        ("ftp://a", ""),
        ("databricks", ""),
        ("http://", ""),
        ("http://host:port", ""),
        ("sqlite:///:memory:", ""),
    ],
)
def test_a_tracking_store_that_can_never_work_is_refused_with_the_nearest_that_can(
    file, text, near
):
    said = refused(file, f"tracking.uri='{text}'")
    assert (
        "tracking.uri: got " in said
        and "expected a tracking server such as http://127.0.0.1:5000" in said
    )
    assert said.endswith(f": did you mean {near}?") == bool(near), said
    assert not near or meant_uri(near) == near


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:5000", "https://host/mlflow", "http://[::1]:5000", "sqlite:///mlflow.db",
             "sqlite:////abs/m.db", "sqlite+pysqlite:///m%20.db", "postgresql+psycopg2://u@host/db", "mysql://h/db",
             "sqlite:///~/m.db"],
)  # fmt: skip
def test_tracking_stores_that_may_work_are_taken(file, text):
    assert load(file, [f"tracking.uri={text}"]).tracking.uri == text


def test_a_password_is_never_printed_nor_written_down(file, tmp_path):
    said = run_here(tmp_path, "sweep", file, "--dry-run", "--set", f"tracking.uri={SECRET}")
    assert said.returncode == 2 and "geheim" not in said.stdout + said.stderr
    assert "http://ann:***@host:5000" in said.stderr
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said.stderr
    said = run_here(tmp_path, "sample", file, "--out", "x.png", "--tracking-uri", SECRET)
    assert said.returncode == 2 and "geheim" not in said.stdout + said.stderr
    assert "~/.pgpass" in refused(file, "tracking.uri=postgresql://ann:geheim@host/db")
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]


def test_messages_have_no_passwords_wherever_one_stands():
    assert str(Fault(f"--set tracking.uri={SECRET}", "x", f"got {SECRET}")).count("***") == 2
    assert "geheim" not in describe("http://ann:" + 70 * "geheim" + "@host")
    assert masked("sqlite:///a:b@c, http://h:5000/x") == "sqlite:///a:b@c, http://h:5000/x"
    assert masked("http://ann@host:5000/a@b") == "http://ann@host:5000/a@b"


def test_a_sweep_kept_with_a_password_does_not_print_it(tmp_path):
    from fabricated import experiment, sweep

    from orchestrator.tracking.hints import ui_command
    from orchestrator.tracking.publisher import Publisher

    records = sweep(
        tmp_path / "runs", experiment(tracking={"uri": "http://ann:geheim@127.0.0.1:9"})
    )
    publisher = Publisher(records)
    said = list(publisher._early_notes())
    assert said and "geheim" not in "".join(
        [*said, ui_command(records), publisher._failure_text(OSError(SECRET))]
    )


def told_without_utf8(cwd, *arguments):
    code = [sys.executable, "-m", "orchestrator." + arguments[0], *arguments[1:]]
    plain = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONPATH": str(REPOSITORY),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(code, cwd=cwd, env=plain, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["train", "umlaut.yaml", "--dry-run"], b'umlaut.yaml: storage: got "st\\xf6 re"'),
        (["train", "x.yaml", "--dry-run", "--set", "data.split=dé"], b"data.split: "),
        (["train", "x.yaml", "--dry-run", "--set", "data.root=ca fé"], b"data.root: "),
        (["sample", "x.yaml", "--out=x.png", "--labels", "dé"], b"--labels: "),
    ],
)
def test_what_a_locale_has_no_bytes_for_is_one_line_that_names_the_locale(
    arguments, key, file, tmp_path
):
    (tmp_path / "umlaut.yaml").write_text(TINY + "storage: stö re\n", encoding="utf-8")
    said = told_without_utf8(tmp_path, *arguments)
    assert said.returncode == 2, said.stderr
    assert key in said.stderr and b"Traceback" not in said.stderr
    assert b"this locale's encoding, ascii, " in said.stderr
    assert b"export LC_ALL=C.UTF-8, or PYTHONUTF8=1" in said.stderr
    assert said.stderr.count(b"\n") == 1
