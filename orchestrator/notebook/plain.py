"""Values as Python code has them, as a file has them."""

import os
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """`value` with lists for tuples, text for paths, and Python's numbers and lists for NumPy's."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy, and tensors
        return value.tolist()
    return value
