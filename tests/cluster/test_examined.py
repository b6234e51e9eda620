"""What the doctor finds on three hosts that are well, and on the same with four things wrong: all
of them at once."""

import subprocess
from collections.abc import Iterator

import pytest
from hosts import ADDRESSES
from lab import LATER, Lab

UNSHARED = "/root/runs"  # each host has a /root of its own


def examine(lab: Lab, *settings: str, environment: str = "") -> subprocess.CompletedProcess[str]:
    """The doctor on the head, for the lab's experiment."""
    given = " ".join(f"--set {each}" for each in ("tracking.uri=http://127.0.0.1:5000", *settings))
    command = f"cd ~/kacflow && {environment} python -m orchestrator.doctor {lab.folder}/x.yaml --address auto {given}"
    return lab.hosts.ssh("head", f"bash -ic '{command}'")


def faults(said: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of what is wrong; above them may be an interactive shell's own."""
    lines = said.stderr.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("error"))
    return [line.removeprefix("error: ") for line in lines[start:] if line != "errors:"]


@pytest.fixture
def misnamed(lab: Lab) -> Iterator[None]:
    """A host whose own name means its loopback, as Debian's installer leaves it."""
    change = f"sed 's/^{ADDRESSES['w1']} w1/127.0.1.1 w1/' /etc/hosts > /root/hosts"
    assert lab.hosts.ssh("w1", f"{change} && mount --bind /root/hosts /etc/hosts").returncode == 0
    yield
    assert lab.hosts.ssh("w1", "umount /etc/hosts").returncode == 0


def test_hosts_that_are_well_are_and_the_one_that_has_not_joined_is_named(lab):
    said = examine(lab, f"storage={lab.storage('examined')}")
    for host in ("head", "w1", "w2"):
        assert ADDRESSES[host] in said.stdout
    (missing,) = faults(said)
    assert (
        f"provider.worker_ips: {ADDRESSES[LATER]} has not joined: no SSH answers there" in missing
    )
    assert not lab.storage("examined").exists()


def test_everything_that_is_wrong_comes_at_once_with_the_host_and_the_remedy(lab, misnamed):
    said = examine(
        lab,
        f"storage={UNSHARED}",
        environment="MLFLOW_TRACKING_PASSWORD=wrong MLFLOW_TRACKING_USERNAME=x",
    )
    assert said.returncode == 2
    found = faults(said)
    for host in ("w1", "w2"):
        of_host = f"storage: got {UNSHARED}, which node {host} ({ADDRESSES[host]}) does not share (FileNotFoundError"
        assert any(of_host in line for line in found), found
    loopback = f"the name w1 means 127.0.1.1 there, expected {ADDRESSES['w1']}"
    assert any(line.startswith(f"node w1 ({ADDRESSES['w1']}): {loopback}") for line in found), found
    assert any(
        "tracking.uri: got http://127.0.0.1:5000: the server refuses the login" in line
        for line in found
    ), found
