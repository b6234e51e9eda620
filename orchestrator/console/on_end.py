"""`tracking.on_end`: the command that is run once when a run ends, however it ends."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from orchestrator.fields.end_command import filled
from orchestrator.store import layout
from orchestrator.sweeps.records import Records

SECONDS = 60.0
READ = 4096  # bytes of the end of its output, whose last line is shown
DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"


class Outcome:
    """How a run has ended, as `{status}` says it; failed until something else is known."""

    status = FAILED


@contextmanager
def told_at_the_end(records: Records, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Run the command of `tracking.on_end`, if there is one, at the end of the context: with the
    status of the outcome, or interrupted after a KeyboardInterrupt. `say` gets a line if it fails."""
    outcome = Outcome()
    try:
        yield outcome
    except KeyboardInterrupt:
        outcome.status = INTERRUPTED
        raise
    except BaseException:
        outcome.status = FAILED
        raise
    finally:
        command = records.plan.experiment.tracking.on_end
        if command is not None and (problem := run(records, command, outcome.status)):
            say(f"tracking.on_end: {problem}; the results are not affected")


def run(records: Records, command: str, status: str, seconds: float = SECONDS) -> str:
    """Run `command` in a shell with its placeholders filled; returns why it failed as a message,
    empty where it did not. It gets this process's environment and working folder, and is killed,
    with what it has started, after `seconds`."""
    folder = records.folder.absolute()
    values = {
        "name": records.plan.experiment.name,
        "id": records.plan.id,
        "status": status,
        "report": str(folder / layout.REPORT),
        "verdict": str(folder / layout.VERDICT),
    }
    try:
        # a file: a pipe would stay open as long as anything that the command leaves behind
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                filled(command, values),
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            returned = _wait(process, seconds)
            output.seek(max(0, output.seek(0, os.SEEK_END) - READ))
            lines = output.read().decode(errors="replace").split("\n")
    except OSError as e:
        return f"cannot be run: {e}"
    if returned == 0:
        return ""
    what = (
        f"ended with status {returned}" if returned is not None else f"killed after {seconds:g} s"
    )
    said = [line.strip() for line in lines if line.strip()]
    return f"{what}: {said[-1]}" if said else what


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """The exit status of `process`; None if it was killed after `seconds`."""
    try:
        return process.wait(seconds)
    except BaseException as e:  # an interrupt too: nothing that was started stays behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            return None
        raise
