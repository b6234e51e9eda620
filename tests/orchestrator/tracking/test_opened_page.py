"""The addresses that a run and `orchestrator.ui` print open MLflow's table on the sweep's trials, best
first, in a real browser on a real server."""

import io
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up
import mlflow_pages
import pytest
from commands import PATIENCE, command, free_port, healthy, kill_all, own_environment
from playwright.sync_api import Page
from rich.console import Console

from orchestrator.console import conclusion
from orchestrator.plan.plan import Trial
from orchestrator.sweeps.records import Records
from orchestrator.tracking.publisher import Publisher

pytestmark = pytest.mark.system

FIDS = {(1, 0): 5.0, (2, 0): 8.5, (4, 0): 1.0, (1, 1): 7.0, (2, 1): 3.0, (4, 1): 2.0}
BEST_FIRST = ["4 steps, seed 0", "4 steps, seed 1", "2 steps, seed 1", "1 step, seed 0"]
BEST_FIRST += ["1 step, seed 1", "2 steps, seed 0"]
MEANS = ["4 steps", "2 steps", "1 step"]


def measured(trial: Trial) -> dict[str, Any]:
    fid = FIDS[trial.config.sampling.steps, trial.config.seed]
    return made_up.measured(trial) | {"fid": fid}


class Published:
    """A finished sweep, and the addresses of its pages as its last lines name them."""

    def __init__(self, root: Path) -> None:
        plan = made_up.plan({"sampling.steps": [1, 2, 4], "seed": [0, 1]})
        self.records: Records = made_up.made(root, plan, measured)
        self.records.save()
        publisher = Publisher(self.records)
        publisher.finish("FINISHED")
        self.said: dict[str, list[str]] = {}
        for problem in ("", "it was away"):
            out = io.StringIO()
            console = Console(file=out, width=80)
            conclusion.print_conclusion(self.records, console, problem, publisher.experiment_id)
            lines = out.getvalue().splitlines()
            self.said[problem] = [line.split()[1] for line in lines if line.startswith("open ")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("opened") / "runs")


@pytest.fixture(scope="module")
def ui(published: Published) -> Iterator[tuple[str, list[str]]]:
    """The address of `orchestrator.ui`, and the lines that it prints before the server's."""
    root, port = published.records.store.root, free_port()
    environment = own_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = root.parent / "ui.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command("ui", "--storage", root, "--port", port), cwd=root.parent, env=environment,
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE
        while not healthy(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        lines = [line for line in log.read_text().splitlines() if line.startswith("open ")]
        yield f"http://127.0.0.1:{port}", lines
    finally:
        kill_all(process)


@pytest.fixture
def page() -> Iterator[Page]:
    with mlflow_pages.browser() as page:
        yield page


def listed(page: Page, address: str) -> list[str]:
    """The names of the runs in the table of a page, from top to bottom."""
    page.goto(address)
    page.get_by_role("gridcell").first.wait_for()
    page.get_by_role("columnheader", name="fid").first.wait_for()
    names = page.locator("[role=gridcell] a").all_inner_texts()
    return [name.strip() for name in names if "step" in name]


def test_the_ui_names_the_pages_of_the_latest_sweep(published, ui):
    uri, lines = ui
    plan = published.records.plan
    assert [line.split(": ")[0] for line in lines] == [f"open made/{plan.id}"] * 2
    pages = [line.split(": ")[1] for line in lines]
    assert all(address.startswith(f"{uri}/#/experiments/") for address in pages)
    assert [a.partition("/#/")[2] for a in pages] == [
        a.partition("/#/")[2] for a in published.said[""]
    ]


def test_the_trials_are_listed_best_first_and_so_are_the_means(page, published, ui):
    uri, _ = ui
    trials, means = (uri + a.removeprefix("http://127.0.0.1:5000") for a in published.said[""])
    assert listed(page, trials) == BEST_FIRST
    for column in ("nfe", "steps", "seed"):
        assert page.get_by_role("columnheader", name=column, exact=True).count()
    page.goto("about:blank")
    assert [name.split(", ")[0] for name in listed(page, means)] == MEANS


def test_without_a_saved_view_the_address_has_the_filter_and_the_order(page, published, ui):
    uri, _ = ui
    address = uri + published.said["it was away"][0].removeprefix("http://127.0.0.1:5000")
    page.goto(address)
    page.get_by_role("gridcell").first.wait_for()
    names = page.locator("[role=gridcell] a").all_inner_texts()
    assert [name.strip() for name in names if "step" in name] == BEST_FIRST


def test_compare_draws_each_setting_once(page, published, ui):
    uri, _ = ui
    experiment = published.said[""][0].split("/experiments/")[1].split("/")[0]
    written = mlflow_pages.compare_all(page, uri, experiment, published.records.plan.id).split("\n")
    assert {"steps", "seed", "fid"} <= {*written}
    assert not {"sampling.steps", "sampling.model"} & {*written}


def test_a_trials_page_shows_the_source_the_commit_and_links_to_its_teacher(page, published, ui):
    from mlflow import MlflowClient

    uri, _ = ui
    client = MlflowClient(uri)
    (run_id,) = {e.mlflow_run_id for e in published.records.endings[:1]}
    run = client.get_run(run_id)
    page.goto(f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run_id}")
    page.get_by_text("python -m orchestrator.sweep made.yaml").first.wait_for()
    if commit := run.data.tags.get("mlflow.source.git.commit"):
        assert page.get_by_text(commit[:7]).count()
    with page.expect_popup() as opened:  # MLflow opens links of a description in a tab of their own
        page.get_by_role("link", name="teacher, ").click()
    teacher = client.get_run(run.data.tags["teacher_run_id"])
    opened.value.get_by_role("heading", name=teacher.info.run_name).first.wait_for()
    assert teacher.info.run_id in opened.value.url
