"""The plugins of docs/extending are trained, sampled, exported and measured like kinds of ours."""

import json
import shutil
from pathlib import Path

import pytest
from commands import REPOSITORY, run, run_here

from kaccore.export.portable import from_safetensors

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

FOLDER = REPOSITORY / "docs" / "extending"
EXPERIMENT = """\
name: plugged
plugins: [trigonometric, reflow.py, textures.py, conv_mixer.py, colours.py]
data: {name: textures, stride: 32, flip: true}
path: {kind: trigonometric}
model: {kind: conv_mixer, channels: 8, depth: 2}
teacher: {steps: 20, batch_size: 16}
distill: {kind: reflow, intervals: [4, 2], steps: 10, batch_size: 16, teacher_steps: 4}
sampling: {steps: 2}
evaluation: {samples: 40, metrics: [fid, kid], features: colours, diagnostics: [gap]}
sweep: {space: {path.kind: {grid: [trigonometric, kac]}}, max_concurrent_trials: 1}
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory, shared_ray: None) -> Path:
    """A folder in which a sweep with all five plugins has run."""
    folder = tmp_path_factory.mktemp("plugged")
    for file in FOLDER.glob("*.py"):
        shutil.copy(file, folder)
    (folder / "x.yaml").write_text(EXPERIMENT)
    said = run(folder, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    for name in ("trigonometric.py", "reflow.py", "textures.py", "conv_mixer.py", "colours.py"):
        assert f"runs the code of the plugin {name} (sha256 " in said.stdout
    return folder


def test_a_sweep_over_a_plugins_path_and_ours_is_trained_and_measured(plugged):
    (table,) = plugged.glob("runs/sweeps/plugged/*/results.csv")
    rows = [line.split(",") for line in table.read_text().splitlines()]
    status, features = rows[0].index("status"), rows[0].index("fid_features")
    assert [row[status] for row in rows[1:]] == ["done", "done"]
    assert {row[features] for row in rows[1:]} == {"colours"}
    assert {row[rows[0].index("path.kind")] for row in rows[1:]} == {"trigonometric", "kac"}


def test_the_same_command_finds_everything_done_and_another_source_does_not(plugged):
    again = run_here(plugged, "sweep", "x.yaml", "--dry-run")
    assert again.returncode == 0 and "to do" not in again.stdout, again.stdout + again.stderr
    source = plugged / "reflow.py"
    source.write_text(f"{source.read_text()}# another version\n")
    try:
        changed = run_here(plugged, "sweep", "x.yaml", "--dry-run")
    finally:
        shutil.copy(FOLDER / "reflow.py", source)
    lines = [line for line in changed.stdout.splitlines() if "to do" in line or "done" in line]
    todo = {line.split("│")[1].split(",")[0].strip() for line in lines if "to do" in line}
    assert todo == {"student reflow", "student 2 euler"}, changed.stdout


def test_its_networks_are_sampled_exported_and_shown(plugged):
    drawn = run_here(plugged, "sample", "plugged:0", "--count", "4", "--out", "x.png")
    assert drawn.returncode == 0, drawn.stderr
    assert "4 images of student (reflow)" in drawn.stdout and (plugged / "x.png").stat().st_size
    exported = run_here(plugged, "export", "plugged:0", "--format", "safetensors", "--out", "x.st")
    assert exported.returncode == 0, exported.stderr
    head = (plugged / "x.st").read_bytes()[8:20_000].decode(errors="replace")
    assert "conv_mixer.py (sha256 " in head  # what is needed to build the network again
    with pytest.raises(
        ValueError, match="its network ConvMixer is not one of UNet, DiT, MLP: give"
    ):
        from_safetensors(plugged / "x.st")
    traced = run_here(plugged, "export", "plugged:0", "--format", "torchscript", "--out", "x.pt")
    assert traced.returncode == 0, traced.stderr
    status = run_here(plugged, "status", "plugged")
    assert status.returncode == 0 and "2 of 2 trials" in status.stdout, status.stdout


def test_a_registered_network_says_which_plugins_it_needs(plugged):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{plugged / 'runs' / 'mlflow.db'}")
    (version,) = client.search_model_versions("name = 'plugged'")
    assert "needs the plugin textures.py (sha256 " in version.description
    (facts,) = plugged.glob("runs/mlartifacts/**/facts.json")
    assert len(json.loads(facts.read_text())["plugins"]) >= 4


def test_what_fails_in_the_code_of_a_plugin_is_one_clear_line(plugged):
    broken = (plugged / "reflow.py").read_text().replace("t = 1 - torch.rand", "t = 1 - torch.rnd")
    (plugged / "reflow_broken.py").write_text(broken)
    text = EXPERIMENT.replace("reflow.py", "reflow_broken.py").replace("name: plugged", "name: b")
    (plugged / "b.yaml").write_text(text.partition("sweep:")[0])
    said = run(plugged, "distill", "b.yaml")  # whose teacher the sweep has trained
    assert said.returncode == 1
    assert "module 'torch' has no attribute 'rnd'" in said.stdout, said.stdout + said.stderr
    assert "reflow_broken.py, line " in said.stdout and ", in loss" in said.stdout
