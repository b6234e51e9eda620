"""Which network sample, export and the playground mean, and how it is said: of a sweep whose best
trial is a teacher's, and whose best student has one step."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import fabricated
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from orchestrator import export, sample
from orchestrator.console import command_line, network_arguments
from orchestrator.fields.faults import ConfigError
from orchestrator.networks import locate, sampling_choice
from orchestrator.store.folder import Folder
from orchestrator.sweeps.records import Records


@pytest.fixture
def swept(fabricated_sweep: Records, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.chdir(fabricated_sweep.store.root.parent)
    return fabricated_sweep


def ways(records: Records) -> dict[str, str]:
    """How one sweep may be named."""
    client = MlflowClient(f"sqlite:///{records.store.root / 'mlflow.db'}")
    name = records.plan.experiment.name
    experiment = client.get_experiment_by_name(name).experiment_id
    (run,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    return {
        "name": name,
        "name/id": f"{name}/{records.plan.id}",
        "folder": str(records.folder),
        "run": run.info.run_id,
        "model": f"models:/{name}",
    }


def meant(text: str, *options: str, storage: Path | None = None) -> str:
    """The label of the stage that a command line means, and how many steps it takes."""
    args = sample.parser().parse_args([text, *options, "--out", "x.png"])
    source = network_arguments.find(args)
    config = sampling_choice.from_options(source, args)
    return f"{sampling_choice.stage_to_sample(source, config).label}, {config.sampling.steps}"


@pytest.mark.parametrize("way", ["name", "name/id", "folder", "run", "model"])
def test_every_name_of_a_sweep_means_one_network(swept, way):
    text = ways(swept)[way]
    assert meant(text) == "student 1, 1"
    assert meant(text, "--steps", "2") == "student 2, 2"
    assert meant(text, "--steps", "1") == "student 1, 1"
    assert meant(text, "--steps", "3") == "teacher, 3"
    assert meant(text, "--model", "teacher") == "teacher, 1"
    assert meant(text, "--steps", "2", "--model", "teacher") == "teacher, 2"
    assert meant(text, "--steps", "2", "--solver", "heun") == "teacher, 2"
    assert meant(text, "--steps", "2", "--guidance", "2") == "teacher, 2"
    assert meant(text, "--steps", "2", "--solver", "euler", "--guidance", "1") == "student 2, 2"
    with pytest.raises(ConfigError, match="steps: got 3"):
        meant(text, "--steps", "3", "--model", "student")


def test_a_file_means_what_its_sampling_says_unless_steps_are_asked_for(tmp_path):
    trial = fabricated.chain(
        tmp_path, "student", sampling={"model": "teacher", "steps": 5, "solver": "heun"}
    )
    file = str(tmp_path / "x.yaml")
    assert meant(file) == "teacher, 5"
    assert meant(file, "--steps", "2") == "student 2, 2"
    assert meant(file, "--steps", "5") == "teacher, 5"
    shutil.rmtree(tmp_path / "runs" / "stages" / trial.students[2].key)
    assert meant(file, "--steps", "2") == "teacher, 2"
    shutil.rmtree(tmp_path / "runs" / "stages" / trial.chain[0].key)
    with pytest.raises(
        ConfigError,
        match=r"student 2 is not trained yet .* -m orchestrator.distill \S+x.yaml first",
    ):
        meant(file, "--steps", "2")


def pasted(message):
    """The arguments of the command that a message says to run first, as a shell takes them."""
    return shlex.split(message.partition(": run ")[2].removesuffix(" first"))[2:]


def test_the_command_that_trains_what_is_missing_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricated.chain(tmp_path, "student")
    (tmp_path / "x.yaml").rename(tmp_path / "my file.yaml")
    changed = ["--set", "teacher.steps=99", "--set", "path={kind: kac, damping: 9.0}"]
    for more, also in (([], []), (["--storage", "other"], [f"storage={tmp_path / 'other'}"])):
        (tmp_path / "other" / "stages").mkdir(parents=True, exist_ok=True)
        assert sample.main(["my file.yaml", *changed, *more, "--out=x.png"]) == 2
        given = pasted(capsys.readouterr().err.strip())
        expected = [
            "orchestrator.distill",
            "my file.yaml",
            *changed,
            *(w for text in also for w in ("--set", text)),
        ]
        assert given == expected
        assert command_line.run_command("distill", "", "student", [*given[1:], "--dry-run"]) == 0
        assert "student 1" in capsys.readouterr().out


def test_the_command_for_a_student_that_no_trial_samples_trains_that_one(tmp_path, capsys):
    records = fabricated.sweep(tmp_path / "runs", fabricated.experiment(
        storage=str(tmp_path / "runs"), sweep={"space": {"sampling.steps": {"grid": [2]}}}, sampling={"steps": 2},
    ))  # fmt: skip
    out = f"--out={tmp_path / 'x.png'}"
    assert sample.main([str(records.folder), "--model=student", "--steps=1", out]) == 2
    given = pasted(capsys.readouterr().err.strip())
    assert given[:2] == ["orchestrator.distill", str(records.folder / "config.yaml")]
    assert command_line.run_command("distill", "", "student", [*given[1:], "--dry-run"]) == 0
    assert "student 1" in capsys.readouterr().out


def test_a_stage_is_the_network_itself(swept):
    stages = {
        stage.label: str(swept.store.root / "stages" / stage.key) for stage in swept.plan.stages()
    }
    assert meant(stages["teacher"], "--steps", "2") == "teacher, 2"
    assert meant(stages["student 2"]) == "student 2, 2"
    with pytest.raises(ConfigError, match="steps: got 3"):
        meant(stages["student 2"], "--steps", "3")


def test_a_trial_is_sampled_as_it_was(swept):
    models = {trial.index: trial.config.sampling for trial in swept.plan.trials}
    for index, own in models.items():
        label = own.model if own.model == "teacher" else f"student {own.steps}"
        assert meant(f"fabricated:{index}") == f"{label}, {own.steps}"


def test_a_sweep_of_which_nothing_is_measured_means_a_trained_student(tmp_path):
    records = fabricated.sweep(tmp_path / "runs")
    for trial in records.plan.trials:
        shutil.rmtree(tmp_path / "runs" / "stages" / trial.key)
    source = locate.locate("fabricated", Folder(tmp_path / "runs"))
    assert source.model == "student" and "none is measured yet" in source.origin


def test_the_lines_that_are_printed_say_which_network_how_and_from_where(swept, tmp_path, capsys):
    assert (
        sample.main(["fabricated", "--seed", "5", "--count", "2", "--out", str(tmp_path / "x.png")])
        == 0
    )
    best = next(
        t
        for t in swept.plan.trials
        if (t.config.sampling.model, t.config.sampling.steps) == ("student", 1)
    )
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"2 images of student (endpoint), 1 step of euler, NFE 1, guidance 1, seed 5: {tmp_path / 'x.png'}",
        f"from trial {best.index} of fabricated/{swept.plan.id} (the best trial of a student, fid 2): student 1, "
        f"stage {best.chain[-1].key}",
    ]
    guided = ["--steps", "3", "--solver", "heun", "--guidance", "2.5", "--format", "safetensors"]
    assert export.main(["fabricated", *guided, "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("teacher, 3 steps of heun, NFE 12, guidance 2.5, as safetensors, ")
    assert said[1].endswith(f": teacher, stage {best.chain[0].key}")


def test_guidance_that_is_built_into_a_student_is_said(tmp_path, capsys):
    distill = {
        "kind": "consistency",
        "intervals": [2],
        "teacher_steps": 4,
        "steps": 20,
        "guidance": 2.0,
    }
    fabricated.chain(tmp_path, "student", distill=distill)
    assert (
        sample.main([str(tmp_path / "x.yaml"), "--count", "1", "--out", str(tmp_path / "x.png")])
        == 0
    )
    assert (
        "student (consistency), 1 step by jumps, NFE 1, guidance 2, built in, seed 0"
        in capsys.readouterr().out
    )


def test_networks_of_a_file_are_looked_for_where_storage_says(tmp_path, monkeypatch, capsys):
    fabricated.chain(tmp_path, "student")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert sample.main(["x.yaml", "--count", "1", "--out", "x.npz"]) == 2
    assert "not trained yet under" in capsys.readouterr().err
    assert sample.main(["x.yaml", "--count", "1", "--storage", "moved", "--out", "x.npz"]) == 0
    assert (
        export.main(["x.yaml", "--storage", "moved", "--format", "safetensors", "--out", "x"]) == 0
    )
    assert (
        sample.main(["x.yaml", "--storage", "moved", "--set", "storage=other", "--out", "y.npz"])
        == 2
    )
    assert (
        "--storage: got moved and --set storage=other: expected only one of them"
        in capsys.readouterr().err
    )


def test_what_was_trained_with_settings_of_the_command_line_is_found_by_them(
    tmp_path, monkeypatch, capsys
):
    fabricated.chain(tmp_path, "student", seed=7)
    monkeypatch.chdir(tmp_path)
    told = yaml.safe_load((tmp_path / "x.yaml").read_text())
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**told, "seed": 0}))
    assert sample.main(["x.yaml", "--out", "x.npz"]) == 2
    assert sample.main(["x.yaml", "--set", "seed=7", "--count", "1", "--out", "x.npz"]) == 0
    args = sample.parser().parse_args(
        ["x.yaml", "--set", "seed=7", "--storage", "runs", "--out", "y.npz"]
    )
    assert network_arguments.arguments(args) == ["x.yaml", "--set", "seed=7", "--storage", "runs"]
    capsys.readouterr()
    assert sample.main(["x.yaml", "--set", "sed=7", "--out", "x.npz"]) == 2
    assert '--set sed=7: sed: unknown key "sed", did you mean "seed"' in capsys.readouterr().err


@pytest.mark.parametrize("way", ["name", "folder", "run", "model"])
def test_settings_are_set_of_files_alone(swept, capsys, tmp_path, way):
    text = ways(swept)[way]
    assert sample.main([text, "--set", "seed=7", "--out", str(tmp_path / "x.npz")]) == 2
    assert f"--set seed=7: got {text}, which is not an experiment file" in capsys.readouterr().err


def folder_of(root: Path, *names: str) -> dict[str, Any]:
    """A data block of images of 16 pixels in classes of these names."""
    for k, name in enumerate(names):
        (root / "images" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (40 * k, 80, 160)).save(root / "images" / name / "x.png")
    return {"name": "folder", "root": str(root / "images"), "size": 16}


def test_classes_are_asked_for_by_name_and_a_name_wins_over_a_number(tmp_path, capsys):
    fabricated.chain(tmp_path, "student", data=folder_of(tmp_path, "7", "cat", "dog, small"))
    source = locate.locate(str(tmp_path / "x.yaml"))
    for text, numbers in (("cat", [1]), ("7", [0]), ("2,cat", [2, 1]), ('"dog, small", 7', [2, 0])):
        assert sampling_choice.class_numbers(source, text) == numbers
    refused = {
        "caat": 'got caat, did you mean "cat"?',
        "x": "got x, expected classes of folder",
        "": "got , expected",
    }
    for text, words in refused.items():
        assert (
            sample.main(
                [str(tmp_path / "x.yaml"), "--labels", text, "--out", str(tmp_path / "x.png")]
            )
            == 2
        )
        said = capsys.readouterr().err
        assert "--labels: " in said and words in said and "7, cat, dog, small" in said


def test_classes_of_a_data_set_without_any_are_refused(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "x.png")
    fabricated.chain(
        tmp_path, "student", data={"name": "folder", "root": str(tmp_path / "images"), "size": 16}
    )
    assert (
        sample.main([str(tmp_path / "x.yaml"), "--labels", "cat", "--out", str(tmp_path / "x.png")])
        == 2
    )
    assert "--labels: got cat, but folder has no classes" in capsys.readouterr().err


def test_an_array_tells_labels_seeds_and_settings_and_is_where_other_tools_look(tmp_path):
    fabricated.chain(tmp_path, "student")
    out = tmp_path / "x.npz"
    arguments = ["--count", "5", "--seed", "9", "--labels", "3,7", "--out", str(out)]
    assert sample.main([str(tmp_path / "x.yaml"), *arguments]) == 0
    with np.load(out) as file:
        assert file.files[:2] == ["images", "arr_0"]
        assert (file["images"] == file["arr_0"]).all() and file["images"].shape == (5, 8, 8, 1)
        assert file["labels"].tolist() == [3, 7, 3, 7, 3]
        assert file["seeds"].tolist() == [[9, k] for k in range(5)]
        told = json.loads(str(file["settings"]))
    assert (told["sampling"]["steps"], told["nfe"], told["seed"]) == (1, 1, 9)
    assert told["stage"]["label"] == "student 1" and told["class_names"][3] == "3"


def test_files_are_called_by_their_classes_and_seeds_in_letters_that_every_disk_takes(tmp_path):
    fabricated.chain(tmp_path, "student", data=folder_of(tmp_path, "a b", "a_b", "größe: 1?", "x."))
    arguments = ["--count", "4", "--seed", "3", "--labels", "0,1,2,3", "--out", f"{tmp_path}/out/"]
    assert sample.main([str(tmp_path / "x.yaml"), *arguments]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "00000-0_a_b-seed3.png", "00001-1_a_b-seed3.png", "00002-größe_1-seed3.png", "00003-x-seed3.png",
    ]  # fmt: skip


def test_a_grid_has_a_caption_below_each_image_where_there_are_classes(tmp_path):
    fabricated.chain(tmp_path, "student")
    file, sizes = str(tmp_path / "x.yaml"), []
    for labels in ("3,7", "3"):
        assert (
            sample.main(
                [file, "--count", "2", "--labels", labels, "--out", str(tmp_path / "x.png")]
            )
            == 0
        )
        with Image.open(tmp_path / "x.png") as picture:
            sizes.append(picture.size)
            captions = [np.asarray(picture.convert("L").crop((x, 50, x + 48, 64))) for x in (2, 52)]
        assert all(caption.min() < 100 and caption.max() == 255 for caption in captions)
        assert (captions[0] == captions[1]).all() == (labels == "3")
    assert sizes == [(102, 66)] * 2


def test_a_grid_of_unlabelled_networks_has_none(tmp_path):
    fabricated.chain(
        tmp_path, "student", teacher={"steps": 20, "batch_size": 16, "label_dropout": None}
    )
    assert (
        sample.main([str(tmp_path / "x.yaml"), "--count", "2", "--out", str(tmp_path / "x.png")])
        == 0
    )
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (102, 52)
