"""What the tests of a cluster ask of their hosts' processes."""

import subprocess

import psutil
from hosts import named, runs


def test_a_process_that_ends_while_it_is_looked_at_counts_as_ended():
    started = subprocess.Popen(["sleep", "60"])
    process = psutil.Process(started.pid)
    assert runs(process) and named(process) == "sleep 60"
    started.kill()
    started.wait()
    assert not runs(process) and named(process) == ""
