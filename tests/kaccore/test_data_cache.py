"""The file of decoded images: whole or not taken, written by one process, never held in memory."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from forked import FORKED
from safetensors.torch import load_file

from kaccore import arrays
from kaccore.data import ImageData, load

PATIENCE = 300.0


@pytest.fixture
def tree(tmp_path) -> Path:
    return write_tree(tmp_path / "images", count=6, side=24)


def write_tree(root: Path, count: int, side: int) -> Path:
    for i in range(count):
        folder = root / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        image_files.photograph(i, side, side).save(folder / f"{i:04d}.png")
    return root


def cache_of(root: Path) -> Path:
    (file,) = (root / ".kaccore").glob("*.safetensors")
    return file


def identity(file: Path) -> tuple[int, int]:
    """Changes when a file is replaced or written to."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def test_a_second_load_reads_the_same_file(tree):
    first = load("folder", tree, size=24)
    written = identity(cache_of(tree))
    second = load("folder", tree, size=24)
    assert identity(cache_of(tree)) == written
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert first.class_names == second.class_names == ("class 0", "class 1")


def test_the_file_is_mapped_and_not_read_into_memory(tree):
    data = load("folder", tree, size=24)
    assert str(cache_of(tree)) in Path("/proc/self/maps").read_text()
    del data
    assert str(cache_of(tree)) not in Path("/proc/self/maps").read_text()


def test_the_file_is_one_that_safetensors_reads(tree):
    data = load("folder", tree, size=24)
    stored = load_file(cache_of(tree))
    assert torch.equal(stored["images"], data.images) and torch.equal(stored["labels"], data.labels)


def test_the_kept_fingerprint_is_that_of_the_content(tree):
    data = load("folder", tree, size=24)
    in_memory = ImageData("other", data.images.clone(), data.labels.clone(), data.class_names)
    assert vars(data)["fingerprint"] == in_memory.fingerprint
    changed = data.images.clone()
    changed[0, 0, 0, 0] ^= 1
    assert dataclasses.replace(data, images=changed).fingerprint != data.fingerprint


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def as_unfinished(content: bytes) -> bytes:
    """A file whose images are all there and whose fingerprint has not been written yet."""
    from kaccore.data import cache

    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["fingerprint"] = cache.UNKNOWN
    header["__metadata__"]["checksum"] = cache._checksum(header)
    return content[:8] + json.dumps(header).encode().ljust(length) + content[8 + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:100],
        lambda content: b"\xff" * len(content),
        lambda content: flip(content, content.index(b'"fingerprint": "') + 20),
        lambda content: flip(content, content.index(b'"stamp": "') + 12),
        lambda content: flip(content, content.index(b"class 1") + 6),
        lambda content: flip(content, content.index(b'"shape"') + 10),
        lambda content: len(b"[1, 2]").to_bytes(8, "little") + b"[1, 2]",
        as_unfinished,
    ],
    ids=[
        "cut",
        "longer",
        "empty",
        "stub",
        "header",
        "noise",
        "fingerprint",
        "stamp",
        "class",
        "shape",
        "list",
        "unfinished",
    ],
)
def test_a_damaged_file_is_made_anew(tree, damage):
    before = load("folder", tree, size=24)
    kept = before.images.clone()
    fingerprint = before.fingerprint
    file = cache_of(tree)
    damaged = damage(file.read_bytes())
    file.unlink()
    file.write_bytes(damaged)
    after = load("folder", tree, size=24)
    assert torch.equal(after.images, kept) and after.fingerprint == fingerprint
    assert cache_of(tree).read_bytes() != damaged


def test_whoever_reads_the_old_file_goes_on_reading_it(tree):
    before = load("folder", tree, size=24)
    kept = before.images.clone()
    image_files.photograph(99, 24, 24).save(tree / "class 0" / "0000.png")
    after = load("folder", tree, size=24)
    assert torch.equal(before.images, kept) and not torch.equal(after.images, kept)


def test_settings_have_files_of_their_own(tree):
    sizes = [load("folder", tree, size=size).size for size in (8, 16, 8)]
    assert sizes == [8, 16, 8]
    assert len(list((tree / ".kaccore").glob("*.safetensors"))) == 2


