"""A machine whose clock is set forward and back while a sweep runs: nothing hangs on what time it
is."""

import struct
import subprocess
from pathlib import Path

from commands import wait_for
from sweeps import assert_equal, finish, start

DAY = 86_400


def test_a_clock_that_jumps_a_day_forward_and_two_back_changes_nothing(undisturbed, tmp_path):
    """Over a minute where it comes first: a sweep that is disturbed, and the one it is compared
    with."""
    shim, clock, cwd = tmp_path / "shifted_clock.so", tmp_path / "clock", tmp_path / "here"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", shim, Path(__file__).with_name("shifted_clock.c")],
        check=True,
    )
    cwd.mkdir()

    def shift(seconds: int) -> None:
        with clock.open(
            "r+b" if clock.exists() else "wb"
        ) as f:  # in place: the processes have it mapped
            f.write(struct.pack("l", seconds))

    shift(0)
    process = start(cwd, LD_PRELOAD=str(shim), CLOCK_SHIFT=str(clock))
    wait_for("work/*/checkpoints/step-00000050.json", cwd / "runs", process)
    shift(DAY)
    wait_for("work/*/checkpoints/step-00001*.json", cwd / "runs", process)
    shift(-DAY)
    finish(process)
    assert_equal(cwd / "runs", undisturbed)
