"""Who is let in: to the hosts, to Ray and to the tracking server; tried from inside and from
outside. And what a person is told who waits for a host."""

import json
import signal
import subprocess

import pytest
from commands import PATIENCE
from hosts import ADDRESSES, Host
from lab import ENVIRONMENT, LATER, Lab, process_of

# connects to each of the ports given, to all at once, and prints those that answer
KNOCK = """\
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=3).close()
        return True
    except OSError:
        return False
ports = json.loads(sys.argv[2])
with ThreadPoolExecutor(len(ports)) as pool:
    print(json.dumps([port for port, yes in zip(ports, pool.map(answers, ports)) if yes]))
"""
JOIN = (
    "import ray; ray.init('{address}:6379', logging_level='ERROR'); print(ray.cluster_resources())"
)


def listening(host: Host) -> list[int]:
    """The TCP ports on which somebody listens on the host, at whatever address."""
    said = subprocess.run(
        host.command("ss", "-tlnH"), capture_output=True, text=True, check=True
    ).stdout
    return sorted({int(line.split()[3].rpartition(":")[2]) for line in said.splitlines()})


def knock(asking: Host, host: Host) -> list[int]:
    python = str(ENVIRONMENT / "bin/python")
    ports = json.dumps(listening(host))
    said = subprocess.run(
        asking.command(python, "-c", KNOCK, host.address, ports),
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(said.stdout))


@pytest.mark.parametrize("name", ["head", "w1"])
def test_nothing_but_ssh_answers_on_a_hosts_outer_address_from_a_machine_outside(lab, name):
    assert len(listening(lab.hosts[name])) > 5
    assert knock(lab.hosts["desk"], lab.hosts[name]) == [22]


def test_dashboard_and_tracking_server_answer_on_the_heads_loopback_alone(lab):
    open_to_hosts = knock(lab.hosts["w1"], lab.hosts["head"])
    assert 6379 in open_to_hosts
    assert not {8265, 5000, 5432} & set(open_to_hosts)
    assert {8265, 5000} <= set(listening(lab.hosts["head"]))


WRONG = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}


@pytest.fixture(scope="module")
def refused(lab: Lab) -> dict[str, tuple[int, str, str]]:
    """Status, output and errors of drivers on one of the cluster's own hosts, which the firewall
    lets through, with the token and without, and of a sweep without; all at once, since Ray takes
    half a minute to give up."""
    address, python = lab.hosts["head"].address, str(ENVIRONMENT / "bin/python")
    join = [python, "-c", JOIN.format(address=address)]
    sweep = [
        python,
        "-m",
        "orchestrator.sweep",
        str(lab.folder / "x.yaml"),
        "--address",
        f"{address}:6379",
    ]
    who = {
        "right": (join, {"RAY_AUTH_MODE": "token"}),
        "none": (join, {"RAY_AUTH_MODE": "disabled"}),
        "wrong": (join, WRONG),
        "sweep": (sweep, WRONG),
    }
    there = {
        name: subprocess.Popen(
            lab.hosts["w1"].command(*command, **environment),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, (command, environment) in who.items()
    }  # fmt: skip
    said = {name: process.communicate(timeout=PATIENCE) for name, process in there.items()}
    return {name: (process.returncode, *said[name]) for name, process in there.items()}


def test_a_client_without_the_token_or_with_another_is_refused(refused):
    assert "'CPU': 3.0" in refused["right"][1]
    for who in ("none", "wrong"):
        status, output, _ = refused[who]
        assert status != 0
        assert "'CPU'" not in output


def test_a_sweep_without_the_token_ends_with_one_line_that_says_so(refused):
    status, _, errors = refused["sweep"]
    assert status == 2, errors
    *_, line = errors.strip().splitlines()  # above it are those of Ray's own client
    assert line.startswith("error: --address")
    assert "~/.ray/auth_token" in line and "RAY_AUTH_MODE" in line


def test_the_jobs_api_wants_the_token(lab):
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8265/api/jobs/"]
    assert (
        subprocess.run(lab.hosts["head"].command(*ask), capture_output=True, text=True).stdout
        == "401"
    )


@pytest.mark.parametrize("login", [[], ["--user", "admin:password1234"]], ids=["none", "wrong"])
def test_mlflow_refuses_who_has_no_login(lab, login):
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *login]
    for path in ("experiments/search?max_results=1", "runs/get?run_id=x", "users/list"):
        said = lab.desk(*ask, f"http://127.0.0.1:5000/api/2.0/mlflow/{path}")
        assert said == "401"


def test_mlflow_lets_in_who_has_it_through_the_tunnel(lab):
    assert "experiments" in lab.mlflow("experiments/search?max_results=1")


def test_token_login_and_keys_are_readable_by_their_owner_alone(lab):
    files = "~/.ray/auth_token ~/.mlflow/credentials ~/ray_bootstrap_key.pem ~/ray_bootstrap_config.yaml"
    modes = lab.hosts.ssh("head", f"stat -c %a {files}").stdout.split()
    assert modes == ["600"] * 4
    assert lab.hosts.ssh("w1", "stat -c %a ~/.ray/auth_token").stdout.split() == ["600"]


def test_a_sweep_that_needs_a_host_which_does_not_join_names_it(lab):
    command = lab.hosts.by_ssh(
        "head", f"bash -ic 'exec bash -c \"{lab.sweep_command('waits', workers=4)}\"'"
    )
    driver = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)  # fmt: skip
    assert driver.stdout is not None
    waiting = next(line for line in driver.stdout if "waiting for nodes to join" in line)
    assert "4 workers of 1 CPUs each need 4, there are 3" in waiting
    assert f"{ADDRESSES[LATER]}: " in waiting and "waiting-for-ssh" in waiting
    process_of(lab.hosts["head"], "-m orchestrator.sweep", "name=waits").send_signal(signal.SIGINT)
    driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130
