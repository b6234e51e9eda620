"""What the launcher asks AWS for when it is given cluster.yaml: asked of a stand-in for AWS on the
loopback.

The real `ray up` runs until the head's machine is there and it wants to log in to it: this is where
moto ends, whose machines are none. From there on its work is the local provider's too, and tried on
hosts. A worker is then asked for as Ray's autoscaler on the head asks for it, with the
configuration that `ray up` has resolved. Of the image moto sees the name, and never looks it up;
and it allows everybody everything: that the policies in docs/aws suffice only AWS can say."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from commands import PATIENCE, REPOSITORY, TINY, command, free_port, kill_all
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.server import ThreadedMotoServer

SHIPPED = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
REGION = SHIPPED["provider"]["region"]
IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
# a machine of moto's has an address that is somebody else's: nothing must be sent there
SSH = '#!/bin/sh\necho "$@" >> "$HOME/ssh.log"\nexit 255\n'
# what AWS says to who has no quota for spot machines
REFUSED = "MaxSpotInstanceCountExceeded: Max spot instance count exceeded"
# what Ray's NodeLauncher does on the head, without its thread
WORKER = """\
import copy, json, sys
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import NODE_KIND_WORKER
config = json.load(open(sys.argv[1]))["config"]
provider = _get_node_provider(config["provider"], config["cluster_name"])
tags = {"ray-node-type": NODE_KIND_WORKER, "ray-user-node-type": "gpu", "ray-launch-config": "any"}
node_config = copy.deepcopy(config["available_node_types"]["gpu"]["node_config"])
provider.create_node(node_config, tags, 1)
"""


@dataclass(frozen=True)
class Asked:
    """What moto holds after a `ray up`: the machine of the head, one of a worker, and the resolved
    configuration."""

    head: dict[str, Any]
    worker: dict[str, Any]
    config: dict[str, Any]
    ec2: Any
    home: Path
    said: str


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a launching machine whose AWS is moto."""
    home = tmp_path_factory.mktemp("home")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    (home / "bin").mkdir()
    (home / "bin/ssh").write_text(SSH)
    (home / "bin/ssh").chmod(0o755)
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("a" * 64)
    path = f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    keys = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }
    places = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "PATH": path,
    }
    try:
        yield {**os.environ, **keys, **places}
    finally:
        server.stop()


def client(name: str, environment: dict[str, str]) -> Any:
    return boto3.client(
        name, REGION, endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


def make_profiles(environment: dict[str, str]) -> None:
    """As docs/aws.md has one do with AWS's own command."""
    iam, policies = client("iam", environment), REPOSITORY / "docs/aws"
    for name, files in (("kacflow-head", ("head", "worker")), ("kacflow-worker", ("worker",))):
        iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=(policies / "trust.json").read_text()
        )
        for file in files:
            policy = (policies / f"{file}.json").read_text().replace("BUCKET", "a-bucket")
            iam.put_role_policy(RoleName=name, PolicyName=file, PolicyDocument=policy)
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def machines(ec2: Any) -> list[dict[str, Any]]:
    return [machine for r in ec2.describe_instances()["Reservations"] for machine in r["Instances"]]


def tags(machine: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine["Tags"]}


