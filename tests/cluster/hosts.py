"""Hosts on one machine: each has a network, processes, a name and a home of its own, and an sshd;
the disk is shared.

A host is a network, mount, pid and uts namespace whose first process is tini; when that is killed
everything on the host is gone, as when a machine loses its power. `desk` is the researcher's own
machine, from which the cluster is launched. Needs root and Debian's openssh-server, rsync, tini and
iproute2."""

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from commands import REPOSITORY

NETWORK, BRIDGE = "10.78.0", "kac-bridge"
ADDRESSES = {
    name: f"{NETWORK}.{n}" for n, name in enumerate(("desk", "head", "w1", "w2", "w3"), start=1)
}
LOCK = Path("/run/kac-hosts.lock")
SSH_OPTIONS = (
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "ConnectTimeout=5",
)
PRIVATE = (
    "/root",
    "/tmp/ray",
    "/tmp/ray_tmp_mount",
    "/run/postgresql",
)  # what two machines would not share
SSHD = """\
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
UsePAM no
PasswordAuthentication no
AuthorizedKeysFile /root/.ssh/authorized_keys
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""
SHARED = (
    sys.base_prefix,
    sys.prefix,
    str(REPOSITORY),
)  # what may lie under /root, and is wanted on each host
BEGIN = """\
hostname {name}
{mounts}
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount --bind {folder}/hosts /etc/hosts
exec tini -- /usr/sbin/sshd -D -e -f {own}/sshd_config
"""


class Host:
    """One host; it is up from construction to `down`."""

    def __init__(self, name: str, folder: Path, private: Sequence[str] = PRIVATE) -> None:
        self.name = name
        self._private = private
        self.address = ADDRESSES[name]
        self.folder = folder
        self.own, self.space = folder / name, f"kac-{name}"
        self._plug_in()
        self._process = self._start()

    def _plug_in(self) -> None:
        ip("netns", "add", self.space)
        ip("link", "add", self.space, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", self.space, "master", BRIDGE, "up")
        ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.space, "link", "set", device, "up")

    def _start(self) -> subprocess.Popen[bytes]:
        (self.own / "root/.ssh").mkdir(parents=True, exist_ok=True)
        (self.own / "root/.ssh/authorized_keys").write_text((self.folder / "key.pub").read_text())
        (self.own / "sshd_config").write_text(SSHD.format(address=self.address, folder=self.folder))
        hidden = [path for path in SHARED if path.startswith("/root/")]
        mounts = [
            f"mkdir -p {self.own}{path} && mount --bind {path} {self.own}{path}" for path in hidden
        ]
        for path in self._private:
            Path(path).mkdir(parents=True, exist_ok=True)
            (self.own / path[1:]).mkdir(parents=True, exist_ok=True)
            if Path(path).stat().st_mode & stat.S_ISVTX:  # all users write there
                (self.own / path[1:]).chmod(0o1777)
            mounts.append(f"mount --rbind {self.own}{path} {path}")
        Path("/run/sshd").mkdir(exist_ok=True)
        script = BEGIN.format(
            name=self.name, own=self.own, folder=self.folder, mounts="\n".join(mounts)
        )
        # dies with this process, and all that runs on the host with it
        spaces = [
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
        ]
        with (self.own / "sshd.log").open("wb") as log:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.space, *spaces, "--mount-proc", "bash", "-euc", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def first(self) -> psutil.Process:
        """The host's first process, as the machine sees it."""
        while not (children := psutil.Process(self._process.pid).children()):
            assert self._process.poll() is None, (self.own / "sshd.log").read_text()
            time.sleep(0.05)
        return children[0]

    def processes(self) -> list[psutil.Process]:
        """What runs on the host beside its first process and the sshd."""
        found = self.first.children(recursive=True)
        return [p for p in found if runs(p) and not named(p).startswith("sshd")]

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """`arguments` as a command that, given to this machine, runs on the host without going
        through its sshd."""
        fresh = {
            "HOME": "/root",
            "USER": "root",
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            **environment,
        }
        spaces = [
            "nsenter",
            f"--target={self.first.pid}",
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--wd=/root",
        ]
        return [*spaces, "env", "-i", *(f"{k}={v}" for k, v in fresh.items()), *arguments]

    def unplug(self) -> None:
        """Pull the host's cable."""
        ip("link", "set", self.space, "down")

    def plug(self) -> None:
        """Put it back."""
        ip("link", "set", self.space, "up")

    def down(self) -> None:
        """Switch the host off."""
        with suppress(psutil.Error, ValueError):
            self.first.kill()
        self._process.wait(timeout=60)
        ip("netns", "delete", self.space)


class Hosts(Mapping[str, Host]):
    """The hosts called `names`, up while the context is open; their private files and keys lie
    below `folder`. `private`: the folders of which each has its own."""

    def __init__(
        self, folder: Path, names: Sequence[str], private: Sequence[str] = PRIVATE
    ) -> None:
        self._folder = folder
        self._names = names
        self._private = private
        self.key = folder / "key"
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> "Hosts":
        for key in ("key", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._folder / key],
                check=True,
            )
        known = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        self._turn = LOCK.open("w")
        fcntl.flock(self._turn, fcntl.LOCK_EX)  # names and addresses are one run's at a time
        _remove_what_a_killed_run_left()
        ip(
            "link", "add", BRIDGE, "type", "bridge"
        )  # without an address: no other program here can reach the hosts
        ip("link", "set", BRIDGE, "up")
        try:
            for name in self._names:
                self.add(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def add(self, name: str) -> Host:
        """One host more; returns it when its sshd answers."""
        host = self._hosts[name] = Host(name, self._folder, self._private)
        until = time.monotonic() + 60
        while self.ssh(name, "true", asking=name).returncode:
            assert time.monotonic() < until, (host.own / "sshd.log").read_text()
            time.sleep(0.1)
        return host

    def ssh(
        self, name: str, command: str, asking: str = "desk"
    ) -> subprocess.CompletedProcess[str]:
        """What `command` says on the host `name`, where it is given by ssh from the host
        `asking`."""
        return subprocess.run(
            self.by_ssh(name, command, asking),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def by_ssh(self, name: str, command: str, asking: str = "desk") -> list[str]:
        """The same as a command of this machine."""
        options = [part for option in SSH_OPTIONS for part in ("-o", option)]
        arguments = ["ssh", *options, "-i", str(self.key), f"root@{ADDRESSES[name]}", command]
        return self._hosts[asking].command(*arguments)

    def __exit__(self, *exception: object) -> None:
        for host in self._hosts.values():
            host.down()
        ip("link", "delete", BRIDGE)
        self._turn.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self):
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)


def ip(*arguments: str) -> None:
    """Debian's `ip`."""
    subprocess.run(["ip", *arguments], check=True)


def runs(process: psutil.Process) -> bool:
    """Whether a process, found a moment ago, has not ended meanwhile."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(process: psutil.Process) -> str:
    """The command of a process, empty where it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _remove_what_a_killed_run_left() -> None:
    """Namespaces, cables and the bridge outlive a test that was killed; its processes do not."""
    for name in ADDRESSES:
        if Path(f"/run/netns/kac-{name}").exists():
            ip("netns", "delete", f"kac-{name}")
    for device in Path("/sys/class/net").glob("kac-*"):
        with suppress(
            subprocess.CalledProcessError
        ):  # a cable goes with its namespace, a little later
            ip("link", "delete", device.name)
