"""A disk that is full, and one that turns read-only, in the middle of a sweep; and then the same
command again."""

import os
import subprocess
import sys

import pytest
from commands import PATIENCE, own_environment
from sweeps import EXPERIMENT, left_over, logged, results

FULL = """\
mkdir -p runs && mount -t tmpfs -o size=700k tmpfs runs
{command}; echo "ended with $?"
mount -o remount,size=200m runs
{command}; echo "ended with $?"
cp -r runs kept
"""
# what lies over the folder is read-only from its beginning: a plain remount is refused while a file
# is being written
READ_ONLY = """\
{command} & driver=$!
until [ -n "$(find runs -name 'step-*.json' 2>/dev/null)" ] || ! kill -0 $driver; do sleep 0.2; done
mount --bind runs runs && mount -o remount,bind,ro runs
wait $driver; echo "ended with $?"
umount runs
{command}; echo "ended with $?"
cp -r runs kept
"""


@pytest.mark.parametrize(
    ("script", "cause"),
    [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")],
    ids=["full", "ro"],
)
def test_a_disk_that_refuses_ends_a_run_with_one_clear_line_and_loses_nothing(
    undisturbed, tmp_path, script, cause
):
    """Over a minute: a run up to the fault, and one to its end."""
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    script = script.format(command=f"{sys.executable} -m orchestrator.sweep x.yaml")
    rights = (
        [] if os.geteuid() == 0 else ["--map-root-user"]
    )  # a mount of this process's own, gone with it
    said = subprocess.run(
        ["unshare", "--mount", *rights, "bash", "-c", script], cwd=tmp_path, env=own_environment(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "Traceback" not in said.stdout + said.stderr
    first, rest = said.stdout.split("ended with ", 1)
    assert rest.startswith("1"), first
    assert cause in first
    assert rest.rstrip().endswith("ended with 0"), said.stdout + said.stderr
    assert results(tmp_path / "kept") == results(undisturbed.storage)
    assert logged(tmp_path / "kept") == logged(undisturbed.storage)
    assert left_over(tmp_path) == []
