"""Exported samplers, run in processes that have nothing of this project."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from in_process import train
from stages import own_keys

from kaccore import KacPath, KacProcess
from kaccore.data import load, to_uint8
from kaccore.export.portable import METADATA, from_safetensors
from kaccore.sampling import prior_images
from orchestrator import export, sample
from orchestrator.plan.plan import alike, make
from orchestrator.settings.loading import parse

BASE: dict[str, Any] = {
    "name": "exported",
    "data": {"name": "digits"},
    "path": {"kind": "kac", "damping": 9.0, "speed": 1.5, "clock": "quadratic"},
    # as little as has every kind of layer: what an export takes grows with their number
    "model": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4], "patch": 1},
    "teacher": {"steps": 12, "batch_size": 8, "lr": 0.02, "ema": 0.5},
    "distill": {
        "intervals": [2, 1],
        "teacher_steps": 4,
        "steps": 4,
        "batch_size": 8,
        "lr": 0.02,
        "ema": 0.5,
    },
    "sampling": {"steps": 1},
}
DIT = {"kind": "dit", "channels": 16, "depth": 1, "head_channels": 8, "patch": 4}
MLP = {"kind": "mlp", "channels": 16, "depth": 1}
# One U-Net: its export takes more than twice as long as that of another network
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "guided teacher": {"sampling": {"model": "teacher", "steps": 2, "solver": "ab2", "guidance": 1.5}},
    "shaped teacher on a given grid": {
        "model": MLP,
        "sampling": {"model": "teacher", "steps": 2, "times": [1.0, 0.3, 0.0], "shaping": 0.01, "solver": "rk4"},
    },
    "endpoint": {"model": DIT, "sampling": {"steps": 2}},
    "progressive": {"model": MLP, "distill": {"kind": "progressive"}, "sampling": {"steps": 2}},
    "consistency": {"model": MLP, "distill": {"kind": "consistency", "calibrate": True}, "sampling": {"steps": 3}},
    "matching": {"model": MLP, "distill": {"kind": "matching"}},
    "unlabelled, augmented": {
        "model": DIT, "teacher": {"label_dropout": None, "augment": 0.1}, "sampling": {"steps": 2},
    },
}  # fmt: skip
NFE = {"guided teacher": 4, "shaped teacher on a given grid": 8, "endpoint": 2, "progressive": 2, "consistency": 3,
       "matching": 1, "unlabelled, augmented": 2}  # fmt: skip
# how a network was trained is no part of an ONNX file: these samplers are that of "endpoint", of another
# network that others have, and an export to ONNX takes seconds
AS_OTHERS = {"progressive", "matching"}
FILES = [
    (kind, form)
    for kind in KINDS
    for form in ("onnx", "torchscript")
    if form != "onnx" or kind not in AS_OTHERS
]
WRITTEN_AGAIN = ("consistency", "onnx")  # over another file of this kind, whose name has no ending
WITH_TORCH = """
import json, os, sys
for name in ("kaccore", "orchestrator"):
    sys.modules[name] = None  # an import of it fails
import numpy, torch
for folder in sys.argv[1:]:
    os.chdir(folder)
    about = {"kacflow.json": ""}
    model = torch.jit.load("model.torchscript", _extra_files=about)
    json.loads(about["kacflow.json"])
    given = [torch.from_numpy(array) for array in numpy.load("inputs.npz").values()]
    numpy.save("torchscript.npy", model(*given).numpy())
"""
WITH_ONNXRUNTIME = """
import json, os, sys
for name in ("kaccore", "orchestrator", "torch"):
    sys.modules[name] = None
import numpy, onnxruntime
for folder in sys.argv[1:]:
    os.chdir(folder)
    model = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    json.loads(model.get_modelmeta().custom_metadata_map["kacflow.json"])
    numpy.save("onnx.npy", model.run(None, dict(numpy.load("inputs.npz")))[0])
"""


@dataclass(frozen=True)
class Case:
    """A trained run, and the folder with its exported files, `inputs.npz` and what `sample` draws
    of them."""

    kind: str
    folder: Path

    def away(self, images: torch.Tensor) -> int:
        """By how many of 255 levels a pixel differs at most from what `sample` draws."""
        with np.load(self.folder / "sample.npz") as archive:
            wanted = torch.from_numpy(archive["images"]).permute(0, 3, 1, 2)
        return int((to_uint8(images).int() - wanted.int()).abs().max())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: what they share is trained once."""
    return tmp_path_factory.mktemp("exported")


