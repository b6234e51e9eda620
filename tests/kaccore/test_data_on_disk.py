"""The published data sets, in small, in their own formats and through the real readers."""

import functools
import http.server
import os
import tarfile
import threading
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from torchvision import datasets

from kaccore.data import ImageData, load


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    images, labels = image_files.write_cifar10(tmp_path)
    image_files.publish_cifar10(tmp_path, monkeypatch)
    return torch.from_numpy(images), torch.tensor(labels)


@pytest.fixture
def celeba(tmp_path, monkeypatch) -> Path:
    image_files.write_celeba(tmp_path, [0, 1, 0, 2, 0])
    image_files.publish_celeba(tmp_path, monkeypatch)
    return tmp_path / "celeba"


@pytest.fixture
def bedrooms(tmp_path) -> dict[str, bytes]:
    widths = {"c2": 341, "a0": 256, "b1": 400, "d3": 300}
    images = {
        key: image_files.jpeg(image_files.photograph(i, w, 256))
        for i, (key, w) in enumerate(widths.items())
    }
    image_files.write_lsun(tmp_path, images)
    return dict(sorted(images.items()))


# CIFAR-10


def test_cifar10_is_the_training_batches_in_their_order(tmp_path, cifar10):
    data = load("cifar10", tmp_path)
    images, labels = cifar10
    assert torch.equal(data.images, images) and torch.equal(data.labels, labels)
    assert (data.name, data.size, data.channels, data.classes) == ("cifar10", 32, 3, 10)
    assert data.class_names[0] == "airplane" and data.class_names[9] == "truck"
    assert data.fingerprint == ImageData("in memory", images, labels, data.class_names).fingerprint


def test_cifar10_needs_its_files_once(tmp_path, cifar10):
    before = load("cifar10", tmp_path)
    for file in (tmp_path / "cifar-10-batches-py").iterdir():
        file.unlink()
    assert torch.equal(load("cifar10", tmp_path).images, before.images)


def test_only_the_published_cifar10_is_taken_for_it(tmp_path):
    image_files.write_cifar10(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"data_batch_1 is damaged: its md5 is not c99cafc152244af753f735de768cd75f",
    ):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_or_missing_file_of_cifar10_is_named_with_the_way_to_get_it(
    tmp_path, cifar10, name
):
    file = tmp_path / "cifar-10-batches-py" / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=rf"^cifar10: {file} is damaged.*https://www\.cs\.toronto\.edu.*download"
    ):
        load("cifar10", tmp_path)
    file.unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"^cifar10: there is no {file};.*https://www\.cs\.toronto\.edu"
    ):
        load("cifar10", tmp_path)


