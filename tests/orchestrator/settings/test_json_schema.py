"""The JSON Schema of an experiment file, by which editors complete and check it."""

import copy
import json
from typing import Any

import jsonschema
import pytest
from commands import REPOSITORY

from orchestrator.fields.kind import FAMILIES
from orchestrator.fields.schema import leaves
from orchestrator.settings import json_schema, shipped, yaml_reader
from orchestrator.settings.experiment import Experiment

SCHEMA = json_schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SMALL: dict[str, Any] = {"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}}


def test_the_shipped_schema_is_that_of_the_settings():
    """Made by `python -m orchestrator.schema > experiments/schema.json`."""
    assert json.loads((REPOSITORY / "experiments" / shipped.SCHEMA).read_text()) == SCHEMA
    VALIDATOR.check_schema(SCHEMA)


@pytest.mark.parametrize("name", shipped.names())
def test_it_accepts_every_shipped_experiment_which_names_it_in_its_first_line(name):
    path = REPOSITORY / "experiments" / f"{name}.yaml"
    VALIDATOR.validate(yaml_reader.read(path))
    first = path.read_text().splitlines()[0]
    assert first.startswith(shipped.MODELINE)
    schema = path.parent / first.removeprefix(shipped.MODELINE)
    assert schema.resolve() == REPOSITORY / "experiments" / shipped.SCHEMA


def test_every_setting_is_in_it_with_its_meaning():
    for key, field in leaves(Experiment).items():
        block, _, name = key.partition(".")
        if block in FAMILIES:
            having = [SCHEMA["$defs"][f"{block}.{kind}"] for kind in FAMILIES[block].names()]
            found = [each["properties"][name] for each in having if name in each["properties"]]
        elif name:
            top = SCHEMA["else"]["properties"][block]
            reference = top.get("$ref") or top["anyOf"][0]["$ref"]
            found = [SCHEMA["$defs"][reference.rpartition("/")[2]]["properties"][name]]
        else:
            found = [SCHEMA["else"]["properties"][key]]
        assert found, key
        assert all(each["description"] for each in found), key
        assert (
            field.description is None or field.description in str(found) or name in ("kind", "name")
        )


@pytest.mark.parametrize(
    "block",
    [
        {"path": {"kind": "kac", "damping": 2.0, "clock": "quadratic"}},
        {"model": {"channels": 8}},
        {"distill": {"intervals": [4, 2, 1]}},
        {"distill": {"stages": [{"kind": "pairs", "name": "one", "intervals": [1], "pairs": 64}], "lr": [1e-3]}},
        {"sweep": None},
        {"sweep": {"space": {"path.damping": {"loguniform": [1, 100.0]}}}},
        {"sweep": {"space": {"distill.stages.0.steps": {"grid": [1, 2]}, "distill.stages": {"choice": [[]]}}}},
        {"teacher": {"logit_normal": [0.0, 1.0], "clip": None}},
        {"plugins": ["mine.py"], "storage": "$HOME/runs", "seed": 3},
    ],
)  # fmt: skip
def test_it_accepts_what_the_program_accepts(block):
    VALIDATOR.validate({**SMALL, **block})


@pytest.mark.parametrize(
    "block",
    [
        {"nane": "y"},
        {"path": {"kind": "kac", "dampin": 2.0}},
        {"path": {"damping": 2.0}},
        {"path": {"kind": "flow_matching", "clock": "quadratic"}},
        {"path": {"kind": "kac", "damping": "nine"}},
        {"path": {"kind": "kac", "damping": -1}},
        {"model": {"kind": "unet", "depth": 3}},
        {"distill": {"stages": [{"kind": "pairs", "weight": 2}]}},
        {"distill": {"stages": [{"kind": "consistency"}]}},
        {"teacher": {"steps": 0}},
        {"sweep": {"space": {"path.dampin": {"grid": [1]}}}},
        {"sweep": {"space": {"path.damping": {"loguniform": [1]}}}},
        {"sweep": {"space": {"path.damping": [1, 2]}}},
        {"data": {}},
    ],
)  # fmt: skip
def test_it_refuses_what_an_editor_should_mark(block):
    assert not VALIDATOR.is_valid({**SMALL, **block})


def test_a_file_with_a_base_need_not_repeat_what_is_required():
    VALIDATOR.validate({"base": "nfe_sweep", "path": {"damping": 9.0}, "teacher": {"steps": 5}})
    VALIDATOR.validate({"base": "nfe_sweep", "sweep": {"space": {"seed": None}}})
    assert not VALIDATOR.is_valid({"base": "nfe_sweep", "path": {"dampin": 9.0}})
    assert not VALIDATOR.is_valid({"base": "nfe_sweep", "nane": "x"})
    assert not VALIDATOR.is_valid({"base": 3})
    without = copy.deepcopy(SMALL)
    del without["path"]
    assert not VALIDATOR.is_valid(without)