def experiment(root: Path, kind: str) -> Path:
    """The file of a run whose networks are trained."""
    blocks, folder = KINDS[kind], root / str(list(KINDS).index(kind))
    config = {**BASE, **{name: {**BASE.get(name, {}), **block} for name, block in blocks.items()}}
    config |= {"storage": str(root / "runs")} | (
        {"model": blocks["model"]} if "model" in blocks else {}
    )
    config = own_keys(config)
    (trial,) = make(
        parse(config), alike(load("digits").fingerprint, "digits-cnn-v1"), "student"
    ).trials
    train(trial.chain, "digits", root / "runs")
    folder.mkdir(exist_ok=True)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(config))
    return folder / "experiment.yaml"


@pytest.fixture(scope="module")
def cases(root: Path) -> dict[str, Case]:
    return {kind: made(root, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def case(cases: dict[str, Case], request: pytest.FixtureRequest) -> Case:
    return cases[request.param]


def formats(kind: str) -> list[str]:
    """The formats to which a run of this kind is exported here."""
    return [form for form in export.FORMATS if form != "onnx" or kind not in AS_OTHERS]


def first_file(root: Path) -> Path:
    """The ONNX file of the first case, which is there when the others are made."""
    return root / "0" / "model.onnx"


def made(root: Path, kind: str) -> Case:
    file = experiment(root, kind)
    labelled = not kind.startswith("unlabelled")
    for form in formats(kind):
        out = file.parent / f"model.{form}"
        if (kind, form) == WRITTEN_AGAIN:
            out = Path(shutil.copy(first_file(root), root / "net"))
        assert export.main([str(file), "--format", form, "--out", str(out)]) == 0
        if out.name == "net":
            shutil.copy(out, file.parent / f"model.{form}")
    noise = prior_images(
        KacPath(KacProcess(9.0, 1.5), clock="quadratic"), 3, range(5), (1, 8, 8)
    ).numpy()
    np.savez(
        file.parent / "inputs.npz",
        noise=noise,
        **({"labels": np.array([3, 7, 3, 7, 3])} if labelled else {}),
    )
    labels = ["--labels", "3,7"] if labelled else []
    drawn = ["--count", "5", "--seed", "3", *labels, "--out", str(file.parent / "sample.npz")]
    assert sample.main([str(file), *drawn]) == 0
    return Case(kind, file.parent)


@pytest.fixture(scope="module")
def elsewhere(cases: dict[str, Case]) -> None:
    """The files of each format have been run by a process without this project: one for all of
    them, since most of its time goes into imports."""
    for form, script in (("onnx", WITH_ONNXRUNTIME), ("torchscript", WITH_TORCH)):
        folders = [str(case.folder) for kind, case in cases.items() if form in formats(kind)]
        command = [sys.executable, "-W", "ignore", "-c", script, *folders]
        said = subprocess.run(command, cwd=folders[0], capture_output=True, text=True, timeout=500)
        assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("kind, form", FILES)
def test_a_file_gives_the_images_of_the_original_where_this_project_is_not(
    kind, form, cases, elsewhere
):
    case = cases[kind]
    images = torch.from_numpy(np.load(case.folder / f"{form}.npy"))
    assert images.shape == (5, 1, 8, 8) and images.abs().max() <= 1
    assert images.std() > 0.1
    assert case.away(images) <= 1  # what lies between two levels is rounded up or down


def test_weights_come_with_all_that_it_takes_to_sample(case):
    sampler, about = from_safetensors(case.folder / "model.safetensors")
    inputs = [torch.from_numpy(array) for array in np.load(case.folder / "inputs.npz").values()]
    assert case.away(sampler(*inputs)) <= 1
    assert about["nfe"] == NFE[case.kind]
    assert ("labels" in about["inputs"]) == (len(inputs) == 2)


def test_images_of_a_calibrated_network_are_those_of_its_files_with_their_curve_alone(cases):
    """The files of each format are compared with these images above."""
    case = cases["consistency"]
    sampler, _ = from_safetensors(case.folder / "model.safetensors")
    inputs = [torch.from_numpy(array) for array in np.load(case.folder / "inputs.npz").values()]
    assert sampler.tone is not None
    sampler.tone = None
    assert case.away(sampler(*inputs)) > 8


def test_an_onnx_file_can_be_written_again_and_needs_no_ending(cases, root):
    content = (root / "net").read_bytes()
    assert content != first_file(root).read_bytes() and METADATA.encode() in content


def test_no_file_tells_where_it_was_made(case):
    for form in formats(case.kind):
        content = (case.folder / f"model.{form}").read_bytes()
        if form == "torchscript":
            with zipfile.ZipFile(case.folder / "model.torchscript") as file:
                content = b"".join(name.encode() + file.read(name) for name in file.namelist())
        assert str(Path(export.__file__).parents[1]).encode() not in content
        assert b"site-packages" not in content
        assert METADATA.encode() in content


@pytest.fixture(scope="module")
def guided(root: Path) -> Path:
    """The weights of the guided teacher, as a file."""
    out = root / "guided.safetensors"
    assert (
        export.main(
            [str(experiment(root, "guided teacher")), "--format", "safetensors", "--out", str(out)]
        )
        == 0
    )
    return out


def test_the_command_says_how_far_the_file_is_from_the_original(root, tmp_path, capsys):
    out = tmp_path / "x"
    assert (
        export.main(
            [str(experiment(root, "endpoint")), "--format", "torchscript", "--out", str(out)]
        )
        == 0
    )
    said = capsys.readouterr().out
    how = "student (endpoint), 2 steps of euler, NFE 2, guidance 1"
    assert f"{how}, as torchscript, {out.stat().st_size:,} bytes: {out}" in said
    assert 0 <= float(said.split("16 images: ")[1].split(" ")[0]) <= export.TOLERANCE


def test_the_metadata_names_noise_classes_and_cost(guided):
    _, about = from_safetensors(guided)
    law = about["noise"]
    assert (law["law"], law["damping"], law["speed"], law["clock"], law["time"]) == (
        "kac",
        9.0,
        1.5,
        "quadratic",
        1.0,
    )
    assert about["class_names"] == [str(n) for n in range(10)]
    assert (about["nfe"], about["steps"], about["sampler"]["guidance"]) == (4, 2, 1.5)
    assert about["inputs"]["labels"]["values"] == "0 to 9, or -1 for no class"


def test_the_noise_as_the_metadata_says_it_is_the_noise_of_the_path(guided):
    law, many = from_safetensors(guided)[1]["noise"], 40_000
    random = np.random.default_rng(0)
    n = random.poisson(law["damping"] * law["time"], many)
    b = np.where(n == 0, 1.0, random.beta(n // 2 + 1, np.maximum((n + 1) // 2, 1)))
    drawn = np.sort(random.choice([-1, 1], many) * law["speed"] * law["time"] * (2 * b - 1))
    cdf = KacProcess(9.0, 1.5).cdf(torch.from_numpy(drawn), 1.0).numpy()
    assert (
        np.abs(cdf - np.arange(many) / many).max() < 1.63 / many**0.5
    )  # Kolmogorov's bound at one in a hundred


@pytest.mark.parametrize("arguments, words", [
    (["--out", "nowhere/x"], ["--out", "nowhere"]),
    (["--out", "."], ["--out", "a folder"]),
    (["--model", "student", "--steps", "3"], ["sampling.steps", "expected one of 2, 1"]),
    (["--guidance", "2"], ["sampling.guidance"]),
])  # fmt: skip
def test_what_cannot_be_exported_is_said_and_nothing_written(
    root, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "x"]
    assert (
        export.main([str(experiment(root, "endpoint")), "--format", "onnx", *arguments, *out]) == 2
    )
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []
    assert list(tmp_path.iterdir()) == []


def test_jumps_that_are_noised_again_are_refused(root, tmp_path, capsys):
    config = yaml.safe_load(experiment(root, "consistency").read_text())
    file = tmp_path / "noisy.yaml"
    file.write_text(yaml.safe_dump({**config, "sampling": {"steps": 3, "gamma": 0.5}}))
    assert export.main([str(file), "--format", "torchscript", "--out", str(tmp_path / "x")]) == 2
    assert "sampling.gamma: got 0.5, expected 0" in capsys.readouterr().err


def test_a_file_that_is_not_the_original_is_refused(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)  # as if all were further away than it may be
    assert (
        export.main(
            [
                str(experiment(root, "endpoint")),
                "--format",
                "safetensors",
                "--out",
                str(tmp_path / "x"),
            ]
        )
        == 2
    )
    assert (
        "--format: got safetensors, whose images differ from the original's"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_without_the_optional_packages_onnx_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    assert export.main(["any.yaml", "--format", "onnx", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "onnxscript" in said and "pip install 'kacflow[export]'" in said


def test_the_same_export_gives_the_same_bytes(root, guided, tmp_path):
    file, again = experiment(root, "guided teacher"), tmp_path / "again"
    assert export.main([str(file), "--format", "safetensors", "--out", str(again)]) == 0
    assert again.read_bytes() == guided.read_bytes()
