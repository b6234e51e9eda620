"""From what users write to the place of a store: a folder that all machines share, or a prefix in
an S3 bucket."""

import os
from typing import TypeAlias

from orchestrator.fields.addresses import bucket_and_prefix, expanded
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place

Where: TypeAlias = str | os.PathLike[str] | Place  # what `place_of` accepts


def place_of(where: Where) -> Place:
    """The place of a text (the path of a folder, which may begin with ~, or s3://BUCKET/PREFIX) or
    of a path; raises ValueError for a malformed address."""
    if isinstance(where, os.PathLike):
        return Folder(where)
    if not isinstance(where, str):
        return where
    address = bucket_and_prefix(where)
    if address is None:
        return Folder(expanded(where))
    from orchestrator.store.s3_place import S3Place

    return S3Place(*address)
