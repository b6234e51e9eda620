"""Nothing that a command writes becomes a training image, and no file is lost by a slip in
--out."""

import os

import fabricated
import pytest
from commands import TINY, everything_below, run
from PIL import Image

from orchestrator import data, export, sample
from orchestrator.fields.faults import ConfigError
from orchestrator.settings.loading import load
from orchestrator.store.training_images import is_among_images
from orchestrator.sweeps.opening import check_storage

FOLDER = TINY.replace("{name: digits}", "{name: folder, root: pets, size: 8}")


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A folder of images of two classes in a folder of its own, which is the current one; with an
    experiment on it."""
    monkeypatch.chdir(tmp_path)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (8, 8), (40 * k, 0, 200)).save(tmp_path / "pets" / name / f"{k}.png")
    (tmp_path / "x.yaml").write_text(FOLDER)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("root", "storage"),
    [
        ("pets", "pets/runs"), (".", "runs"), ("../{}", "{}/a/b"), ("pets", "{}/pets"), ("link", "pets/runs"),
        ("pets", "link/runs"), ("~/pets", "pets/runs"), ("pets", "~/pets/runs"),
    ],
)  # fmt: skip
def test_a_storage_among_training_images_is_refused_also_in_a_dry_run(
    root, storage, pets, monkeypatch
):
    here = pets.parent
    monkeypatch.setenv("HOME", str(here))
    os.symlink("pets", here / "link")
    root, storage = root.replace("../{}", f"../{here.name}"), storage.replace("{}", str(here))
    asked = load("x.yaml", [f"data.root={root}", f"storage={storage}"])
    with pytest.raises(ConfigError) as refused:
        check_storage(asked, "x.yaml")
    expected = f'x.yaml: storage: got "{storage}", which is in data.root, "{root}": results would be read as images'
    assert expected.split("lies in")[0][:40] in str(
        refused.value
    ) and "to a place outside of it" in str(refused.value)


def test_a_run_with_its_store_among_the_images_starts_nothing(pets):
    before = everything_below(pets.parent)
    for command in (["sweep"], ["train", "--dry-run"], ["doctor"]):
        said = run(pets.parent, *command, "x.yaml", "--set", "data.root=.")
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr.startswith(
            'error: x.yaml: storage: got "runs", which is in data.root, "."'
        )
        assert said.stderr.count("\n") == 1
    assert everything_below(pets.parent) == before


def test_roots_that_a_sweep_varies_and_databases_count_too(pets):
    swept = load("x.yaml", ["sweep={space: {data.root: {grid: [pets, .]}}}"])
    with pytest.raises(ConfigError, match=r'storage: got "runs", which is in data.root, "."'):
        check_storage(swept, "x.yaml")
    with pytest.raises(ConfigError, match=r"tracking\.uri: got .* which is in data.root"):
        check_storage(load("x.yaml", ["tracking.uri=sqlite:///pets/m.db"]), "x.yaml")


@pytest.mark.parametrize(
    "given",
    [["storage=runs"], ["data.root=.", "storage=.runs"], ["data.root=.", "data.split=pets"], ["data.root=pets.zip"],
     ["data={name: cifar10, root: .}"], ["data.root=.", "storage=s3://bucket/x", "tracking.uri=http://h"]],
)  # fmt: skip
def test_stores_that_no_data_set_reads_are_taken(given, pets):
    asked = load("x.yaml", given)
    assert asked.storage.startswith("s3:") or not is_among_images(asked.storage, asked.data)
    if not asked.storage.startswith("s3:"):
        check_storage(asked, "x.yaml")


def test_out_among_the_training_images_is_refused(pets, capsys):
    fabricated.chain(pets.parent, data={"name": "folder", "root": str(pets), "size": 8})
    capsys.readouterr()
    before = everything_below(pets)
    for main, given in (
        (data.main, ["--out=pets/real.png"]),
        (data.main, ["--out=pets/cats/9.png"]),
        (sample.main, ["--out=pets/9.png", "--count=2"]),
        (sample.main, ["--out=pets/new/", "--count=2"]),
        (export.main, ["--out=pets/m.safetensors", "--format=safetensors"]),
    ):
        assert main(["x.yaml", *given]) == 2
        said = capsys.readouterr().err
        assert "which would be read as a training image, since it is in data.root" in said
    assert everything_below(pets) == before


def test_a_file_of_somebody_else_is_not_replaced_and_ones_own_is(pets, capsys):
    here = pets.parent
    fabricated.chain(here)
    for name in ("photo.png", "way.gif"):
        Image.new("RGB", (8, 8)).save(here / name)
    (here / "a.npz").write_bytes(b"PK somebody's arrays")
    (here / "m.onnx").write_bytes(b"another program's network")
    os.mkfifo(here / "pipe.png")
    (here / "empty.png").touch()
    for name in ("photo.png", "way.gif", "a.npz"):
        was = (here / name).read_bytes()
        assert sample.main(["x.yaml", "--count=2", "--out", name]) == 2
        said = capsys.readouterr().err
        assert said == (f"error: --out: got {name}, which exists and was not written by this command: give another "
                        "name, or remove it\n")  # fmt: skip
        assert (here / name).read_bytes() == was
    assert sample.main(["x.yaml", "--count=2", "--out=pipe.png"]) == 2
    assert "which is a device or another special file" in capsys.readouterr().err
    assert data.main(["x.yaml", "--out=photo.png"]) == 2
    assert export.main(["x.yaml", "--format=onnx", "--out=m.onnx"]) == 2
    for name in ("new.png", "new.gif", "new.npz", "empty.png"):
        for _ in range(2):
            assert sample.main(["x.yaml", "--count=2", "--out", name]) == 0, capsys.readouterr().err
    for _ in range(2):
        assert data.main(["x.yaml", "--out=real.png"]) == 0
    Image.open(here / "new.png").verify()


@pytest.mark.parametrize(
    ("kind", "name"), [("safetensors", "a.safetensors"), ("torchscript", "a.pt")]
)
def test_an_export_can_be_written_again(kind, name, pets, capsys):
    """For ONNX this is tested where the exporter, which takes long to import, is needed anyway."""
    fabricated.chain(pets.parent)
    for _ in range(2):
        assert export.main(["x.yaml", "--format", kind, "--out", name]) == 0, (
            capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("kind", "name"), [("onnx", "s.safetensors"), ("safetensors", "x.onnx"), ("onnx", "x.png")]
)
def test_an_ending_of_another_format_is_refused(kind, name, pets, capsys):
    fabricated.chain(pets.parent)
    assert export.main(["x.yaml", "--format", kind, "--out", name]) == 2
    assert f"got {name}, whose ending means" in capsys.readouterr().err


@pytest.mark.parametrize("storage", ["/proc/x", "/proc/self/fd/x/y"])
def test_a_storage_where_no_folder_can_be_made_is_a_fault_of_its_key(storage, pets):
    said = run(pets.parent, "train", "x.yaml", "--set", f"storage={storage}")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(
        f"error: x.yaml: storage: got {storage}, but no folder can be made in /proc"
    )
    assert "give another place" in said.stderr and said.stderr.count("\n") == 1


def test_more_images_than_memory_has_room_for_are_refused(pets, capsys, monkeypatch):
    fabricated.chain(pets.parent)
    for out in ("x.png", "x.npz", "x.gif", "x/"):
        assert sample.main(["x.yaml", "--count=999999999", "--out", out]) == 2
        said = capsys.readouterr().err
        assert (
            said.startswith("error: --count: got 999999999, which take about ")
            and "expected at most" in said
        )
        assert said.count("\n") == 1
    monkeypatch.setattr(sample.machine, "memory", lambda: 11 * 64 * 5)
    assert sample.main(["x.yaml", "--count=6", "--out=x.npz"]) == 2
    assert (
        "expected at most 5; for more, run it again with another --seed" in capsys.readouterr().err
    )
    assert sample.main(["x.yaml", "--count=5", "--out=x.npz"]) == 0
