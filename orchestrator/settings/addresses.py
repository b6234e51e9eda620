"""How a place is written down: a path, which may begin with ~ for a home folder, or s3://BUCKET/PREFIX."""

import os
import re

from orchestrator.settings.faults import describe

S3 = "s3://"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9_=+.-]+)*)/?")
PATH_IN_URI = re.compile(r"(sqlite:///|file://|file:|)(~.*)")
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
    if bucket_and_prefix(text) is None:
        expanded(text)
    return text


def expanded(text: str) -> str:
    """A path with the home folder in the place of ~ or ~user at its beginning; raises ValueError where that has none.
    A folder that is called so is ./~."""
    found = os.path.expanduser(text)
    if found.startswith("~"):  # what cannot be expanded comes back as it was: it would be a folder of that name
        user = text.partition("/")[0]
        why = "this user has no home folder: set HOME" if user == "~" else f"no user {user[1:]}: write the path out"
        raise ValueError(f"got {describe(text)}, but {why}; a folder of that name is ./{user}")
    return found


def expanded_uri(text: str) -> str:
    """A tracking store's address with the home folder in the place of ~ where it is, or has, a path that begins so;
    raises ValueError like `expanded`."""
    match = PATH_IN_URI.fullmatch(text)
    return text if match is None else match[1] + expanded(match[2])


def checked_path(text: str) -> str:
    """`text` where `expanded` can make a path of it, for settings, which stay as they are written."""
    expanded(text)
    return text


def checked_uri(text: str) -> str:
    """The same of `expanded_uri`."""
    expanded_uri(text)
    return text
