"""On what kind of file system a folder lies: SQLite's locks do not hold on one that other machines
write too."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")  # Linux has it; see proc_pid_mountinfo(5)
NETWORK = (
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "mmfs", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs", "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse",
    "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3",
    "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
)  # fmt: skip


def network_kind(folder: Path) -> str:
    """The type of the network file system on which `folder` lies or would be made, such as nfs4;
    empty for a local disk, and where it cannot be known."""
    kind = kind_of(folder, mounts(_mountinfo()))
    return kind if kind in NETWORK else ""


def mounts(mountinfo: str) -> list[tuple[Path, str]]:
    """Mount points and the types of their file systems, as a text like /proc/self/mountinfo has
    them, in its order."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, kinds = line.partition(
            " - "
        )  # in between are optional fields, as many as there are
        if len(fields.split()) >= 5 and kinds:
            point = re.sub(
                r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields.split()[4]
            )  # \040 is a blank
            found.append((Path(point), kinds.split()[0]))
    return found


def kind_of(folder: Path, mounted: Iterable[tuple[Path, str]]) -> str:
    """The type of the file system of `folder`, symbolic links followed: of the mount points above
    it that of the deepest, and of several at one place that of the last; empty where none is above
    it."""
    real = Path(os.path.realpath(folder))
    best = -1
    kind = ""
    for point, each in mounted:
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), each
    return kind


def _mountinfo() -> str:
    try:
        return MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return ""
