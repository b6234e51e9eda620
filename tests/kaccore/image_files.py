"""Small data sets in the formats in which the real ones are published."""

import csv
import hashlib
import io
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

CELEBA_LISTS = {  # name: columns of its header (None: no header), columns of a row
    "identity_CelebA.txt": (None, 1),
    "list_attr_celeba.txt": (40, 40),
    "list_bbox_celeba.txt": (4, 4),
    "list_landmarks_align_celeba.txt": (10, 10),
}


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """A smooth colour image, as photographs are: its JPEG is close to it."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8
    )
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def decoded(file: bytes | Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.asarray(
        Image.open(io.BytesIO(file) if isinstance(file, bytes) else file).convert("RGB")
    )


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) -> (side, side, 3)."""
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def resized(pixels: np.ndarray, size: int, mode: str) -> torch.Tensor:
    """(H, W, 3) -> (3, size, size) float by PyTorch's own filters."""
    x = torch.tensor(pixels).permute(2, 0, 1)[None].double()
    return torch.nn.functional.interpolate(x, (size, size), mode=mode, antialias=True)[0].clamp(
        0, 255
    )


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def write_cifar10(root: Path, a_batch: int = 4) -> tuple[np.ndarray, list[int]]:
    """The Python version of CIFAR-10 with `a_batch` images a file: its training images (N, 3, 32,
    32) and labels."""
    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images, labels = [], []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (a_batch, 3072), dtype=np.uint8)
        numbers = rng.integers(0, 10, a_batch).tolist()
        names = [f"image_{i}.png" for i in range(a_batch)]
        batch = {"batch_label": name, "labels": numbers, "data": data, "filenames": names}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        if name != "test_batch":
            images.append(data.reshape(-1, 3, 32, 32))
            labels += numbers
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    meta = {"label_names": names, "num_cases_per_batch": a_batch, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return np.concatenate(images), labels


def publish_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the md5 sums of the files in `root` those that torchvision takes for the published
    ones."""
    kind, folder = datasets.CIFAR10, root / "cifar-10-batches-py"
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(
            kind, which, [[name, md5(folder / name)] for name, _ in getattr(kind, which)]
        )
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / "batches.meta")})


def write_celeba(root: Path, splits: list[int]) -> None:
    """CelebA with an image for each of `splits` (0 training, 1 validation, 2 test)."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(len(splits))]
    for i, name in enumerate(names):
        (folder / "img_align_celeba" / name).write_bytes(jpeg(photograph(i, 178, 218)))
    rows = [f"{name} {split}" for name, split in zip(names, splits, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    for file, (header, columns) in CELEBA_LISTS.items():
        with (folder / file).open("w", newline="") as f:
            writer = csv.writer(f, delimiter=" ", lineterminator="\n")
            if header is not None:
                f.write(f"{len(names)}\n")
                writer.writerow([f"column_{i}" for i in range(header)])
            writer.writerows([name, *[1] * columns] for name in names)


def publish_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the md5 sums of the lists in `root` those that torchvision takes for the published
    ones."""
    files = [
        (file_id, md5(root / "celeba" / name) if name.endswith(".txt") else known, name)
        for file_id, known, name in datasets.CelebA.file_list
    ]
    monkeypatch.setattr(datasets.CelebA, "file_list", files)


def write_lsun(root: Path, images: dict[str, bytes]) -> None:
    """LSUN's database of bedrooms: key -> JPEG."""
    with (
        lmdb.open(str(root / "bedroom_train_lmdb"), map_size=2**28) as env,
        env.begin(write=True) as transaction,
    ):
        for key, image in images.items():
            transaction.put(key.encode(), image)
