"""Where a store lies, from what users write: a folder that all machines see, or a prefix in an S3
bucket."""

import os
from typing import TypeAlias

from orchestrator.fields.addresses import bucket_and_prefix, expanded
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place

Where: TypeAlias = str | os.PathLike[str] | Place  # what can be said in the place of one


def place_of(where: Where) -> Place:
    """The place that a text (a folder's path, which may begin with ~, or s3://BUCKET/PREFIX) or a
    path means; raises ValueError for others."""
    if not isinstance(where, str):
        return Folder(where) if isinstance(where, os.PathLike) else where
    found = bucket_and_prefix(where)
    if found is None:
        return Folder(expanded(where))
    from orchestrator.store.s3_place import S3Place

    return S3Place(*found)
