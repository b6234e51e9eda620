"""Stages of made-up content, for tests of what does not look into it; blocks of settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kaccore.metrics import features
from orchestrator.fields import plugins, schema
from orchestrator.fields.kind import FAMILIES, without_foreign
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.plan.stage import Stage


@dataclass(frozen=True)
class AnySpec:
    """A spec of this kind whose content is given."""

    kind: str
    content: dict[str, Any] = field(hash=False)


def any_stage(
    kind: str, content: dict[str, Any], parents: tuple[Stage, ...] = (), label: str = ""
) -> Stage:
    """A stage of this kind and content."""
    return Stage(AnySpec(kind, content), parents, label)  # type: ignore[arg-type]


def data_block(**settings: Any) -> DatasetKind:
    """The `data` block of a file with these settings."""
    return DatasetKind.family.validated(settings)


def own_keys(config: dict[str, Any]) -> dict[str, Any]:
    """`config`, in which the blocks of one base are filled for several kinds, without the keys that
    its kinds do not have."""
    own = {block: without_foreign(config[block], block)[0] for block in FAMILIES if block in config}
    return {**config, **own}


@contextmanager
def kinds_restored() -> Iterator[None]:
    """Afterwards the kinds are those before: what plugins have added is gone."""
    before_it = dict(plugins._LOADED)
    families = [*FAMILIES.values(), FeatureKind.family]
    kinds = [dict(family.kinds) for family in families]
    tables = [features.FEATURES, features.BUILDERS, plugins._LOADED]
    copies = [dict(table) for table in tables]
    try:
        yield
    finally:
        changed = before_it != plugins._LOADED
        for family, before in zip(families, kinds, strict=True):
            family.kinds = before
        for table, copy in zip(tables, copies, strict=True):
            table.clear()
            table.update(copy)
        if changed:
            schema.forget()
