"""What importing and using the Python functions leaves as it was in the user's process."""

import subprocess
import sys

import fabricated

PROGRAM = """
import logging, signal, sys, warnings
import matplotlib
matplotlib.use("svg")  # as a notebook chooses its own
before = (matplotlib.get_backend(), list(warnings.filters), signal.getsignal(signal.SIGTERM),
          logging.getLogger().level, sys.excepthook)
import kacflow as kf
run = kf.open(sys.argv[1])
run.verdict, run.results, run.losses
run.best(steps=1).sample(4)._repr_png_()
after = (matplotlib.get_backend(), list(warnings.filters), signal.getsignal(signal.SIGTERM),
         logging.getLogger().level, sys.excepthook)
assert after[0] == "svg" and after[2:] == before[2:], after
assert "ray" not in sys.modules
"""


def test_reading_and_sampling_change_nothing_that_is_the_users(tmp_path):
    records = fabricated.sweep(tmp_path / "runs")
    records.save()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(records.folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
