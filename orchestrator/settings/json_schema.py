"""The JSON Schema of an experiment file, made of the settings: editors complete and check keys by
it. It says less than the program checks: rules between settings are not in it."""

import json
from typing import Any

from pydantic import BaseModel

from orchestrator.fields.kind import FAMILIES, Family, Kind, meaning
from orchestrator.fields.schema import item_block
from orchestrator.settings import base_file
from orchestrator.settings.entries import FORMS, KINDS, LISTS
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import sweepable

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ELEMENT = r"^[a-z_]+\.[a-z_]+\.[0-9]+\.[a-z_0-9]+$"  # of a list of blocks: distill.stages.1.lr
Schema = dict[str, Any]


def schema() -> Schema:
    """The schema, with the kinds of all plugins that are imported."""
    whole = Experiment.model_json_schema()
    definitions: Schema = whole.pop("$defs")
    required = whole.pop("required")
    loose: Schema = {}  # blocks that need not name their kind: a base may
    for block, family in FAMILIES.items():
        name = whole["properties"][block]["$ref"].rpartition("/")[2]
        strict, part = _family(family, definitions)
        definitions[name] = {"oneOf": strict}
        loose[block] = {"anyOf": part}
    definitions["SpaceEntry"] = _space_entry()
    space = definitions["Sweep"]["properties"]["space"]
    entry = {"anyOf": [{"$ref": "#/$defs/SpaceEntry"}, {"type": "null"}]}
    whole["properties"] = {base_file.KEY: _base(), **whole["properties"]}
    space.pop("additionalProperties", None)
    space["properties"] = dict.fromkeys(sweepable(Experiment), entry)
    space["patternProperties"] = {ELEMENT: entry}
    space["additionalProperties"] = False
    definitions["Sweep"].pop("required", None)
    of_base = {name: value for name, value in whole["properties"].items() if name not in loose}
    of_base |= {
        name: {**value, **_about(whole["properties"][name])} for name, value in loose.items()
    }
    alone = {"properties": whole.pop("properties"), "required": required}
    return {
        "$schema": DIALECT,
        "title": "An experiment of kacflow",
        **{key: value for key, value in whole.items() if key not in ("title", "description")},
        "additionalProperties": True,  # each branch below refuses other keys
        "if": {"required": [base_file.KEY]},
        "then": {"properties": of_base, "additionalProperties": False},
        "else": {**alone, "additionalProperties": False},
        "$defs": definitions,
    }


def text() -> str:
    """The schema as JSON."""
    return json.dumps(schema(), indent=1, ensure_ascii=False)


def _about(field: Schema) -> Schema:
    return {"description": field["description"]} if "description" in field else {}


def _base() -> Schema:
    text = f"Experiment on which this file builds: {base_file.EXPECTED}."
    return {"type": "string", "minLength": 1, "description": text}


def _family(family: Family[Any], definitions: Schema) -> tuple[list[Schema], list[Schema]]:
    """The kinds of a block: as a file that stands alone has them, and as one with a base. Their
    schemas are added to `definitions`."""
    strict, loose = [], []
    for kind in family:
        name = f"{family.block}.{kind.name_of()}"
        model = _model(kind, definitions)
        required = [key for key in model.pop("required", []) if key != family.key]
        model["properties"][family.key] = {
            "const": kind.name_of(),
            "description": meaning(kind),
        }
        model["title"] = name
        model["description"] = meaning(kind)
        definitions[name] = model
        reference = {"$ref": f"#/$defs/{name}"}
        loose.append(reference)
        if kind.is_default:
            named: Schema = {"required": required}
        elif kind.marked_by is not None:
            named = {
                "required": required,
                "anyOf": [{"required": [family.key]}, {"required": [kind.marked_by]}],
            }
        else:
            named = {"required": [family.key, *required]}
        strict.append({"allOf": [reference, named]})
    return strict, loose


def _model(model: type[BaseModel], definitions: Schema) -> Schema:
    """The schema of a model; the definitions that it needs are added to `definitions`."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    for name, field in model.model_fields.items():
        if (item := item_block(field)) is not None:
            _add_stage(item, inner, definitions)
            schema["properties"][name]["items"] = {"$ref": f"#/$defs/{item.__name__}"}
    for name, definition in inner.items():
        definitions.setdefault(name, definition)
    return schema


def _add_stage(item: type[BaseModel], inner: Schema, definitions: Schema) -> None:
    """An element of a list: the keys of a kind and its own. `inner`: the definitions that stand
    for it and for its kinds, which are removed."""
    own = inner.pop(item.__name__)["properties"]
    base = own.pop("method")["$ref"].rpartition("/")[2]
    inner.pop(base, None)
    family = next(f for f in FAMILIES.values() if base in {c.__name__ for c in _bases(f)})
    options = []
    for kind in family:
        if getattr(kind, "jumps", False) or _has_list(kind):
            continue
        model = _model(kind, definitions)
        named = [] if kind.is_default else [family.key]
        name = {family.key: {"const": kind.name_of(), "description": meaning(kind)}}
        options.append(
            {
                "type": "object",
                "properties": {**own, **model["properties"], **name},
                "additionalProperties": False,
                "required": [*named, *(k for k in model.get("required", []) if k != family.key)],
            }
        )
    definitions[item.__name__] = {"oneOf": options}


def _bases(family: Family[Any]) -> set[type[Kind]]:
    return {base for kind in family for base in kind.__mro__ if issubclass(base, Kind)}


def _has_list(kind: type[Kind]) -> bool:
    return any(item_block(field) is not None for field in kind.model_fields.values())


def _space_entry() -> Schema:
    """The forms of an entry of `sweep.space`."""
    forms = []
    for kind in KINDS:
        values: Schema = {"type": "array", "minItems": 1}
        if kind not in LISTS:
            number = {"type": "integer" if kind == "int" else "number"}
            values = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
        forms.append(
            {
                "type": "object",
                "properties": {kind: values},
                "required": [kind],
                "additionalProperties": False,
            }
        )
    return {"oneOf": forms, "description": FORMS}
