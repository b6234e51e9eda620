"""Whom a Ray cluster that is started here lets in."""

import json
import os
import subprocess
import sys

import psutil
import pytest
from commands import PATIENCE, own_environment

ASKED = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
SETTINGS = f"""
import json, os
from orchestrator.cluster import connection
connection.prepare_environment(*{{}})
print(json.dumps([os.environ.get(name) for name in {ASKED}]))
"""
HOLD = """
from orchestrator.cluster import connection
connection.prepare_environment()
connection.connect(None)
import ray
print(ray.get(ray.remote(lambda: "own").remote()), flush=True)
input()
connection.disconnect()
"""
JOIN = """
import ray
ray.init(address="127.0.0.1:{}", log_to_driver=False)
print(ray.get(ray.remote(lambda: "got in").remote()))
"""


def environment(**own: str) -> dict[str, str]:
    return {name: value for name, value in own_environment().items() if name not in ASKED} | own


def settings(*address: str, before: str = "", **own: str) -> list[str | None]:
    """Mode and token after `prepare_environment`, in a process of its own."""
    code = [sys.executable, "-c", before + SETTINGS.format(list(address))]
    return json.loads(
        subprocess.run(
            code, env=environment(**own), capture_output=True, text=True, check=True
        ).stdout
    )


def test_each_run_without_a_cluster_has_a_token_of_its_own():
    (mode, first), (_, second) = settings(), settings("local")
    assert mode == "token"
    assert len(first) == len(second) == 64 and first != second


@pytest.mark.parametrize("address, own, expected", [
    ([], {"RAY_AUTH_MODE": "disabled"}, ["disabled", None]),
    ([], {"RAY_AUTH_TOKEN": "abc"}, ["token", "abc"]),
    ([], {"RAY_ADDRESS": "127.0.0.1:1"}, [None, None]),
    (["127.0.0.1:1"], {}, ["disabled", None]),
    (["127.0.0.1:1"], {"RAY_AUTH_MODE": "token"}, ["token", None]),
])  # fmt: skip
def test_what_the_user_has_set_and_a_cluster_that_is_there_are_left_alone(address, own, expected):
    assert settings(*address, **own) == expected


def test_where_ray_was_imported_before_it_goes_by_what_it_has_read():
    assert settings(before="import ray\n") == ["disabled", None]


@pytest.mark.system
def test_nobody_without_the_token_gets_into_a_cluster_that_is_started_here():
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert held.stdout is not None and held.stdout.readline() == "own\n"
        (gcs,) = (
            each for each in psutil.Process(held.pid).children() if each.name() == "gcs_server"
        )
        (port,) = {
            c.laddr.port for c in gcs.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        }
        joining = [
            subprocess.Popen(
                [sys.executable, "-c", JOIN.format(port)], env=environment(**own), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for own in (
                {"RAY_AUTH_MODE": "disabled"},
                {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex()},
            )
        ]  # fmt: skip
        for each in joining:
            said, errors = each.communicate(timeout=PATIENCE)
            assert each.returncode != 0 and "got in" not in said
            assert "InvalidAuthToken" in errors
    finally:
        held.communicate("\n", timeout=PATIENCE)
    assert held.returncode == 0
