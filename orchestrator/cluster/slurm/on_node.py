"""What one node reports about itself, in a job of Slurm: `python -m orchestrator.cluster.slurm.on_node`
with a request as JSON, from which the answer comes as the last line."""

import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.cluster.nodes.report import SHARED_SECONDS, Probe, examine
from orchestrator.cluster.slurm import script

PORTS_OF_A_JOB = 2  # of Ray: its own, and that of its clients


@dataclass(frozen=True)
class Request:
    """The `storage` with a probe called `id`; a file `token` in the home; the `folder` of the sweep;
    whether `gpus` were asked for."""

    storage: str
    id: str
    token: str
    folder: str
    gpus: bool


def main(argv: list[str] | None = None) -> int:
    """Print the answer to the request."""
    request = Request(**json.loads((sys.argv[1:] if argv is None else argv)[0]))
    print(json.dumps(answer(request)))
    return 0


def answer(request: Request) -> dict[str, object]:
    """The node's report, and what it sees of the home, the folder, its ports and its GPUs."""
    name = socket.gethostname()
    found: dict[str, object] = {
        "host": name,
        "home": _appears(Path(request.token)),
        "folder": os.path.isdir(request.folder),
        "ports": taken(script.first_port(int(os.environ.get("SLURM_JOB_ID", "0")))),
        "cuda": _cuda() if request.gpus else "",
    }
    report = examine(name, Probe(request.storage, request.id), [name], request.gpus)
    return {**found, "report": asdict(report)}


def taken(first: int) -> list[int]:
    """Which of the ports of a job that begin with `first` another process listens on."""
    found = []
    for port in range(first, first + PORTS_OF_A_JOB):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("", port))
            except OSError:
                found.append(port)
    return found


def _appears(file: Path) -> bool:
    until = time.monotonic() + SHARED_SECONDS
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _cuda() -> str:
    """Why torch cannot use the GPUs of this node; empty where it can."""
    import torch

    if torch.version.cuda is None:
        return "torch is built without CUDA"
    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