@pytest.fixture
def server(tmp_path):
    """A web server of a folder beside `tmp_path`: the folder and its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        # it looks that often whether it is to end, by default twice a second
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_cifar10_is_downloaded_and_unpacked_where_that_is_asked_for(tmp_path, monkeypatch, server):
    folder, address = server
    images, _ = image_files.write_cifar10(folder)
    image_files.publish_cifar10(folder, monkeypatch)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/cifar-10-python.tar.gz")
    monkeypatch.setattr(
        datasets.CIFAR10, "tgz_md5", image_files.md5(folder / "cifar-10-python.tar.gz")
    )
    root = tmp_path / "new" / "root"
    with pytest.raises(FileNotFoundError, match=f"there is no folder {root}"):
        load("cifar10", root)
    assert not root.exists()
    assert torch.equal(load("cifar10", root, download=True).images, torch.from_numpy(images))


def test_a_failed_download_says_where_to_get_the_data(tmp_path, monkeypatch, server):
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server[1]}/absent.tar.gz")
    with pytest.raises(
        ConnectionError,
        match=r"^cifar10: the download into .* failed.*404.*https://www\.cs\.toronto",
    ):
        load("cifar10", tmp_path, download=True)


# CelebA


def test_celeba64_is_the_centre_of_140_pixels_at_64_of_the_training_images(tmp_path, celeba):
    data = load("celeba64", tmp_path)
    assert (data.name, data.channels, data.size, data.labels) == ("celeba64", 3, 64, None)
    assert len(data) == 3
    for image, name in zip(data.images, ["000001.jpg", "000003.jpg", "000005.jpg"], strict=True):
        pixels = image_files.decoded(celeba / "img_align_celeba" / name)
        assert pixels.shape == (218, 178, 3)
        assert (
            image - image_files.resized(pixels[39:179, 19:159], 64, "bilinear")
        ).abs().max() < 1.01


def test_a_missing_or_broken_image_of_celeba_is_named(tmp_path, celeba):
    file = celeba / "img_align_celeba" / "000003.jpg"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=rf"^celeba64: cannot read {file} \(OSError: .*truncated.*mmlab"
    ):
        load("celeba64", tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=rf"^celeba64: cannot read {file} \(FileNotFoundError"):
        load("celeba64", tmp_path)
    assert not list(tmp_path.glob(".kaccore/*.safetensors*[!k]"))  # nothing but locks


def test_an_image_of_celeba_that_is_too_small_is_named(tmp_path, celeba):
    image_files.photograph(0, 139, 218).save(celeba / "img_align_celeba" / "000005.jpg")
    with pytest.raises(
        ValueError, match=r"000005\.jpg \(ValueError: 139x218 pixels, expected at least 140x140"
    ):
        load("celeba64", tmp_path)


def test_lists_of_celeba_that_disagree_are_refused(tmp_path, celeba, monkeypatch):
    file = celeba / "identity_CelebA.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=rf"{file} is damaged"):
        load("celeba64", tmp_path)
    image_files.publish_celeba(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=rf"^celeba64: the files in {celeba} do not fit together"):
        load("celeba64", tmp_path)


def test_missing_parts_of_celeba_are_named_with_the_way_to_get_them(tmp_path, celeba):
    (celeba / "list_eval_partition.txt").rename(tmp_path / "kept")
    with pytest.raises(
        FileNotFoundError, match=r"list_eval_partition\.txt;.*mmlab\.ie\.cuhk\.edu\.hk"
    ):
        load("celeba64", tmp_path)
    (celeba / "img_align_celeba").rename(tmp_path / "img")
    with pytest.raises(FileNotFoundError, match=rf"there is no {celeba}/img_align_celeba;"):
        load("celeba64", tmp_path)


# LSUN


def test_lsun_bedrooms_are_the_centre_squares_in_the_order_of_their_keys(
    tmp_path, bedrooms, monkeypatch
):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    data = load("lsun_bedroom256", tmp_path)
    assert data.labels is None and data.images.shape == (4, 3, 256, 256)
    for image, file in zip(data.images, bedrooms.values(), strict=True):
        # the published images are 256 pixels on their shorter side, so that nothing is resized
        assert np.array_equal(
            image.numpy(), image_files.centre(image_files.decoded(file), 256).transpose(2, 0, 1)
        )
    assert not os.listdir()  # torchvision's reader would leave a file here


def test_a_limit_takes_the_first_bedrooms(tmp_path, bedrooms):
    every = load("lsun_bedroom256", tmp_path)
    few = load("lsun_bedroom256", tmp_path, limit=2)
    assert torch.equal(few.images, every.images[:2])
    assert few.fingerprint != every.fingerprint
    assert len(load("lsun_bedroom256", tmp_path, limit=9)) == 4
    with pytest.raises(ValueError, match="limit is 0, expected 1 or more"):
        load("lsun_bedroom256", tmp_path, limit=0)


def test_another_database_in_the_place_of_the_first_is_read_anew(tmp_path, bedrooms):
    before = load("lsun_bedroom256", tmp_path)
    image_files.write_lsun(tmp_path, {"e4": image_files.jpeg(image_files.photograph(9, 256, 256))})
    assert torch.equal(load("lsun_bedroom256", tmp_path).images[:4], before.images)
    assert len(load("lsun_bedroom256", tmp_path)) == 5


def test_a_database_that_is_missing_cut_off_or_none_is_refused(tmp_path, bedrooms):
    image_files.write_lsun(tmp_path, {f"e{i}": bedrooms["a0"] for i in range(40)})
    file = tmp_path / "bedroom_train_lmdb" / "data.mdb"
    size = file.stat().st_size
    os.truncate(file, size // 2)  # reading on would end the process with SIGBUS
    with pytest.raises(
        ValueError, match=rf"^lsun_bedroom256: {file} is cut off: .*https://github\.com/fyu/lsun"
    ):
        load("lsun_bedroom256", tmp_path)
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(
        ValueError, match=rf"^lsun_bedroom256: cannot read the LMDB {file.parent} \(.*MDB_INVALID"
    ):
        load("lsun_bedroom256", tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"^lsun_bedroom256: there is no {file};"):
        load("lsun_bedroom256", tmp_path)


def test_an_empty_database_is_refused(tmp_path):
    image_files.write_lsun(tmp_path, {})
    with pytest.raises(ValueError, match="bedroom_train_lmdb is empty"):
        load("lsun_bedroom256", tmp_path)


def test_a_broken_bedroom_is_named_by_its_key_and_the_database_can_be_read_again(
    tmp_path, bedrooms
):
    image_files.write_lsun(tmp_path, {"b1": bedrooms["b1"][:2000]})
    # as a notebook keeps the last error, and with it all that was open: LMDB opens nothing twice
    kept = []
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"cannot read image b1 of .*lmdb \(OSError: .*truncated"
        ) as refused:
            load("lsun_bedroom256", tmp_path)
        kept.append(refused)
    image_files.write_lsun(tmp_path, bedrooms)
    assert len(load("lsun_bedroom256", tmp_path)) == 4