def test_two_roots_can_share_a_cache_folder(tmp_path):
    roots = [write_tree(tmp_path / name, count, side=24) for name, count in (("a", 3), ("b", 5))]
    for _ in range(2):
        assert [len(load("folder", root, size=8, cache=tmp_path / "cache")) for root in roots] == [
            3,
            5,
        ]
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert not any((root / ".kaccore").exists() for root in roots)


def test_parts_make_the_same_whole_in_little_memory(tmp_path, monkeypatch):
    count, side = 150, 96
    root = write_tree(tmp_path / "many", count, side)
    whole = load("folder", root, size=side)
    fingerprint, size = whole.fingerprint, whole.images.nbytes
    monkeypatch.setattr(arrays, "PART_BYTES", 100_000)  # three images and a bit
    tracemalloc.start()
    parts = load("folder", root, size=side, cache=tmp_path / "cache")
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(parts.images, whole.images)
    assert parts.fingerprint == fingerprint == dataclasses.replace(parts).fingerprint
    assert used < size / 4  # 4.1 MB of images


def test_a_batch_is_those_rows_of_all_floats(tree):
    data = load("folder", tree, size=24)
    index = torch.tensor([3, 0, 3, 5])
    assert torch.equal(data.batch(index), data.floats()[index])
    assert data.batch(index).dtype == torch.float32
    assert torch.equal(
        data.batch(index)[1], torch.tensor(np.array(data.images[0])).float() / 127.5 - 1
    )


def test_a_cache_larger_than_the_disk_is_refused_before_anything_is_decoded(tree):
    with pytest.raises(
        OSError, match=r"folder: its 6 decoded images take 18,000\.0 GB, .* has .* GB free.*`cache`"
    ):
        load("folder", tree, size=10**6)
    assert not list((tree / ".kaccore").glob("*.safetensors*[!k]"))


def meet_and_load(root: str, barrier, found) -> None:
    barrier.wait(PATIENCE)
    data = load("folder", root, size=24)
    found.put((identity(cache_of(Path(root))), data.fingerprint))


def test_two_processes_at_once_make_one_file(tree):
    barrier, found = FORKED.Barrier(2), FORKED.Queue()
    processes = [
        FORKED.Process(target=meet_and_load, args=(str(tree), barrier, found)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    one, other = (found.get(timeout=PATIENCE) for _ in processes)
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert one == other == (identity(cache_of(tree)), load("folder", tree, size=24).fingerprint)


def load_it(root: str) -> None:
    load("folder", root, size=512)


def test_what_a_killed_writer_leaves_is_not_taken_for_whole(tmp_path):
    root = write_tree(tmp_path / "many", count=100, side=200)
    process = FORKED.Process(target=load_it, args=(str(root),))
    process.start()
    until = time.monotonic() + PATIENCE
    while not list(root.glob(".kaccore/*.part")):
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    process.join(PATIENCE)
    assert list(root.glob(".kaccore/*.part")) and not list(root.glob(".kaccore/*.safetensors"))
    data = load("folder", root, size=512)
    assert len(data) == 100 and data.fingerprint == dataclasses.replace(data).fingerprint
    assert not list(root.glob(".kaccore/*.part"))


READ_ONLY = """\
import sys
from kaccore.data import load
root, cache = sys.argv[1:]
print(len(load("folder", root, size=24)), load("folder", root, size=8, cache=cache).size)
load("folder", root, size=8)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux's unshare")
def test_a_root_that_cannot_be_written_takes_a_cache_that_is_there_or_elsewhere(tree, tmp_path):
    load("folder", tree, size=24)
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$0" -c "$3" "$1" "$2"'
    )
    rights = (
        [] if os.geteuid() == 0 else ["--map-root-user"]
    )  # a mount of this process's own, gone with it
    said = subprocess.run(
        ["unshare", "--mount", *rights, "bash", "-c", script, sys.executable, tree, tmp_path / "cache", READ_ONLY],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert said.stdout.split() == ["6", "8"], said.stderr
    assert f"PermissionError: [Errno 30] cannot write in {tree}/.kaccore" in said.stderr
    assert "give another folder as `cache`" in said.stderr
