"""What is only true of a store on S3: what it survives, what is refused, and that every command
finds its way there."""

import csv
import io
import re
import sys
import threading
from pathlib import Path

import fabricated
import pytest
import s3_server
import test_worker
from PIL import Image
from stages import any_stage
from test_store import publish_many
from test_worker import chain, checkpoints, kill_in, train, weights

from kaccore.files import file_sha256
from orchestrator import export, report, sample, stages, status, sweep
from orchestrator.store import s3_client, s3_copies
from orchestrator.store.place import StorageRefusedError
from orchestrator.store.s3_place import S3Place
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records

FILE = """\
name: refused
data: {{name: digits}}
path: {{kind: kac}}
storage: {storage}
tracking: {{uri: "http://127.0.0.1:5000"}}
"""


@pytest.fixture
def asked_anew():
    """A client that knows of the environment as it is now and of nothing before, and one that does
    afterwards."""
    s3_client.client.cache_clear()
    s3_client.REACHED.clear()
    yield
    s3_client.client.cache_clear()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process makes no long pauses before it repeats a request."""
    s3_server.hurry(monkeypatch.setattr)


def refusal(storage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a sweep says of its storage, in one line and before anything is started."""
    (tmp_path / "x.yaml").write_text(FILE.format(storage=storage))
    assert sweep.main([str(tmp_path / "x.yaml")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"x.yaml: storage: got {storage}, but " in line
    return line


ANSWERS = {
    "ExpiredToken": "expired: log in again",
    "AuthorizationHeaderMalformed": "another region: set AWS_DEFAULT_REGION",
    "AccessDenied": "they need s3:ListBucket",
    "InvalidAccessKeyId": "not known there: set AWS_PROFILE",
}


@pytest.mark.parametrize("code, remedy", ANSWERS.items())
def test_what_s3_refuses_is_said_with_the_remedy(code, remedy, bucket, service, tmp_path, capsys):
    service.tell(code=code)
    assert remedy in refusal(bucket, tmp_path, capsys)


@pytest.mark.parametrize("code, remedy", ANSWERS.items())
def test_what_s3_refuses_in_the_middle_is_no_use_to_try_again(code, remedy, bucket, service):
    service.tell(code=code)
    with pytest.raises(StorageRefusedError, match=re.escape(f"{bucket}/x: ") + ".*" + remedy):
        (bucket / "x").exists()  # a question whose answer has no words


def test_a_bucket_that_is_not_there_is_refused(service, tmp_path, capsys):
    assert "no such bucket: make it" in refusal("s3://nobodys-bucket/runs", tmp_path, capsys)


def test_a_bucket_in_another_region_is_refused_with_the_right_one(service, tmp_path, capsys):
    where = {"LocationConstraint": "eu-west-1"}
    s3_client.client().create_bucket(Bucket="far-away", CreateBucketConfiguration=where)
    said = refusal("s3://far-away/runs", tmp_path, capsys)
    assert said.endswith(
        "is in eu-west-1 and the region here is us-east-1: set AWS_DEFAULT_REGION=eu-west-1"
    )


def test_missing_credentials_are_refused(bucket, tmp_path, capsys, monkeypatch, asked_anew):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials are found: set AWS_PROFILE" in refusal(bucket, tmp_path, capsys)


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "boto3.exceptions", raising=False)
    assert refusal("s3://bucket/runs", tmp_path, capsys).endswith(
        "S3 needs boto3: pip install '.[s3]'"
    )


def test_a_service_that_does_not_answer_is_named(
    tmp_path, capsys, monkeypatch, asked_anew, hurried
):
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    for name, value in {
        **s3_server.ENVIRONMENT,
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    said = refusal("s3://bucket/runs", tmp_path, capsys)
    assert "http://127.0.0.1:9" in said and "check the network and AWS_ENDPOINT_URL_S3" in said


def test_a_service_that_has_answered_is_waited_for_when_it_does_not(
    bucket, service, monkeypatch, asked_anew
):
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    monkeypatch.setattr(s3_client, "PAUSES", [pause / 4 for pause in s3_client.PAUSES])
    (bucket / "x").put(b"x")
    for away in ("broken", "slow", "lost_question"):
        service.tell(**{away: 1.0})
        calm = threading.Timer(1.0, service.tell)
        calm.start()
        assert (bucket / "x").read_bytes() == b"x"
        assert not calm.is_alive()
    assert sum(service.counts().values()) < 5


def test_answers_that_break_off_are_asked_for_again(
    bucket, service, hurried, monkeypatch, tmp_path
):
    monkeypatch.setattr(s3_client, "PAUSES", (0.01,) * 30)
    (bucket / "there").put(b"x" * 100)
    service.tell(cut=0.5)
    for _ in range(10):
        assert (bucket / "there").read_bytes() == b"x" * 100
        assert not (bucket / "missing").exists()
        assert [place.name for place in bucket.find("*")] == ["there"]
        for ask in ((bucket / "missing").read_bytes, (bucket / "missing").local):
            with pytest.raises(FileNotFoundError):
                ask()


def test_the_check_of_a_storage_leaves_nothing_there(bucket):
    assert bucket.problem() == ""
    assert not bucket.is_dir()


def test_published_results_are_whole_on_an_s3_that_fails_often(bucket, service, hurried):
    service.tell(**s3_server.FAULTS)
    publish_many(str(bucket), 10)
    store = Store(bucket)
    for i in range(10):
        result = store.result(any_stage("teacher", {"seed": i}).key)
        assert {name: file_sha256(result.path(name)) for name in result.manifest["files"]} == {
            name: said["sha256"] for name, said in result.manifest["files"].items()
        }
    assert len((bucket / "stages").find("*/*")) == 20  # of each a manifest and one folder of files


def test_a_store_can_be_copied_from_s3_to_a_folder_and_back(bucket, tmp_path):
    publish_many(str(bucket / "first"), 2)
    for place in (bucket / "first").find("stages/*/*/*") + (bucket / "first").find(
        "stages/*/manifest.json"
    ):
        copy = tmp_path / str(place).removeprefix(f"{bucket}/first/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(place.read_bytes())
        (bucket / "second" / str(copy.relative_to(tmp_path))).put(copy.read_bytes())
    for store in (Store(tmp_path), Store(bucket / "second")):
        for i in range(2):
            tensors = store.result(any_stage("teacher", {"seed": i}).key).tensors("a.safetensors")
            assert float(tensors["w"][0]) == i


def train_hurriedly(root: str, every: int) -> None:
    s3_server.hurry()
    train(root, every)


def test_training_on_an_s3_that_fails_often_ends_when_killed_with_the_weights_of_a_folder(
    bucket, service, hurried, monkeypatch, tmp_path
):
    train(str(tmp_path))
    service.tell(**s3_server.FAULTS)
    monkeypatch.setattr(test_worker, "train", train_hurriedly)  # in the process that is killed
    teacher, student = chain()
    kill_in(teacher, bucket)
    newest = checkpoints(bucket, teacher)[-1]
    (newest.parent / "step-00000059.safetensors").put(
        b"an upload that was cut off, with no JSON after it"
    )
    train(str(bucket))
    for stage in (teacher, student):
        assert weights(bucket, stage) == weights(tmp_path, stage)
    assert not (bucket / "work").is_dir()


def test_a_damaged_checkpoint_on_s3_is_set_aside_and_the_one_before_it_used(
    bucket, tmp_path, capsys
):
    train(str(tmp_path), stages=chain()[:1])
    kill_in(chain()[0], bucket)
    newest = checkpoints(bucket, chain()[0])[-1]
    newest.put(newest.read_bytes()[:-20])
    train(str(bucket), stages=chain()[:1])
    assert newest.name in capsys.readouterr().err
    assert weights(bucket, chain()[0]) == weights(tmp_path, chain()[0])


def test_a_download_is_kept_while_the_object_is_the_same(bucket):
    place = bucket / "some" / "file.bin"
    place.put(b"one")
    first = place.local()
    assert (first.name, first.read_bytes(), place.local()) == ("file.bin", b"one", first)
    place.put(b"two")
    assert place.local().read_bytes() == b"two"
    assert first.read_bytes() == b"one"


def test_downloads_that_nobody_uses_make_room(bucket, monkeypatch):
    places_ = [bucket / f"{i}.bin" for i in range(3)]
    for place in places_:
        place.put(b"x" * 1000 + place.name.encode())
    kept = [place.local() for place in places_[:2]]
    monkeypatch.setattr(s3_copies, "KEEP_BYTES", 1500)
    assert places_[2].local().exists() and all(
        path.exists() for path in kept
    )  # they were used just now
    monkeypatch.setattr(s3_copies, "KEEP_SECONDS", -1.0)
    (bucket / "new.bin").put(b"new")
    assert (bucket / "new.bin").local().exists()
    assert not kept[0].exists()


@pytest.fixture
def finished(bucket: S3Place, tmp_path: Path) -> Records:
    uri = f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}"
    return fabricated.sweep(
        bucket, fabricated.experiment(storage=str(bucket), tracking={"uri": uri})
    )


def test_every_command_finds_a_sweep_on_s3(finished, tmp_path, capsys):
    root, name = str(finished.store.root), f"fabricated/{finished.plan.id}"
    folder = f"{root}/sweeps/{name}"
    assert status.main(["--storage", root]) == 0
    assert name in capsys.readouterr().out
    assert status.main(["fabricated", "--storage", root]) == 0
    assert "3 of 3 trials  done" in capsys.readouterr().out
    assert report.main([folder, "--publish"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert (
        f"{folder}/report.html" in said and " -m mlflow ui --backend-store-uri sqlite:///" in said
    )
    assert report.main(["fabricated", "--storage", root]) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert b"<h1>fabricated</h1>" in (finished.folder / "report.html").read_bytes()
    assert [p.name for p in (finished.folder / "figures").find("fid*.png")] == ["fid_vs_nfe.png"]
    rows = list(csv.DictReader(io.StringIO((finished.folder / "results.csv").read_text())))
    assert [row["fid"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert [row for row in rows if not row["mlflow_run_id"]] == []
    assert stages.main(["--storage", root, "list"]) == 0
    assert "8 stages" in capsys.readouterr().out

    arguments = ["--count", "2", "--seed", "0"]
    for run in (f"{folder}:1", folder, f"{root}/stages/{finished.plan.trials[1].chain[-1].key}"):
        out = tmp_path / "grid.png"
        assert sample.main([run, *arguments, "--out", str(out)]) == 0, capsys.readouterr().err
        assert Image.open(out).size[0] > 8
    out = tmp_path / "model.safetensors"
    assert (
        export.main(
            ["fabricated:1", "--storage", root, "--format", "safetensors", "--out", str(out)]
        )
        == 0
    )
    assert out.exists()


def test_a_run_of_mlflow_is_not_looked_up_in_a_bucket(finished, tmp_path, capsys):
    assert (
        sample.main(
            ["0" * 32, "--storage", str(finished.store.root), "--out", str(tmp_path / "x.png")]
        )
        == 2
    )
    assert "--tracking-uri" in capsys.readouterr().err


def test_an_address_on_the_command_line_that_is_none_is_refused(capsys):
    assert stages.main(["--storage", "gs://bucket/runs", "list"]) == 2
    assert (
        '--storage: got "gs://bucket/runs", expected a folder, or s3://' in capsys.readouterr().err
    )
