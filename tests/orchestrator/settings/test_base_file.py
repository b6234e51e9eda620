"""A file that builds on another."""

from pathlib import Path

import pytest
from commands import REPOSITORY

from orchestrator.fields.faults import ConfigError
from orchestrator.settings import loading, shipped

BASE = """\
name: first
data: {name: digits}
path: {kind: kac, damping: 9.0, speed: 3.0, clock: quadratic}
teacher: {steps: 10, lr: 1.0e-3}
sampling: {model: teacher}
sweep:
  space:
    sampling.steps: {grid: [1, 2]}
    path.damping: {grid: [1.0, 2.0]}
    sampling.guidance: {grid: [1.0, 2.0]}
  conditions: {sampling.guidance: sampling.steps == 2}
"""


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, BASE, "first.yaml")
    return tmp_path


def test_what_a_file_gives_replaces_that_of_its_base_key_by_key(folder):
    own = write(folder, "base: first.yaml\nname: second\nteacher: {steps: 20}\nseed: 3\n")
    experiment = loading.load(own)
    first = loading.load(folder / "first.yaml")
    expected = loading.override(first, {"name": "second", "teacher.steps": 20, "seed": 3})
    assert experiment.to_yaml() == expected.to_yaml()
    assert experiment.bases == (str(folder / "first.yaml"),) and first.bases == ()
    assert loading.load(own, ["teacher.steps=30"]).teacher.steps == 30


def test_a_sweep_is_merged_key_by_key_and_null_removes_a_swept_setting(folder):
    own = write(
        folder,
        "base: first.yaml\n"
        "sweep:\n"
        "  metric: kid\n"
        "  space: {path.damping: null, sampling.steps: {grid: [4]}, path.speed: {grid: [1.0]}}\n",
    )
    sweep = loading.load(own).sweep
    assert sweep is not None and sweep.metric == "kid"
    assert {key: entry.values for key, entry in sweep.space.items()} == {
        "sampling.steps": (4,),
        "sampling.guidance": (1.0, 2.0),
        "path.speed": (1.0,),
    }
    assert sweep.conditions == {"sampling.guidance": "sampling.steps == 2"}
    assert loading.load(write(folder, "base: first.yaml\nsweep: null\n")).sweep is None


def test_a_base_may_have_a_base_and_lie_elsewhere(folder):
    (folder / "below").mkdir()
    write(folder, "base: ../first.yaml\nseed: 1\nteacher: {lr: 2.0e-3}\n", "below/second.yaml")
    own = write(folder, "base: below/second.yaml\nseed: 2\n")
    experiment = loading.load(own)
    assert (experiment.seed, experiment.teacher.lr, experiment.teacher.steps) == (2, 2.0e-3, 10)
    assert [Path(base).name for base in experiment.bases] == ["second.yaml", "first.yaml"]


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_experiment_may_be_a_base(tmp_path, name):
    """Also from a folder in which none of them lies."""
    own = write(tmp_path, f"base: {name}\nname: mine\n")
    plain = loading.load(REPOSITORY / "experiments" / f"{name}.yaml")
    assert loading.load(own).to_yaml() == loading.override(plain, {"name": "mine"}).to_yaml()


def test_keys_of_the_base_that_another_kind_lacks_are_left_out_and_named(folder):
    own = write(folder, "base: first.yaml\npath: {kind: flow_matching}\nsweep: null\n")
    experiment = loading.load(own)
    assert experiment.path.called == "flow_matching"
    assert experiment.left_out == (
        f"left out path.clock of {folder / 'first.yaml'}: "
        'path.kind "flow_matching" has no such key',
    )
    wrong = write(folder, "base: first.yaml\npath: {kind: flow_matching, clock: linear}\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: path\.clock: "):
        loading.load(wrong)


def test_what_is_stored_is_the_whole(folder):
    experiment = loading.load(write(folder, "base: first.yaml\nseed: 5\n"))
    text = experiment.to_yaml()
    assert "base:" not in text
    assert loading.load(write(folder, text, "stored.yaml")).to_yaml() == text


