"""Kinds that modules outside this project add."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fabricated
import pytest
from commands import REPOSITORY

from orchestrator import reference, sweep
from orchestrator.cluster.nodes import report
from orchestrator.fields.faults import ConfigError
from orchestrator.networks import locate, sampling_choice
from orchestrator.plan.plan import alike, make, teacher_stage
from orchestrator.settings import loading
from orchestrator.store import network_folder
from orchestrator.store.failures import cause
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import network_sampler
from orchestrator.work.training_log import reporting

EXAMPLES = REPOSITORY / "docs" / "extending"
PATH = (EXAMPLES / "trigonometric.py").read_text()
FILE = """\
name: x
plugins: [{plugin}]
data: {{name: digits}}
path: {{kind: trigonometric, width: 0.5}}
model: {{channels: 8, multipliers: [1], patch: 4}}
"""


RING = """
from typing import ClassVar, Literal
import torch
from kaccore.data import PointData
from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind


@DatasetKind.family.register
class Ring(DatasetKind):
    known: ClassVar[DataFacts] = DataFacts(2, 1, 0, 100, packaged=True, points=True)
    name: Literal["ring"] = "ring"

    def load(self) -> PointData:
        angle = torch.arange(100) * (6.2832 / 100)
        points = 0.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
        return PointData("ring", points[:, :, None, None])
