"""The batch script: Ray on all nodes of an allocation, the sweep on the first, and again after each
time limit until all is done.

Not by `ray symmetric-run`: that refuses to start where another job of the node runs Ray, no matter whose it
is, and its `ray stop` at the end kills the Ray of every job of this user there."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.store import layout

SIGNAL_SECONDS = 120  # before the time limit: trainings write a checkpoint meanwhile
FIRST_PORT, PORTS = 20_000, 20_000  # of Ray, by the number of the job
CLOCK = re.compile(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")


@dataclass(frozen=True)
class Allocation:
    """What a job asks for: `nodes`, each with `cpus` and `gpus`, for `minutes` at a time.
    `partition`, `account`, `qos`: None: Slurm's default."""

    nodes: int
    cpus: int
    gpus: int
    minutes: int
    partition: str | None = None
    account: str | None = None
    qos: str | None = None

    def text(self) -> str:
        """In words, such as 2 nodes with 8 CPUs and 1 GPU each, for 4:00:00."""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        each = "" if self.nodes == 1 else " each"
        gpus = f" and {self.gpus} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else ""
        cpus = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        where = f" in partition {self.partition}" if self.partition else ""
        return f"{nodes} with {cpus}{gpus}{each}{where}, {clock(self.minutes)} at a time"


def minutes_of(text: str) -> int:
    """The minutes of a time as Slurm takes it: minutes, hours:minutes:seconds, minutes:seconds,
    days-hours, days-hours:minutes or days-hours:minutes:seconds. Raises ValueError for another text, or
    for no time."""
    found = CLOCK.match(text.strip())
    if found is None:
        raise ValueError("expected a time such as 4:00:00, 1-12:00:00 or 90 (minutes)")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    total = (int(days or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)
    if total < 1:
        raise ValueError("expected at least one minute")
    return total


def clock(minutes: int) -> str:
    """Minutes as Slurm writes them: 4:00:00, 1-12:00:00."""
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    text = f"{hours}:{minutes:02d}:00"
    return f"{days}-{hours:02d}:{minutes:02d}:00" if days else text


def first_port(job: int) -> int:
    """The first of the ports that the script of the job of this number gives to Ray."""
    return FIRST_PORT + 4 * job % PORTS


def render(
    name: str,
    file: str,
    folder: Path,
    storage: str,
    allocation: Allocation,
    sets: Sequence[str] = (),
    parts: Sequence[Sequence[str]] = (),
    sweep: str = "",
) -> str:
    """The script of the experiment `name` in `file`, which is run in `folder` with the settings
    `sets`. `storage`: its store, a folder that all nodes share or an s3:// address. `parts`: the
    `--only` of each task of a job array of the `sweep`, name/id; none: one job."""
    settings = [word for text in sets for word in ("--set", text)]
    command = shlex.join(["python", "-m", "orchestrator.sweep", file, *settings])
    output = f"{name}-%A_%a.log" if parts else f"{name}-%j.log"
    asked = [
        f"--job-name={name}",
        f"--nodes={allocation.nodes} --ntasks-per-node=1 --cpus-per-task={allocation.cpus}",
        *([f"--gpus-per-node={allocation.gpus}"] if allocation.gpus else []),
        f"--time={clock(allocation.minutes)} --signal=B:TERM@{SIGNAL_SECONDS}",
        f"--requeue --open-mode=append --output={output}",
        *([f"--partition={allocation.partition}"] if allocation.partition else []),
        *([f"--account={allocation.account}"] if allocation.account else []),
        *([f"--qos={allocation.qos}"] if allocation.qos else []),
        *([f"--array=0-{len(parts) - 1}"] if parts else []),
    ]
    values = {
        "ASKED": "\n".join(f"#SBATCH {line}" for line in asked),
        "FILE": file,
        "FOLDER": shlex.quote(str(folder)),
        "BIN": shlex.quote(str(Path(sys.executable).parent)),
        "STORAGE": _storage_check(storage),
        "FIRST_PORT": str(FIRST_PORT),
        "PORTS": str(PORTS),
        "PARTS": _parts(parts),
        "COMMAND": command,
        "ONLY": ' "${only[@]}"' if parts else "",
        "REPORT": _report(f"{storage}/{layout.SWEEPS}/{sweep}") if parts else "",
    }
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], SCRIPT)


