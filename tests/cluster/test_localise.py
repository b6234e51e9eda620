"""The shipped cluster.yaml for machines that are there: what is tested on hosts, and
docs/cluster_local.yaml."""

import yaml
from commands import REPOSITORY
from localise import PATIENCE, localise

SHIPPED = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
REPLACED = {"provider", "auth", "available_node_types", "head_node_type", "max_workers"}
EXAMPLE = {"head": "192.168.1.10", "workers": ["192.168.1.11", "192.168.1.12"]}


def test_the_documented_file_for_own_machines_is_the_shipped_one_transformed():
    documented = yaml.safe_load((REPOSITORY / "docs/cluster_local.yaml").read_text())
    assert localise(SHIPPED, user="you", key="~/.ssh/kacflow", **EXAMPLE) == documented


def test_nothing_but_provider_authentication_node_types_and_paths_is_replaced():
    local = localise(
        SHIPPED,
        user="you",
        key="a-key",
        paths={"~/kacflow-env": "/an/environment"},
        cpus=1,
        **EXAMPLE,
    )
    assert local.keys() - {"min_workers"} == SHIPPED.keys() - {
        "available_node_types",
        "head_node_type",
    }
    for key in SHIPPED.keys() - REPLACED:
        back = yaml.safe_dump(local[key], width=1000).replace("/an/environment", "~/kacflow-env")
        assert back.replace(" --num-cpus=1", "").replace(PATIENCE, "") == yaml.safe_dump(
            SHIPPED[key], width=1000
        )
