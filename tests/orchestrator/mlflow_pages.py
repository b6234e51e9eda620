"""MLflow's own pages in a real, headless Chromium, as a researcher uses them: run it to keep what
they look like.

    python tests/orchestrator/mlflow_pages.py STORAGE EXPERIMENT FOLDER [PARAMETER ...]

opens the experiment of a store and writes mlflow_runs.png, mlflow_compare.png (with these
parameters) and mlflow_run.png into FOLDER. Chromium is the system's (Debian's package); Playwright drives it."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

from commands import PATIENCE, free_port, mlflow_server
from playwright.sync_api import Page, sync_playwright

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
MILLISECONDS = 1000 * PATIENCE


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A page of a headless Chromium that asks nothing of the network but what it is told to."""
    assert CHROMIUM, "no chromium: apt-get install chromium"
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            page = chromium.new_page(viewport={"width": 1500, "height": 900})
            page.set_default_timeout(MILLISECONDS)
            yield page
        finally:
            chromium.close()


def open_runs(page: Page, uri: str, experiment: str, **settings: str) -> None:
    """The experiment's table of runs, as MLflow has it for the training of models, and without its
    assistant."""
    query = urlencode({"workflowType": "machine_learning", **settings})
    page.goto(f"{uri}/#/experiments/{experiment}/runs?{query}")
    page.get_by_role("gridcell").first.wait_for()
    if (close := page.get_by_role("button", name="Close")).count():
        close.first.click()


def unfold(page: Page, sweep: str) -> list[str]:
    """Unfold a sweep's run in the table: the names of the runs below it that are in sight."""
    row = page.get_by_role("row").filter(has_text=sweep)
    row.get_by_role("button").first.click()
    names = page.locator("[role=gridcell] a")
    names.nth(1).wait_for()
    return [name.strip() for name in names.all_inner_texts() if name.strip() not in ("", sweep)]


def compare_all(page: Page, uri: str, experiment: str, sweep_id: str) -> str:
    """Select all trials of a sweep, best first, and press Compare: the words in the parallel
    coordinates."""
    query = f"tags.kind = 'trial' and tags.sweep_id = '{sweep_id}'"
    open_runs(
        page, uri, experiment, searchFilter=query, orderByKey="metrics.`fid`", orderByAsc="true"
    )
    page.get_by_label("Select all runs").click()
    page.get_by_role("button", name="Compare").click()
    plot = page.locator(".js-plotly-plot")
    plot.get_by_text("fid", exact=True).first.wait_for()
    return str(plot.first.inner_text())


def choose_parameters(page: Page, names: Sequence[str]) -> None:
    """Show these parameters in the parallel coordinates, instead of the first ones by alphabet."""
    box = page.get_by_role("combobox").first
    box.click()
    for _ in range(3):
        page.keyboard.press("Backspace")
    for name in names:
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator(".js-plotly-plot").get_by_text(names[-1], exact=True).first.wait_for()


def show_image(page: Page, uri: str, experiment: str, run: str, name: str) -> int:
    """Open an image among a run's artifacts: how many pixels wide the browser found it to be."""
    page.goto(f"{uri}/#/experiments/{experiment}/runs/{run}/artifacts/{name}")
    image = page.locator(
        "img[src*='blob:'], img[src*='get-artifact'], canvas, .image-outer-container img"
    ).first
    image.wait_for()
    page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
    return int(image.evaluate("image => image.naturalWidth"))


def main(storage: Path, name: str, folder: Path, parameters: Sequence[str]) -> None:
    """Keep the three pages of the newest sweep of an experiment as pictures; `parameters`: of the
    comparison, by default those that MLflow shows."""
    from mlflow import MlflowClient

    with mlflow_server(storage, free_port(), storage / "mlflow.db") as uri, browser() as page:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name).experiment_id
        sweep = client.search_runs([experiment], "tags.kind = 'sweep'")[0]
        (best,) = client.search_runs(
            [experiment], "tags.kind = 'trial'", order_by=["metrics.fid ASC"], max_results=1
        )
        open_runs(page, uri, experiment)
        print(json.dumps(unfold(page, sweep.info.run_name)))
        page.screenshot(path=folder / "mlflow_runs.png")
        print(compare_all(page, uri, experiment, sweep.data.tags["sweep_id"]))
        if parameters:
            choose_parameters(page, parameters)
        page.screenshot(path=folder / "mlflow_compare.png")
        print(show_image(page, uri, experiment, best.info.run_id, "samples.png"))
        page.screenshot(path=folder / "mlflow_run.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
