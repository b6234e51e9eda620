"""The best network of a sweep as a registered model, and a real `mlflow models serve` that answers
with its images."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import PATIENCE, REPOSITORY, free_port, healthy, kill_all, own_environment
from documented import parts
from fabricated import versions

from orchestrator import sample
from orchestrator.sweeps.records import Records

pytestmark = pytest.mark.system

ASKED = {"count": 4, "seed": 0, "steps": 1, "labels": [3, 1, 4, 1]}


@pytest.fixture(scope="module")
def records(fabricated_sweep: Records) -> Records:
    return fabricated_sweep


def documented(begin: str) -> str:
    """The command of docs/tracking.md that begins so, whatever variables are set before it."""
    page = REPOSITORY / "docs" / "tracking.md"
    (found,) = [
        part.text
        for part in parts(page)
        if re.match(rf"([A-Z_]+=\S+ )*{re.escape(begin)}", part.text)
    ]
    return found


@pytest.fixture(scope="module")
def served(records: Records) -> Iterator[str]:
    """The address of `mlflow models serve` on the newest version, started as the documentation has
    it."""
    port, root = free_port(), records.store.root
    command = (
        documented("mlflow models serve")
        .replace("nfe-sweep", "fabricated")
        .replace("5001", str(port))
    )
    environment = {
        **own_environment(),
        "PYTHONPATH": str(REPOSITORY),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }  # as activated
    with (root / "serve.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=root.parent,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until = time.monotonic() + PATIENCE
            while not healthy(f"http://127.0.0.1:{port}"):
                assert process.poll() is None and time.monotonic() < until, (
                    root / "serve.log"
                ).read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            kill_all(process)


def post(uri: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """The status and the answer of a request."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(uri, json.dumps(body).encode(), headers)
    with contextlib.ExitStack() as stack:
        try:
            answer = stack.enter_context(urllib.request.urlopen(request, timeout=PATIENCE))
        except urllib.error.HTTPError as e:
            answer = stack.enter_context(e)
        return answer.status, json.loads(answer.read())


def drawn(records: Records, out: Path, *arguments: str) -> np.ndarray:
    """The images that the sampling command draws from the same sweep."""
    assert sample.main([f"{records.folder}:1", *arguments, "--out", str(out)]) == 0
    with np.load(out) as archive:
        return archive["images"].astype(int)


def test_the_best_student_is_registered_once_though_the_teacher_is_better(records):
    (version,) = versions(records)
    one_step = records.plan.trials[1]
    assert one_step.config.sampling.steps == 1
    assert version.tags == {
        "sweep_id": records.plan.id, "stage_key": one_step.chain[-1].key, "trial_key": one_step.key,
    }  # fmt: skip


def test_the_model_is_weights_and_configuration_and_code_as_text(records):
    (version,) = versions(records)
    folder = Path(version.source.removeprefix("file://"))
    code = REPOSITORY / "orchestrator" / "tracking" / "served_model.py"
    assert (folder / code.name).read_bytes() == code.read_bytes()
    found = {p.name: p.read_bytes() for p in (folder / "artifacts" / "network").iterdir()}
    assert set(found) == {"model.safetensors", "config.yaml", "facts.json"}
    stage = records.store.result(version.tags["stage_key"])
    assert found["model.safetensors"] == stage.path("model.safetensors").read_bytes()
    assert not list(folder.rglob("*.pkl"))


def test_the_documented_request_is_answered_with_its_images(served):
    words = shlex.split(documented("curl "))
    asked = json.loads(words[words.index("-d") + 1])
    assert words[1] == "http://127.0.0.1:5001/invocations"
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    status, said = post(served, **asked)
    assert status == 200, said
    (record,), (answer,) = asked["dataframe_records"], said["predictions"]
    assert np.array(answer["images"]).shape == (record["count"], 8, 8, 1)


@pytest.mark.parametrize(
    "body", [{"dataframe_records": [ASKED]}, {"inputs": ASKED}], ids=["records", "inputs"]
)
def test_what_is_served_is_what_the_sampling_command_draws(records, served, tmp_path, body):
    status, said = post(served, **body)
    assert status == 200, said
    (answer,) = said["predictions"]
    images = np.array(answer["images"])
    assert (images.shape, answer["nfe"]) == ((4, 8, 8, 1), 1)
    expected = drawn(
        records, tmp_path / "x.npz", "--count", "4", "--seed", "0", "--labels", "3,1,4,1"
    )
    # another number of threads may round differently, by at most one of 255 levels
    assert np.abs(images - expected).max() <= 1
    other = np.array(
        post(served, dataframe_records=[{**ASKED, "seed": 1}])[1]["predictions"][0]["images"]
    )
    assert np.abs(images - other).max() > 1


def test_fields_may_be_left_out_and_a_request_may_hold_several_records(served):
    status, said = post(
        served, dataframe_records=[{"seed": 0, "count": 2}, {"seed": 5, "count": 3}]
    )
    assert status == 200, said
    assert [len(answer["images"]) for answer in said["predictions"]] == [2, 3]


@pytest.mark.parametrize("wrong, words", [
    ({"steps": 4}, "steps: got 4, but this is student 1: expected 1"),
    ({"count": 0}, "count: got 0, expected a whole number from 1 to 4096"),
    ({"seed": -1}, "seed: got -1, expected a whole number"),
    ({"labels": [3, 10]}, "expected some of the classes 0 to 9"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_said_with_status_400(served, wrong, words):
    status, said = post(served, dataframe_records=[{**ASKED, **wrong}])
    assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert words in said["message"]
    assert "Traceback" not in json.dumps(said)