@pytest.fixture
def head(aws: dict[str, str], asked: Asked) -> Iterator[str]:
    """The address of a Ray head with its autoscaler, as `ray up` starts it on the head of
    cluster.yaml."""
    asked.ec2.stop_instances(
        InstanceIds=[asked.worker["InstanceId"]]
    )  # or it would be the one that is waited for
    bootstrap = asked.home / "ray_bootstrap_config.yaml"
    said = asked.home / "head.log"
    port = free_port()
    bootstrap.write_text(json.dumps(asked.config))
    by_ray_up = {"RAY_CLOUD_INSTANCE_ID": asked.head["InstanceId"], "RAY_NODE_TYPE_NAME": "head"}
    environment = {**aws, "RAY_AUTH_MODE": "token", "RAY_enable_autoscaler_v2": "1", **by_ray_up}
    # a folder with a short name: the path of a socket in it may have 107 characters
    with (
        said.open("w") as log,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        start = ["ray", "start", "--head", "--block", "--num-cpus=0", f"--port={port}", "--include-dashboard=false",
                 f"--temp-dir={folder}", f"--autoscaling-config={bootstrap}"]  # fmt: skip
        ray = subprocess.Popen(
            start, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while "will now block" not in said.read_text():
                assert ray.poll() is None, said.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            kill_all(ray)  # asked to end, it would wait for half a minute
            asked.ec2.start_instances(InstanceIds=[asked.worker["InstanceId"]])


@pytest.fixture(scope="module")
def asked(aws: dict[str, str]) -> Iterator[Asked]:
    make_profiles(aws)
    home, ec2 = Path(aws["HOME"]), client("ec2", aws)
    with (home / "up.log").open("w") as log:
        up = subprocess.Popen(
            ["ray", "up", "--yes", "cluster.yaml"], cwd=REPOSITORY, env=aws, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE
            while not (home / "ssh.log").exists():
                assert up.poll() is None and time.monotonic() < until, (home / "up.log").read_text()
                time.sleep(0.2)
        finally:
            up.kill()
            up.wait()
    (resolved,) = home.glob("ray-config-*")
    subprocess.run(
        [sys.executable, "-c", WORKER, str(resolved)], env=aws, check=True, capture_output=True
    )
    by_kind = {tags(machine)["ray-node-type"]: machine for machine in machines(ec2)}
    config = json.loads(resolved.read_text())["config"]
    yield Asked(
        by_kind["head"], by_kind["worker"], config, ec2, home, (home / "up.log").read_text()
    )


def test_cluster_yaml_keeps_to_rays_own_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    for file in ("cluster.yaml", "docs/cluster_local.yaml"):
        validate_config(prepare_config(yaml.safe_load((REPOSITORY / file).read_text())))


def test_the_head_is_a_machine_without_a_gpu_and_a_worker_a_spot_machine_with_one(asked):
    assert (asked.head["InstanceType"], asked.worker["InstanceType"]) == ("m6i.xlarge", "g5.xlarge")
    assert (asked.head.get("InstanceLifecycle"), asked.worker.get("InstanceLifecycle")) == (
        None,
        "spot",
    )
    resources = {
        name: kind["resources"] for name, kind in asked.config["available_node_types"].items()
    }
    assert resources["head"]["CPU"] == 0
    assert (
        resources["gpu"]["CPU"],
        resources["gpu"]["GPU"],
        resources["gpu"]["accelerator_type:A10G"],
    ) == (4, 1, 1)
    limits = {
        n: (kind["min_workers"], kind["max_workers"])
        for n, kind in asked.config["available_node_types"].items()
    }
    assert limits == {"head": (0, 0), "gpu": (0, 8)}


def test_both_ask_for_the_newest_image_of_one_name(asked):
    assert {asked.head["ImageId"], asked.worker["ImageId"]} == {IMAGE}


def test_each_has_one_encrypted_disk_of_the_size_that_the_file_gives_a_reason_for(asked):
    for machine in (asked.head, asked.worker):
        (disk,) = machine["BlockDeviceMappings"]
        assert (disk["DeviceName"], disk["Ebs"]["DeleteOnTermination"]) == ("/dev/sda1", True)
        (volume,) = asked.ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (200, "gp3", True)
        assert {"Key": "project", "Value": "kacflow"} in volume["Tags"]


def test_nothing_is_open_to_the_world_but_ssh(asked):
    (group,) = {
        g["GroupId"] for machine in (asked.head, asked.worker) for g in machine["SecurityGroups"]
    }
    (made,) = asked.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert made["GroupName"] == "kacflow"
    to_the_world = [
        rule for rule in made["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]
    ]
    assert [(r["IpProtocol"], r["FromPort"], r["ToPort"]) for r in to_the_world] == [
        ("tcp", 22, 22)
    ]
    assert [(r["CidrIp"]) for r in to_the_world[0]["IpRanges"]] == ["0.0.0.0/0"]
    (within,) = [rule for rule in made["IpPermissions"] if rule not in to_the_world]
    assert [pair["GroupId"] for pair in within["UserIdGroupPairs"]] == [group]


def test_each_says_whose_it_is_and_has_the_role_that_is_meant_for_it(asked):
    expected = {"ray-cluster-name": "kacflow", "project": "kacflow"}
    for machine, kind, profile in (
        (asked.head, "head", "kacflow-head"),
        (asked.worker, "gpu", "kacflow-worker"),
    ):
        assert (expected | {"ray-user-node-type": kind}).items() <= tags(machine).items()
        assert machine["IamInstanceProfile"]["Arn"].endswith(f"instance-profile/{profile}")
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        assert machine["KeyName"] == f"ray-autoscaler_{REGION}"


def test_the_machines_stand_in_the_zone_that_the_file_names(asked):
    assert {m["Placement"]["AvailabilityZone"] for m in (asked.head, asked.worker)} == {
        f"{REGION}a"
    }


def test_the_launcher_logs_in_as_the_images_user_with_the_key_that_it_made_and_that_only_its_owner_reads(
    asked,
):
    key = asked.home / f".ssh/ray-autoscaler_{REGION}.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    first = (asked.home / "ssh.log").read_text().splitlines()[0]
    assert f"-i {key}" in first
    assert f"ubuntu@{asked.head['PublicIpAddress']}" in first


def test_a_workers_role_may_use_the_bucket_and_a_heads_start_and_stop_machines_of_the_cluster_alone(
    aws, asked
):
    iam = client("iam", aws)
    allowed = {
        role: [
            statement
            for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
            for statement in iam.get_role_policy(RoleName=role, PolicyName=policy)[
                "PolicyDocument"
            ]["Statement"]
        ]
        for role in ("kacflow-head", "kacflow-worker")
    }
    of_worker = [action for s in allowed["kacflow-worker"] for action in s["Action"]]
    assert {action.partition(":")[0] for action in of_worker} == {"s3"}
    assert {s["Resource"] for s in allowed["kacflow-worker"]} == {
        "arn:aws:s3:::a-bucket/*",
        "arn:aws:s3:::a-bucket",
    }
    (stops,) = [s for s in allowed["kacflow-head"] if "ec2:TerminateInstances" in s["Action"]]
    assert stops["Condition"] == {
        "StringEquals": {"ec2:ResourceTag/ray-cluster-name": SHIPPED["cluster_name"]}
    }
    assert all(s["Effect"] == "Allow" and s["Action"] != "*" for ss in allowed.values() for s in ss)


def test_no_secret_is_in_the_file_or_in_what_the_launcher_says_and_keeps(aws, asked):
    secrets = (
        aws["AWS_SECRET_ACCESS_KEY"],
        "a" * 64,
        (asked.home / f".ssh/ray-autoscaler_{REGION}.pem").read_text(),
    )
    for text in (json.dumps(asked.config), asked.said, (REPOSITORY / "cluster.yaml").read_text()):
        assert not [secret for secret in secrets if secret in text]


def test_who_waits_for_a_machine_that_aws_refuses_is_told_the_reason(
    asked, aws, head, monkeypatch, tmp_path
):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise EC2ClientError(*REFUSED.split(": "))

    monkeypatch.setattr(EC2Backend, "run_instances", refuse)
    (tmp_path / "x.yaml").write_text(TINY)
    on_head = {"cwd": tmp_path, "env": {**aws, "RAY_AUTH_MODE": "token"}, "text": True}
    settings = ["x.yaml", "--set", "cluster.gpus_per_worker=1", "--address", head]
    pipe = subprocess.PIPE
    sweep = subprocess.Popen(
        command("sweep", *settings), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, **on_head,
        # a background job's is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert sweep.stdout is not None
        lines = []
        while not lines or REFUSED not in lines[-1]:
            lines.append(next(sweep.stdout))
        examined = subprocess.run(command("doctor", *settings), capture_output=True, **on_head)
    finally:
        sweep.send_signal(signal.SIGINT)
        sweep.communicate(timeout=PATIENCE)
    said = " ".join(
        "".join(lines).split()
    )  # what is one line is broken at the width of the terminal
    assert (
        "waiting for nodes to join: " in said
        and "1 workers of 1 GPUs each need 1, there are 0" in said
    )
    assert "gpu: LaunchFailed (latest_attempt" in said
    assert sweep.returncode == 130
    assert examined.returncode == 2 and REFUSED in examined.stdout + examined.stderr


def test_ray_down_leaves_no_machine_running_and_keeps_the_head(asked, aws):
    """moto gives a spot machine no request for one, by which Ray knows it: Ray stops here what it
    would end on AWS."""
    down = subprocess.run(
        ["ray", "down", "--yes", "cluster.yaml"],
        cwd=REPOSITORY,
        env=aws,
        capture_output=True,
        text=True,
    )
    assert down.returncode == 0, down.stdout + down.stderr
    states = {
        tags(machine)["ray-node-type"]: machine["State"]["Name"] for machine in machines(asked.ec2)
    }
    assert states == {"head": "stopped", "worker": "stopped"}
