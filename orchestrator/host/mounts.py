"""The type of a folder's file system: SQLite's locks do not work on one that several machines
write."""

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")  # Linux has it; see proc_pid_mountinfo(5)
OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
IN_MEMORY = ("tmpfs", "ramfs")
NETWORK = (
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "mmfs", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs", "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse",
    "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3",
    "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
)  # fmt: skip


def network_kind(folder: Path) -> str:
    """The type of the network file system of `folder`, which need not exist, such as nfs4; empty
    for a local disk, and where it is unknown."""
    kind = kind_of(folder, mounts(_mountinfo()))
    return kind if kind in NETWORK else ""


def is_of_this_machine(folder: Path) -> bool:
    """Whether `folder`, which need not exist, is where each machine has its own: a folder for temporary
    files, or in memory. A local disk may be what other machines see as a network file system."""
    real = Path(os.path.realpath(folder))
    own = [Path(os.path.realpath(path)) for path in (*OWN_FOLDERS, tempfile.gettempdir())]
    return any(real.is_relative_to(path) for path in own) or (
        kind_of(folder, mounts(_mountinfo())) in IN_MEMORY
    )


def mounts(mountinfo: str) -> list[tuple[Path, str]]:
    """Mount points and the types of their file systems, in the order of `mountinfo`, the content of
    /proc/self/mountinfo."""
    points = []
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")  # after optional fields
        fields = mount.split()
        if len(fields) >= 5 and filesystem:
            # \040 is a blank
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            points.append((Path(point), filesystem.split()[0]))
    return points


def kind_of(folder: Path, mounted: Iterable[tuple[Path, str]]) -> str:
    """The type of the file system of `folder`, symbolic links followed: that of the deepest mount
    point above it, and of several at one path that of the last; empty where there is none."""
    real = Path(os.path.realpath(folder))
    depth = -1
    kind = ""
    for point, point_kind in mounted:
        if real.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), point_kind
    return kind


def _mountinfo() -> str:
    try:
        return MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return ""
