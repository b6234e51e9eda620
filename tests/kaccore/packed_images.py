"""Two classes of three small images, as a folder or packed in an archive of any kind."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import image_files
import pyarrow as pa
from image_kinds import saved

FILES = {
    f"{name}/{i}.png": saved(image_files.photograph(10 * k + i, 20, 16), "PNG")
    for k, name in enumerate(("cat", "dog"))
    for i in (10, 2, 1)
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(
    path: Path, files: dict[str, bytes], mode: str = "w", extra: tuple[tarfile.TarInfo, ...] = ()
) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zst(path: Path, files: dict[str, bytes]) -> Path:
    plain = tar(path.with_suffix(""), files).read_bytes()
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(plain)
    return path


ARCHIVES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "x.zip": zipped,
    "x.tar": tar,
    "x.tar.gz": lambda path, files: tar(path, files, "w:gz"),
    "x.tgz": lambda path, files: tar(path, files, "w:gz"),
    "x.tar.bz2": lambda path, files: tar(path, files, "w:bz2"),
    "x.tar.xz": lambda path, files: tar(path, files, "w:xz"),
    "x.tar.zst": zst,
}


def backwards(files: dict[str, bytes], prefix: str = "") -> dict[str, bytes]:
    return {prefix + name: files[name] for name in sorted(files, reverse=True)}
