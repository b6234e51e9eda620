"""How a place of results is written down: a folder's path, or s3://BUCKET/PREFIX."""

import re

from orchestrator.faults import describe

S3 = "s3://"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9_=+.-]+)*)/?")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def bucket_and_prefix(text: str) -> tuple[str, str] | None:
    """What s3://BUCKET/PREFIX names, None for a folder; raises ValueError for another kind of address."""
    if not SCHEME.match(text):
        return None
    match = ADDRESS.fullmatch(text)
    if match is None or ".." in text:
        raise ValueError(f"got {describe(text)}, expected a folder, or s3://BUCKET/PREFIX of letters, digits, _=+.-")
    return match[1], match[2].strip("/")


def checked(text: str) -> str:
    """`text` where it is such an address, for settings; raises ValueError where it is not."""
    bucket_and_prefix(text)
    return text
