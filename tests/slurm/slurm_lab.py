"""Slurm on hosts of one machine: a controller, three nodes to compute on, and a login node, where a
user who is not root submits jobs. The home is shared, and /tmp is each host's own.

One node has a partition of its own, where a job can run for minutes while others are pre-empted or
lose their node."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands import PATIENCE, kill_all
from hosts import ADDRESSES, PRIVATE, Hosts

USER = "kac-researcher"
LOGIN, CONTROLLER = "desk", "head"
APART, MAIN = ("w1",), ("w2", "w3")  # the nodes of the partitions apart and main
NODES = APART + MAIN
BRIEF = "w3"  # a node with a partition that is too short for a sweep
CPUS = 2
CONTROL_GROUPS = ("freezer", "cpuset", "memory", "cpuacct", "cpu", "devices")
CONFIGURATION = """\
ClusterName=kac
SlurmctldHost=head({controller})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=15
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
JobRequeue=1
MinJobAge=86400
EnforcePartLimits=ALL
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdTimeout=20
KillWait=10
{nodes}
PartitionName=main Nodes={main} Default=YES MaxTime=1-00:00:00 PriorityTier=1 State=UP
PartitionName=urgent Nodes={main} MaxTime=10 PriorityTier=2 State=UP
PartitionName=apart Nodes={apart} MaxTime=10 PriorityTier=1 State=UP
PartitionName=brief Nodes={brief} MaxTime=3 PriorityTier=1 State=UP
PartitionName=closed Nodes={brief} AllowAccounts=physics State=UP
"""
# after cred_expire, in seconds, Slurm starts a job again (its own value is two minutes), and after
# MinJobAge it forgets one that has ended (five minutes, within which other tests may still run)
CONTROL_GROUP_CONFIGURATION = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=yes\n"
# of one host alone, as a machine of its own would have them
OWN_CONTROL_GROUPS = """\
mount -t tmpfs tmpfs /sys/fs/cgroup
for kind in {kinds}; do
  mkdir -p /sys/fs/cgroup/.all/$kind /sys/fs/cgroup/$kind
  mount -t cgroup -o $kind cgroup /sys/fs/cgroup/.all/$kind
  mkdir -p /sys/fs/cgroup/.all/$kind/kac-{name}
  if [ $kind = cpuset ]; then
    for file in cpus mems; do
      cat /sys/fs/cgroup/.all/cpuset/cpuset.$file > /sys/fs/cgroup/.all/cpuset/kac-{name}/cpuset.$file
    done
  fi
  mount --bind /sys/fs/cgroup/.all/$kind/kac-{name} /sys/fs/cgroup/$kind
