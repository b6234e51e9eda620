"""The playground on a real Ray Serve, asked over HTTP and through its page in a real, headless
Chromium."""

import base64
import io
import json
import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from commands import PATIENCE, below, run_here
from PIL import Image
from playground_page import Playground, browser, playground, wait_for_images

from orchestrator import playground as command


class Started:
    """One playground for all tests here, and another one after a test that has ended it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self.running: Playground | None = None

    def get(self) -> Playground:
        if self.running is None or self.running.process.poll() is not None:
            how = ("nfe-sweep", "--model", "student", "--steps", "4")
            self.running = self.stack.enter_context(playground(self.folder, *how))
        return self.running


@pytest.fixture(scope="module")
def started(default_sweep) -> Iterator[Started]:
    started = Started(default_sweep.cwd)
    with started.stack:
        yield started


@pytest.fixture
def played(started: Started) -> Playground:
    return started.get()


def ask(address: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, str]:
    """The status and the text of the answer to a GET, or to a POST of `body`."""
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


def draw(played: Playground, **settings: Any) -> tuple[int, dict[str, Any]]:
    status, said = ask(f"{played.address}draw", json.dumps(settings).encode())
    return status, json.loads(said)


@pytest.mark.parametrize("settings, nfe", [
    ({"model": "student", "steps": 4, "seed": 7, "count": 20}, 4),
    ({"model": "student", "steps": 1, "labels": [3, 7], "seed": 2**40}, 1),
    ({"model": "teacher", "steps": 3, "solver": "heun", "guidance": 2.0, "labels": [5]}, 12),
], ids=["student", "one step", "guided teacher"])  # fmt: skip
def test_the_images_are_byte_for_byte_those_of_the_command_that_is_told(
    default_sweep, played, tmp_path, settings, nfe
):
    status, answer = draw(played, **settings)
    assert (status, answer.get("nfe")) == (200, nfe), answer
    told = shlex.split(answer["command"])
    assert told[1:4] == ["-m", "orchestrator.sample", "nfe-sweep"]
    said = run_here(default_sweep.cwd, "sample", *told[3:-1], tmp_path / "x.npz")
    assert said.returncode == 0, said.stderr
    with np.load(tmp_path / "x.npz") as archive:
        wanted = archive["images"][..., 0]
    files = [io.BytesIO(base64.b64decode(file)) for file in answer["images"]]
    assert [np.asarray(Image.open(file)).tobytes() for file in files] == [
        image.tobytes() for image in wanted
    ]


@pytest.mark.parametrize("body, words", [
    (b'{"model": "student", "steps": 3}', "sampling.steps: got 3, expected one of 20, 4, 2, 1"),
    (b'{"steps": 0}', "steps: got 0, expected a whole number from 1 to 1000"),
    (b'{"count": 257}', "count: got 257, expected a whole number from 1 to 256"),
    (b'{"seed": -1}', "seed: got -1, expected a whole number"),
    (b'{"seed": "a\\nb"}', "seed: got a b, expected a whole number"),
    (b'{"labels": [10]}', "sampling.labels: got [10], expected 0 to 9"),
    (b'{"labels": []}', "sampling.labels: got []"),
    (b'{"model": "pupil"}', 'sampling.model: got "pupil", expected one of "teacher", "student"'),
    (b'{"model": "teacher", "solver": "eulr"}', 'sampling.solver: got "eulr", expected one of "euler", "midpoint"'),
    (b'{"guidance": 2}', "sampling.guidance: got 2.0, expected 1: distill.guidance sets the guidance of a student"),
    (b'{"model": "teacher", "guidance": NaN}', "sampling.guidance: got nan (not finite)"),
    (b'{"step": 4}', "step: unknown field, expected some of model, steps, solver"),
    (b"[1]", "got list, expected a JSON object"),
    (b"{", "expected a JSON object"),
    (b"[" * 100_000, "expected a JSON object"),
    (b"\xff", "expected a JSON object"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_status_400_and_one_line(played, body, words):
    status, said = ask(f"{played.address}draw", body)
    error = json.loads(said)["error"]
    assert status == 400
    assert words in error and "\n" not in error and "Traceback" not in error


def test_only_json_is_taken_and_only_two_things_are_there(played):
    assert ask(f"{played.address}draw", b"{}", "text/plain")[0] == 400
    assert ask(f"{played.address}draw")[0] == 404
    assert ask(f"{played.address}../x")[0] == 404


def test_a_name_that_is_made_to_mean_this_machine_is_not_answered(played):
    request = urllib.request.Request(played.address, headers={"Host": "elsewhere.example:8321"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=PATIENCE)
    assert ask(played.address.replace("127.0.0.1", "localhost"))[0] == 200


def test_the_page_begins_as_the_command_was_told_and_offers_what_is_trained(played):
    status, page = ask(played.address)
    assert status == 200
    choices = json.loads(page.partition('id="choices">')[2].partition("</script>")[0])
    assert (choices["begin"]["model"], choices["begin"]["steps"]) == ("student", 4)
    assert choices["networks"]["student"]["steps"] == [1, 2, 4, 20]
    assert choices["networks"]["teacher"]["steps"] is None
    assert choices["classes"] == [str(k) for k in range(10)]


def test_it_listens_on_this_machine_alone(played):
    port = int(played.address.rstrip("/").rpartition(":")[2])
    listening = {
        c.laddr
        for each in below(played.process)
        for c in each.net_connections("tcp")
        if c.laddr.port == port
    }
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_whoever_moves_the_controls_sees_other_images_at_once(played):
    with browser() as page:
        asked, broken = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(played.address)
        four = wait_for_images(page, "student adversarial 4", "NFE 4", "seed 0")
        first = page.locator("#images img").first
        assert first.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
        assert first.evaluate("image => [image.naturalWidth, image.clientWidth]") == [8, 112]
        page.get_by_label("Steps from noise to image").press("ArrowLeft")
        two = wait_for_images(page, "student adversarial 2", "NFE 2", "seed 0")
        for _ in range(5):
            page.get_by_label("Seed", exact=True).press("ArrowRight")
        other = wait_for_images(page, "student adversarial 2", "seed 5")
        page.get_by_text("teacher", exact=True).click()
        page.get_by_label("Solver").select_option("heun")
        page.get_by_label("Steps, as a number").fill("3")
        page.get_by_label("Steps, as a number").press("Enter")
        page.locator("#labels label").get_by_text("7", exact=True).click()
        wait_for_images(page, "teacher", "NFE 6", "seed 5")
        # the steps and the label are asked for one after the other: the first answer may be shown
        # for a while
        page.wait_for_function(
            "[...document.querySelectorAll('figcaption')].every(c => c.innerText === '7')"
        )
        assert "--model teacher --steps 3 --solver heun" in page.locator("#command").inner_text()
        assert page.locator("#fault").is_hidden()
        assert [len(images) for images in (four, two, other)] == [16, 16, 16]
        assert len({tuple(images) for images in (four, two, other)}) == 3
        assert broken == []
        assert [url for url in asked if not url.startswith((played.address, "data:"))] == []


def test_a_count_that_cannot_be_had_is_said_on_the_page_and_the_next_one_drawn(played):
    with browser() as page:
        page.goto(played.address)
        wait_for_images(page, "seed 0")
        for count, hidden in (("1000", False), ("2", True)):
            page.get_by_label("Count, as a number").fill(count)
            page.get_by_label("Count, as a number").press("Enter")
            page.locator("#fault").wait_for(state="hidden" if hidden else "visible")
        assert "count: got 1000, expected a whole number from 1 to 256" in str(
            page.locator("#fault").text_content()
        )
        assert len(wait_for_images(page, "seed 0")) == 2


def test_an_interrupt_ends_it_and_leaves_no_process(played):
    family = below(played.process)
    played.process.send_signal(signal.SIGINT)
    assert played.process.wait(PATIENCE) == 130
    assert psutil.wait_procs(family, timeout=60)[1] == []


@pytest.mark.parametrize("arguments, words", [
    (["--port", "0"], "--port: got 0, expected a number from 1 to 65535"),
    (["--model", "student", "--steps", "3"], "sampling.steps: got 3"),
    (["--model", "student", "--guidance", "2"], "sampling.guidance: got 2.0"),
])  # fmt: skip
def test_what_cannot_be_played_is_said_before_anything_is_started(
    default_sweep, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(default_sweep.cwd)
    assert command.main(["nfe-sweep", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_port_that_is_taken_is_said(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert command.main(["x.yaml", "--port", str(other.getsockname()[1])]) == 2
    assert (
        "which is not available (Address already in use): choose another one"
        in capsys.readouterr().err
    )


def test_without_ray_serve_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert command.main(["x.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "grpc: pip install 'kacflow[playground]'" in said.err