def test_plugins_are_added_and_found_beside_the_file_that_names_them(tmp_path):
    plugin = """
from typing import Literal
from orchestrator.methods.paths.flow_matching import FlowMatching
from orchestrator.methods.path_kind import PathKind

@PathKind.family.register
class {0}(FlowMatching):
    '''A path.'''
    kind: Literal["{1}"] = "{1}"
"""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/path_of_base.py").write_text(plugin.format("OfBase", "of_base"))
    (tmp_path / "path_of_own.py").write_text(plugin.format("OfOwn", "of_own"))
    write(
        tmp_path,
        "name: x\ndata: {name: digits}\nplugins: [path_of_base.py]\npath: {kind: of_base}\n",
        "below/first.yaml",
    )
    own = write(
        tmp_path,
        "base: below/first.yaml\nplugins: [path_of_own.py]\n"
        "sweep: {space: {path.kind: {grid: [of_base, of_own]}}}\n",
    )
    experiment = loading.load(own)
    assert experiment.plugins == (
        str(tmp_path / "below/path_of_base.py"),
        str(tmp_path / "path_of_own.py"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: 3\n", "x.yaml: base: got 3, expected the name of a shipped experiment, or a .yaml file"),
        ("base: ''\n", 'x.yaml: base: got "", expected the name of a shipped experiment'),
        ("base: nfe_swep\n", 'did you mean "nfe_sweep"?'),
        ("base: nowhere.yaml\n", 'x.yaml: base: got "nowhere.yaml", but there is no file'),
        ("base: x.yaml\n", "x.yaml: base: a circle of files: x.yaml -> x.yaml"),
        ("base: circle.yaml\n", "circle.yaml: base: a circle of files: x.yaml -> circle.yaml -> x.yaml"),
        ("base: broken.yaml\n", "broken.yaml: line 2"),
        ("base: faulty.yaml\nname: y\n", "faulty.yaml: teacher.steps: got 0"),
        ("base: faulty.yaml\nteacher: {steps: -1}\n", "x.yaml: teacher.steps: got -1"),
        ("base: faulty.yaml\nteacher: {steps: 1}\n", "x.yaml: sweep.space.path.damping: value -1.0"),
    ],
)  # fmt: skip
def test_faults_name_the_file_that_has_them(tmp_path, text, message):
    write(tmp_path, "base: x.yaml\n", "circle.yaml")
    write(tmp_path, "a: [\n", "broken.yaml")
    write(tmp_path, BASE.replace("steps: 10", "steps: 0"), "faulty.yaml")
    if "steps: 1}" in text:
        text += "sweep: {space: {path.damping: {grid: [-1.0]}}}\n"
    with pytest.raises(ConfigError) as raised:
        loading.load(write(tmp_path, text))
    assert message in str(raised.value)


def test_a_value_set_in_the_command_is_blamed_before_the_base(folder):
    own = write(folder, "base: first.yaml\n")
    with pytest.raises(ConfigError, match=r"--set teacher\.steps=0: teacher\.steps: got 0"):
        loading.load(own, ["teacher.steps=0"])


def test_null_for_a_swept_key_that_the_base_does_not_sweep_is_a_fault(folder):
    own = write(folder, "base: first.yaml\nsweep: {space: {sampling.sovler: null}}\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: sweep\.space\.sampling\.sovler"):
        loading.load(own)


def test_what_was_left_out_is_said_beside_the_faults_that_it_causes(folder):
    write(
        folder,
        BASE.replace("sampling: {", "distill: {intervals: [4], target: endpoint}\nsampling: {"),
        "b.yaml",
    )
    own = write(folder, "base: b.yaml\ndistill: {kind: matching, steps: 0}\nsweep: null\n")
    with pytest.raises(ConfigError) as raised:
        loading.load(own)
    assert "x.yaml: distill.steps: got 0" in str(raised.value)
    assert "left out distill.target of" in str(raised.value)