"""
POINTS_FILE = """
name: x
plugins: [ring]
data: {{name: ring}}
path: {{kind: kac}}
model: {{kind: mlp}}
evaluation: {{metrics: {metrics}}}
"""


def write(folder: Path, plugin: str = "trigonometric.py", source: str = PATH) -> Path:
    """An experiment in `folder` beside the plugin."""
    (folder / "trigonometric.py").write_text(source)
    (folder / "x.yaml").write_text(FILE.format(plugin=plugin))
    return folder / "x.yaml"


def refusal(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loading.load(file)
    return str(refused.value).splitlines()


@pytest.mark.parametrize("named", ["trigonometric.py", "trigonometric"])
def test_a_plugin_beside_the_experiment_is_named_with_or_without_its_ending(tmp_path, named):
    experiment = loading.load(write(tmp_path, named))
    assert type(experiment.path).__name__ == "Trigonometric"
    assert experiment.path.build(None).width == 0.5
    assert experiment.plugins == (str(tmp_path / "trigonometric.py"),)
    again = loading.parse(experiment.model_dump(mode="json"))  # as a store keeps it
    assert again == experiment


def test_a_key_has_the_hash_of_the_source_that_made_the_result(tmp_path):
    first = teacher_stage(loading.load(write(tmp_path)), "fingerprint")
    assert len(first.content["path"]["plugin"]) == 12
    same = teacher_stage(loading.load(write(tmp_path)), "fingerprint")
    other = teacher_stage(loading.load(write(tmp_path, source=f"{PATH}# new\n")), "fingerprint")
    assert first.key == same.key != other.key
    ours = loading.override(loading.load(write(tmp_path)), {"path.kind": "flow_matching"})
    assert "plugin" not in teacher_stage(ours, "fingerprint").content["path"]


def test_stages_of_a_plugin_reach_a_process_that_has_neither_its_file_nor_its_module(tmp_path):
    stage = teacher_stage(loading.load(write(tmp_path)), "fingerprint")
    (tmp_path / "stage").write_bytes(pickle.dumps(stage))
    (tmp_path / "trigonometric.py").unlink()
    script = (
        "import pickle, sys; stage = pickle.loads(open(sys.argv[1], 'rb').read()); "
        "print(stage.key, type(stage.teacher_spec.path.build(None)).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "stage"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [stage.key, "TrigonometricPath"], done.stderr


def test_a_plugins_kind_is_swept_beside_ours(tmp_path):
    experiment = loading.override(
        loading.load(write(tmp_path)),
        {"sweep": {"space": {"path.kind": {"grid": ["trigonometric", "kac"]}}}},
    )
    plan = make(experiment, alike("fingerprint", "digits-cnn-v1"))
    assert [t.overrides["path.kind"] for t in plan.trials] == ["trigonometric", "kac"]
    assert [plugin.name for plugin in experiment.used_plugins()] == ["trigonometric.py"]


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("absent", None, "there is no module of this name, and no file absent.py next to the exp"),
        ("absent.py", None, "(No such file or directory): give the path of a .py file"),
        ("trigonometric.py", "1 / 0\n", "importing it raised ZeroDivisionError: division by zero"),
        ("trigonometric.py", "import absent\n", "raised ModuleNotFoundError: No module named"),
        ("trigonometric.py", "def\n", "importing it raised SyntaxError: invalid syntax"),
        ("trigonometric.py", "exit(3)\n", "importing it raised SystemExit: 3"),
        (
            "trigonometric.py",
            PATH.replace('    kind: Literal["trigonometric"] = "trigonometric"\n', ""),
            'Trigonometric has no name of its kind, expected kind: Literal["my_name"] = "my_name"',
        ),
        (
            "trigonometric.py",
            PATH.replace('"trigonometric"', '"kac"'),
            "path.kind kac is already defined by orchestrator.methods.paths.kac: choose another name",
        ),
    ],
)
def test_a_missing_or_failing_plugin_is_one_clear_line(tmp_path, name, source, message):
    file = write(tmp_path, name, PATH if source is None else source)
    (line,) = refusal(file)
    assert line.startswith(f'{file}: plugins: got "{name}"') and message in line


def test_without_the_plugin_its_kind_is_refused_as_any_unknown_one(tmp_path):
    file = write(tmp_path)
    file.write_text(file.read_text().replace("plugins: [trigonometric.py]\n", ""))
    assert refusal(file) == [
        f'{file}: path.kind: got "trigonometric", expected one of "kac", "diffusion", "flow_matching", "quantile"'
    ]


def test_a_node_with_another_version_of_a_module_says_so(tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "my_path.py").write_text(PATH)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    experiment = loading.load(write(tmp_path, "my_path"))
    (needed,) = experiment.used_plugins()
    assert experiment.plugins == ("my_path",) and not needed.source
    script = (
        "import pickle, sys; from orchestrator.cluster.nodes import report; "
        "print(*report.plugin_faults([pickle.loads(open(sys.argv[1], 'rb').read())]))"
    )
    (tmp_path / "plugin").write_bytes(pickle.dumps(needed))

    def on_a_node(path: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{path}"}
        done = subprocess.run([sys.executable, "-c", script, tmp_path / "plugin"],
                              env=environment, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert on_a_node(str(tmp_path / "installed")) == ""
    assert report.plugin_faults([needed]) == []
    (tmp_path / "installed" / "my_path.py").write_text(f"{PATH}# new\n")
    assert "install the same version on every node" in on_a_node(str(tmp_path / "installed"))
    assert "there is no module of this name" in on_a_node(str(tmp_path / "elsewhere"))


def test_an_installed_package_announces_its_plugin(tmp_path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "kinds.py").write_text(PATH)
    facts = tmp_path / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[kacflow.plugins]\nmine = my_package.kinds\n")
    file = write(tmp_path)
    file.write_text(file.read_text().replace("plugins: [trigonometric.py]\n", ""))

    def load() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{tmp_path}"}
        script = (
            "import sys; from orchestrator.settings import loading; "
            "print(*loading.load(sys.argv[1]).used_plugins())"
        )
        command = [sys.executable, "-c", script, str(file)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert load().stdout.startswith("my_package.kinds (sha256 "), load().stderr
    (tmp_path / "my_package" / "kinds.py").write_text("1 / 0")
    assert "the plugin mine of the installed package my-package: importing it raised" in (
        load().stderr
    )


def test_a_served_network_imports_no_plugin_without_being_told(tmp_path, monkeypatch):
    (tmp_path / "trigonometric.py").write_text(PATH)
    path = {"kind": "trigonometric", "width": 0.5}
    own = {"plugins": [str(tmp_path / "trigonometric.py")], "path": path}
    trial = fabricated.chain(tmp_path, **own)
    last = trial.chain[-1]
    result = Store(tmp_path / "runs").result(last.key)
    folder = tmp_path / "network"
    network_folder.write(folder, trial.config, last, result, result.manifest["data"])
    with pytest.raises(
        ValueError, match=r"needs the plugin .*trigonometric\.py \(sha256 .*KACFLOW"
    ):
        network_sampler.NetworkSampler(folder)
    monkeypatch.setenv("KACFLOW_PLUGINS", str(tmp_path / "trigonometric.py"))
    drawn = network_sampler.NetworkSampler(folder).draw({"count": 2})
    assert len(drawn["images"]) == 2


def test_keys_that_another_kind_has_are_left_out_and_named_where_set_changes_the_kind(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("name: x\ndata: {name: digits}\npath: {kind: kac, clock: quadratic}\n")
    experiment = loading.load(file, ["path.kind=flow_matching"])
    assert experiment.path.called == "flow_matching"
    assert experiment.left_out == (
        'left out path.clock: path.kind "flow_matching" has no such key',
    )


def test_set_takes_the_keys_of_a_plugins_kind(tmp_path):
    shutil.copy(EXAMPLES / "textures.py", tmp_path)
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nplugins: [textures]\ndata: {name: textures}\npath: {kind: kac}\n")
    assert loading.load(file, ["data.stride=8"]).data.stride == 8
    with pytest.raises(
        ConfigError, match=r"--set data.stride=0: data.stride: got 0, expected an int"
    ):
        loading.load(file, ["data.stride=0"])
    file.write_text(file.read_text().replace("[textures]", "textures"))
    assert refusal(file) == [f'{file}: plugins: got "textures", expected a list: write [textures]']


def test_a_named_module_that_adds_no_kind_is_refused_and_so_is_this_project(tmp_path):
    (line,) = refusal(write(tmp_path, "json"))
    assert "it adds no kind: decorate its class" in line
    (line,) = refusal(write(tmp_path, "orchestrator"))
    assert "this project is no plugin of itself" in line


def test_a_kind_of_a_module_that_is_no_plugin_would_be_in_no_key_and_is_refused(
    tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "beside_it.py").write_text(PATH)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    (line,) = refusal(write(tmp_path, source="from beside_it import Trigonometric\n"))
    assert "Trigonometric is defined in the module beside_it, which is no plugin" in line


def test_points_of_a_plugin_are_measured_by_their_coordinates(tmp_path):
    (tmp_path / "ring.py").write_text(RING)
    file = tmp_path / "x.yaml"
    file.write_text(POINTS_FILE.format(metrics="[fid]"))
    plan = opening.make_plan(loading.load(file), "x.yaml")
    assert plan.trials[0].facts.features == "points"
    file.write_text(POINTS_FILE.format(metrics="[fid, w2]"))
    (line,) = refusal(file)
    assert "got w2, expected other metrics: the data of ring have no known density" in line


def a_sweep_with(plugin: str, runs: Path) -> Path:
    """The folder of a finished sweep with the path of this plugin."""
    path = {"kind": "trigonometric", "width": 0.5}
    experiment = fabricated.experiment("x", plugins=[plugin], path=path)
    return Path(str(fabricated.sweep(runs, experiment).folder))


def test_a_network_is_not_sampled_with_a_module_that_has_changed_since(tmp_path, monkeypatch):
    (tmp_path / "changing_path.py").write_text(PATH)
    monkeypatch.syspath_prepend(tmp_path)
    folder = a_sweep_with("changing_path", tmp_path / "runs")
    run = locate.locate(str(folder))
    assert sampling_choice.stage_to_sample(run, run.config) is not None
    sys.modules.pop("changing_path")  # as in another process
    (tmp_path / "changing_path.py").write_text(f"{PATH}# new\n")
    run = locate.locate(str(folder))
    with pytest.raises(
        ConfigError, match=r"its path was trained with a plugin of sha256 .* restore"
    ):
        sampling_choice.stage_to_sample(run, run.config)


@pytest.mark.parametrize("changed", [f"{PATH}# new\n", None], ids=["changed", "gone"])
def test_a_sweep_is_read_with_the_source_that_made_it_also_if_the_file_is(tmp_path, changed):
    file = tmp_path / "trigonometric.py"
    file.write_text(PATH)
    folder = a_sweep_with(str(file), tmp_path / "runs")
    if changed is None:
        file.unlink()
    else:
        file.write_text(changed)
    records = opening.records_of(folder)
    assert {str(ending.status) for ending in records.endings} == {"done"}
    run = locate.locate(str(folder))
    assert sampling_choice.stage_to_sample(run, run.config) is not None
    (kept,) = (folder / "plugins").iterdir()
    assert kept.name == "0_trigonometric.py" and kept.read_text() == PATH


@pytest.mark.parametrize(
    ("example", "gone", "message"),
    [
        ("trigonometric", "def build", "Trigonometric lacks build: the docstrings of its base class"),
        ("textures", "def load", "Textures lacks load: the docstrings of its base class ImagesKind"),
        ("textures", "known:", "Textures lacks known"),
        ("conv_mixer", "def network", "lacks network"),
        ("reflow", "def only", "Reflow lacks only"),
        ("reflow", "def build", "Reflow lacks ReflowStudent.build"),
        ("colours", "def build", "lacks build"),
        ("colours", "spec:", "lacks spec"),
    ],
)  # fmt: skip
def test_a_kind_that_lacks_what_it_must_define_is_refused(tmp_path, example, gone, message):
    source = (EXAMPLES / f"{example}.py").read_text()
    assert gone in source
    (tmp_path / "mine.py").write_text(
        source.replace(gone, gone.replace(" ", " other_", 1).replace(":", "_1:"))
    )
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nplugins: [mine.py]\ndata: {name: digits}\npath: {kind: kac}\n")
    (line,) = refusal(file)
    assert message in line


def test_data_that_are_not_as_their_class_says_are_refused_before_a_run(tmp_path):
    source = (EXAMPLES / "textures.py").read_text()
    (tmp_path / "textures.py").write_text(source.replace("DataFacts(3, 16,", "DataFacts(3, 32,"))
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nplugins: [textures]\ndata: {name: textures}\npath: {kind: kac}\n")
    for dry in True, False:
        with pytest.raises(ConfigError, match=r"says size 32, load\(\) gave 16: correct the plug"):
            opening.make_plan(loading.load(file), "x.yaml", dry=dry)


def test_an_error_of_a_plugins_own_code_is_one_line_that_names_its_line(tmp_path, capsys):
    broken = (
        (EXAMPLES / "reflow.py")
        .read_text()
        .replace("def only(self)", "def lessons(self): return 1 / 0\n\n    def only(self)")
    )
    (tmp_path / "reflow.py").write_text(broken)
    number = next(i for i, line in enumerate(broken.splitlines(), 1) if "1 / 0" in line)
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\nplugins: [reflow]\ndata: {name: digits}\npath: {kind: kac}\ndistill: {kind: reflow}\n"
        f"storage: {tmp_path / 'runs'}\n"
    )
    assert sweep.main([str(file), "--dry-run"]) == 2
    error = capsys.readouterr().err.splitlines()
    where = f"{tmp_path / 'reflow.py'}, line {number}, in lessons"
    assert error == [
        f"error: ZeroDivisionError: division by zero (raised in the plugin {where})",
        "correct the plugin, then run the same command again",
    ]
    assert not (tmp_path / "runs").exists()


def test_the_cause_of_a_failed_training_names_the_line_of_the_plugin(tmp_path):
    source = PATH.replace("return TrigonometricPath(", "return 1 / 0  # (")
    stage = teacher_stage(loading.load(write(tmp_path, source=source)), "fingerprint")
    try:
        with reporting(Store(tmp_path / "runs"), stage):
            stage.teacher_spec.path.build(None)
    except ZeroDivisionError as e:
        sent = pickle.loads(pickle.dumps(e))  # as Ray sends it: without a traceback
    assert re.search(
        r"division by zero \(raised in the plugin .*trigonometric.py, line \d+, in build\)$",
        cause(stage, sent),
    )


def test_the_reference_has_the_keys_of_a_plugins_kind(tmp_path, monkeypatch, capsys):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert reference.main(["trigonometric.py"]) == 0
    page = capsys.readouterr().out
    assert "### kind: trigonometric" in page and "From the plugin trigonometric.py." in page
    assert reference.main(["absent.py"]) == 2
    assert 'PLUGIN: plugins: got "absent.py": cannot read' in capsys.readouterr().err


def test_the_examples_are_short():
    examples = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in examples] == [
        "colours", "conv_mixer", "reflow", "textures", "trigonometric",
    ]  # fmt: skip
    assert all(len(path.read_text().splitlines()) <= 60 for path in examples)
