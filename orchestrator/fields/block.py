"""The base of all blocks of the file: frozen, strict, without unknown keys."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """One block of settings."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # of the many kinds a file uses few
    )