def _storage_check(storage: str) -> str:
    if storage.startswith("s3://"):
        return ""
    return (
        f"storage={shlex.quote(storage)}\n"
        'mkdir -p "$storage" && srun test -w "$storage" || {\n'
        '  echo "error: $storage is no folder that every node can write: give another --set storage=FOLDER"\n'
        "  exit 2\n}\n"
    )


def _parts(parts: Sequence[Sequence[str]]) -> str:
    """Each task's part of the sweep."""
    if not parts:
        return ""
    cases = "".join(
        f"  {number}) only=({shlex.join([word for text in texts for word in ('--only', text)])}) ;;\n"
        for number, texts in enumerate(parts)
    )
    return f"case $SLURM_ARRAY_TASK_ID in\n{cases}esac\n"


def _report(folder: str) -> str:
    """Each task writes the report of what all tasks have done so far."""
    command = shlex.join(["python", "-m", "orchestrator.report", folder, "--publish"])
    return (
        "# a task knows its own part alone; that of the last one to end is the report of the whole sweep\n"
        f"{command}\n"
    )


SCRIPT = r"""#!/bin/bash
@ASKED@
# Runs @FILE@ on all nodes of the allocation. After the time limit, a pre-emption or a lost node the job is
# queued again, and resumes. Needed on every node: this environment and the storage; no network outside.
cd @FOLDER@ || exit 2
export PATH=@BIN@:$PATH
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# other users compute on these nodes too: without the token they cannot use this job's Ray
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') && export RAY_AUTH_TOKEN
@STORAGE@@PARTS@
# Ray on every node, in one step: it ends with the step, and leaves the Ray of other jobs alone
# the first node's address as the last one sees it: its own name may mean its loopback there
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
last="srun --overlap --nodes=1 --ntasks=1 --relative=$((SLURM_JOB_NUM_NODES - 1))"
head=$($last getent ahostsv4 "$first" | awk '{ print $1; exit }')
port=$((@FIRST_PORT@ + 4 * SLURM_JOB_ID % @PORTS@))
log=$SLURM_JOB_NAME-$SLURM_JOB_ID.ray.log
# its folder is on each node's own disk, and its name is short: paths of sockets have a limit
export address=$head:$port folder=/tmp/kac-$SLURM_JOB_ID
srun --overlap --kill-on-bad-exit --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
  start="ray start --block --num-cpus=$SLURM_CPUS_PER_TASK --min-worker-port=0 --max-worker-port=0"
  start="$start --dashboard-agent-listen-port=0 --disable-usage-stats"
  if [ "$SLURM_NODEID" = 0 ]; then
    start="$start --head --node-ip-address=${address%:*} --port=${address#*:} --include-dashboard=false"
    start="$start --ray-client-server-port=$((${address#*:} + 1)) --temp-dir=$folder"
  else
    start="$start --address=$address"
    for _ in $(seq 100); do (: > "/dev/tcp/${address/://}") 2> /dev/null && break; sleep 1; done
  fi
  # a busy node may take longer than the 30 seconds after which Ray gives up
  for _ in 1 2 3; do SECONDS=0; $start; status=$?; [ $SECONDS -lt 90 ] || break; done
  exit $status' > "$log" 2>&1 &
ray=$!
answers() { (: > "/dev/tcp/$head/$port") 2> /dev/null; }
for _ in $(seq 120); do kill -0 $ray 2> /dev/null && ! answers && sleep 1 || break; done
if ! answers || ! timeout 240 python - "$address" "$SLURM_JOB_NUM_NODES" << 'PYTHON'
import logging, sys, time
import ray
while not ray.is_initialized():
    try:
        ray.init(sys.argv[1], logging_level=logging.CRITICAL, log_to_driver=False)
    except ConnectionError:  # no node has joined yet
        time.sleep(1)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.5)
PYTHON
then
  echo "error: Ray did not start on all nodes; its messages are in $log"
  kill $ray
  exit 1
fi

# the sweep; Slurm announces the time limit, and the sweep then writes its checkpoints
@COMMAND@ --address "$address"@ONLY@ &
sweep=$!
limit=
trap 'limit=1; kill -TERM $sweep' TERM
wait $sweep
status=$?
# the signal has ended the wait, and not the sweep
while [ -n "$limit" ] && kill -0 $sweep 2> /dev/null; do wait $sweep; status=$?; done
kill $ray && wait $ray
srun --overlap rm -rf "$folder"
@REPORT@if [ -n "$limit" ] && [ $status = 130 ]; then
  echo "continues in the next allocation"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""
