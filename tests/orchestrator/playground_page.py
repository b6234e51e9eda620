"""The playground as a process of its own, and its page in a real, headless Chromium: run it to keep
what it looks like.

    python tests/orchestrator/playground_page.py FOLDER RUN PICTURES

starts the playground of RUN in FOLDER, moves some of its controls and writes playground.png into
PICTURES."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from commands import PATIENCE, command, free_port, kill_all, own_environment
from mlflow_pages import browser
from playwright.sync_api import Page


@dataclass(frozen=True)
class Playground:
    """The command, which answers at `address`."""

    process: subprocess.Popen[str]
    address: str


@contextlib.contextmanager
def playground(folder: Path, *arguments: object) -> Iterator[Playground]:
    """`python -m orchestrator.playground` in `folder`, from when it answers; killed with -9 if it
    still runs then."""
    port = free_port()
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command("playground", *arguments, "--port", port), cwd=folder, env=own_environment(), text=True,
            stdout=log, stderr=subprocess.STDOUT,
            # a background job's is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        address, until = f"http://127.0.0.1:{port}/", time.monotonic() + PATIENCE
        try:
            while address not in _written(log):
                assert process.poll() is None and time.monotonic() < until, _written(log)
                time.sleep(0.2)
            yield Playground(process, address)
        finally:
            kill_all(process)


def _written(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def wait_for_images(page: Page, *words: str) -> list[str]:
    """The images that the page shows, once what is said of them has all the `words`."""
    for word in words:
        page.locator("#status").get_by_text(word).wait_for()
    page.locator("body:not(.busy)").wait_for()
    return [str(each.get_attribute("src")) for each in page.locator("#images img").all()]


def main(folder: Path, run: str, pictures: Path) -> None:
    """Keep the page as a picture: threes and sevens of the teacher, guided."""
    with playground(folder, run) as played, browser() as page:
        page.set_viewport_size({"width": 1400, "height": 700})
        page.goto(played.address)
        wait_for_images(page, "seed 0")
        page.get_by_text("teacher", exact=True).click()
        wait_for_images(page, "teacher")
        page.get_by_label("Solver").select_option("midpoint")
        for name in ("3", "7"):
            page.locator("#labels label").get_by_text(name, exact=True).click()
        page.get_by_label("Guidance", exact=True).fill("2")
        page.get_by_label("Seed", exact=True).fill("5")
        wait_for_images(page, "teacher", "NFE 80", "seed 5")
        page.screenshot(path=pictures / "playground.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2], Path(sys.argv[3]))