done
mkdir -p {folder}/{name}/spool
exec slurmd
"""
FULL_DISK = """\
truncate --size=20M {image} && mkfs.ext4 -q -F -m 0 {image} && mount -o loop {image} {folder}
chown {user} {folder}
head --bytes=100M /dev/zero > {folder}/filler 2> /dev/null || truncate --size=-{room} {folder}/filler
"""


class SlurmLab:
    """A running Slurm cluster, and its user on the login node."""

    def __init__(self) -> None:
        assert os.geteuid() == 0, "hosts of one machine need root"
        # not below /tmp, which is each host's own
        self.folder = Path(tempfile.mkdtemp(prefix="kac-slurm-", dir="/srv"))
        self.folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.home = _user()
        self.work = Path(tempfile.mkdtemp(prefix="kac-", dir=self.home))
        shutil.chown(self.work, USER)
        self.hosts = Hosts(self.folder, (LOGIN, CONTROLLER, *NODES), (*PRIVATE, "/tmp"))

    def __enter__(self) -> "SlurmLab":
        _munge()
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={ADDRESSES[name]} CPUs={CPUS} RealMemory=6000"
            for name in NODES
        )
        text = CONFIGURATION.format(
            controller=ADDRESSES[CONTROLLER],
            folder=self.folder,
            nodes=nodes,
            main=",".join(MAIN),
            apart=",".join(APART),
            brief=BRIEF,
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text(CONTROL_GROUP_CONFIGURATION)
        (self.folder / "state").mkdir()
        self.hosts.__enter__()
        try:
            self.root(CONTROLLER, "slurmctld")
            for name in NODES:
                self.start_node(name)
            self.wait_for(lambda: all(self.node_state(name) == "idle" for name in NODES))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.hosts.__exit__()
        for path in Path("/sys/fs/cgroup").glob("*/kac-w*"):
            _remove_control_group(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        script = OWN_CONTROL_GROUPS.format(
            kinds=" ".join(CONTROL_GROUPS), name=name, folder=self.folder
        )
        self.root(name, "bash", "-euc", script)

    def root(self, host: str, *command: str) -> str:
        """What root's command says on a host, once it has ended well."""
        return _said(self.hosts[host].command(*command, **self.environment))

    def user_command(self, *command: str, host: str = LOGIN) -> list[str]:
        """The user's command on the login node, in its folder, as a command of this machine."""
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        own = {**self.environment, "HOME": str(self.home), "USER": USER, "PATH": _path()}
        own["XDG_CACHE_HOME"] = "/tmp/cache"  # of each host its own, as the home is shared
        there = ["bash", "-c", f'cd {self.work} && exec "$@"', "user", *command]
        return self.hosts[host].command(*as_user, *there, **own)

    def user(self, *command: str, status: int = 0) -> str:
        """What it says, once it has ended with `status`."""
        return _said(self.user_command(*command), status)

    def python(self, command: str, *words: str, status: int = 0) -> str:
        """What a command of this project says to the user."""
        return self.user(sys.executable, "-m", f"orchestrator.{command}", *words, status=status)

    def submitted(self, *words: str) -> str:
        """Submit a sweep with the words of the command `slurm`; returns the number of the job."""
        said = self.python("slurm", *words, "--submit")
        return said.split("job       ")[1].partition(":")[0]

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.user("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    @contextmanager
    def hidden(self, host: str, folder: Path | str) -> Iterator[None]:
        """What lies in `folder` is not seen on a host meanwhile."""
        self.root(host, "mount", "-t", "tmpfs", "tmpfs", str(folder))
        try:
            yield
        finally:
            self.root(host, "umount", "--lazy", str(folder))

    @contextmanager
    def full(self, hosts: Sequence[str], folder: Path, room: str = "0") -> Iterator[None]:
        """`folder` is on a disk of its own of each host meanwhile, in which the user has this `room`,
        such as 500K, before it is full."""
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, USER)
        for host in hosts:
            script = FULL_DISK.format(
                image=self.folder / f"{host}.img", folder=folder, room=room, user=USER
            )
            self.root(host, "bash", "-euc", script)
        try:
            yield
        finally:
            for host in hosts:
                self.root(host, "umount", "--lazy", str(folder))

    @contextmanager
    def on_network(self, folder: Path, served: Path) -> Iterator[None]:
        """What is in `served` is meanwhile in `folder` too, on the login node and the nodes of MAIN, which
        take its file system for one of the network."""
        for each in (folder, served):
            each.mkdir()
            shutil.chown(each, USER)
        for host in (LOGIN, *MAIN):
            self.root(host, "bindfs", "-o", "subtype=sshfs", str(served), str(folder))
        try:
            yield
        finally:
            for host in (LOGIN, *MAIN):
                self.root(host, "umount", "--lazy", str(folder))

    def ui(self, storage: Path, port: int) -> str:
        """What `ui` says on the login node before MLflow's server starts, which is then ended."""
        words = [sys.executable, "-m", "orchestrator.ui", "--storage", str(storage)]
        process = subprocess.Popen(
            self.user_command(*words, "--port", str(port)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        said = ""
        try:
            for line in process.stdout:
                said += line
                if line.startswith(("open ", "error:")):
                    break
        finally:
            kill_all(process)
        return said

    def node_state(self, name: str) -> str:
        """What sinfo says of a node, such as idle."""
        return self.user("sinfo", "--noheader", f"--nodes={name}", "--format=%t").partition("\n")[0]

    def state(self, number: str) -> str:
        return self.job(number)["JobState"]

    def wait_for_end(self, number: str) -> str:
        """The state in which a job ends."""
        running = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING")
        self.wait_for(lambda: self.state(number) not in running)
        return self.state(number)

    def wait_for(self, happened: Callable[[], Any], every: float = 0.5) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.about()
            time.sleep(every)

    def about(self) -> str:
        """For a failure: the queue, the nodes, the logs."""
        queue = self.root(CONTROLLER, "squeue"), self.root(CONTROLLER, "sinfo", "--Node", "--long")
        logs = (*self.folder.glob("*.log"), *self.work.rglob("*.log"))
        return "\n".join([*queue, *(f"--- {p}\n{p.read_text()[-3000:]}" for p in logs)])

    def weights(self, storage: Path) -> dict[str, bytes]:
        """The networks of a store, by stage."""
        return {p.parent.name: p.read_bytes() for p in storage.glob("stages/*/model.safetensors")}

    def processes(self, nodes: Sequence[str] = MAIN) -> list[str]:
        """What still runs on `nodes`, beside Slurm's own daemons."""
        found = [p for name in nodes for p in self.hosts[name].processes()]
        return [" ".join(p.cmdline()) for p in found if p.name() not in ("slurmd", "slurmstepd")]


def fids(storage: Path) -> dict[str, float]:
    """The FID of each evaluation of a store."""
    found = sorted(storage.glob("stages/*/metrics.json"))
    return {path.parent.name: json.loads(path.read_text())["fid"] for path in found}


def _said(command: list[str], status: int = 0) -> str:
    said = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert said.returncode == status, f"{command[-3:]}: {said.stdout}{said.stderr}"
    return (said.stdout if status == 0 else said.stdout + said.stderr).strip()


def _path() -> str:
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def _user() -> Path:
    """The home of the user who is not root."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], check=True)
    return Path(pwd.getpwnam(USER).pw_dir)


def _munge() -> None:
    """The daemon by which Slurm knows who asks; one for all hosts, which share /run."""
    if subprocess.run(["pgrep", "--exact", "munged"], stdout=subprocess.DEVNULL).returncode == 0:
        return
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    as_munge = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
    subprocess.run([*as_munge, "/usr/sbin/munged"], check=True)


def _remove_control_group(path: Path) -> None:
    for folder in sorted(path.rglob("*"), reverse=True):
        if folder.is_dir():
            folder.rmdir()
    path.rmdir()
