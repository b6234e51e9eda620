"""A finished sweep as MLflow's own pages show it, in a real headless Chromium on a real server."""

import shutil
from collections.abc import Iterator

import mlflow_pages
import pytest
from commands import free_port, mlflow_server
from mlflow import MlflowClient
from playwright.sync_api import Page

from orchestrator.sweeps.training_fids import FID_WHILE_TRAINING


@pytest.fixture(scope="module")
def server(default_sweep, tmp_path_factory) -> Iterator[str]:
    assert default_sweep.said.returncode == 0, default_sweep.said.stderr
    folder = tmp_path_factory.mktemp("pages")  # others read the sweep's
    database = shutil.copy(default_sweep.storage / "mlflow.db", folder)
    with mlflow_server(folder, free_port(), database) as uri:
        yield uri


@pytest.fixture
def page() -> Iterator[Page]:
    """In a browser of its own: MLflow's pages keep what another test has filtered by."""
    with mlflow_pages.browser() as page:
        yield page


@pytest.fixture(scope="module")
def experiment(server) -> str:
    return str(MlflowClient(server).get_experiment_by_name("nfe-sweep").experiment_id)


def test_the_table_of_runs_shows_the_trials_below_their_sweep(
    page, server, experiment, default_sweep
):
    mlflow_pages.open_runs(page, server, experiment)
    names = mlflow_pages.unfold(page, f"sweep {default_sweep.folder.name}")
    assert any(name.endswith((" step, student", " steps, student")) for name in names), names


def test_compare_draws_settings_and_nfe_against_fid(page, server, experiment, default_sweep):
    """MLflow selects the first three parameters that differ: model, nfe and solver."""
    written = mlflow_pages.compare_all(page, server, experiment, default_sweep.folder.name).split(
        "\n"
    )
    assert {"model", "nfe", "solver", "fid"} <= set(written), written
    assert FID_WHILE_TRAINING not in written
    details = page.get_by_text("Comparing 16 Runs from 1 Experiment")
    assert details.is_visible()


def test_the_samples_of_a_trial_are_seen(page, server, experiment):
    client = MlflowClient(server)
    best = client.search_runs(
        [experiment], "tags.kind = 'trial'", order_by=["metrics.fid ASC"], max_results=1
    )[0]
    assert mlflow_pages.show_image(page, server, experiment, best.info.run_id, "samples.png") > 64
