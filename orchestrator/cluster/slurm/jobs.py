"""The jobs that were submitted for the sweeps of a store, and what Slurm says of them now."""

import json
from collections.abc import Iterator

from orchestrator.cluster.slurm import scheduler
from orchestrator.store import layout
from orchestrator.store.place import Place


def record(root: Place, number: str, sweep: str) -> None:
    """Note in the store at `root` that job `number` runs `sweep`, name/id."""
    folder = root / layout.JOBS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.json").put_json({"job": number, "sweep": sweep})


def lines(root: Place, sweep: str | None = None) -> Iterator[str]:
    """A line for each job of the store that Slurm still knows: its state, the nodes, or why it waits.
    `sweep`: of this one alone, as name or name/id. None where this machine has no Slurm."""
    files = (root / layout.JOBS).find("*.json") if scheduler.available() else []
    if not files:
        return
    try:
        states = scheduler.states()
    except scheduler.SlurmError as error:
        yield f"Slurm does not answer: {error}"
        return
    for file in sorted(files, key=lambda file: file.name):
        try:
            noted = json.loads(file.read_text())
            number, of = str(noted["job"]), str(noted["sweep"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if number in states and (sweep is None or sweep in (of, of.partition("/")[0])):
            yield f"Slurm job {number}, {of}: {states[number]}"
