"""How a place is written down: a path, which may begin with ~ for a home folder, or
s3://BUCKET/PREFIX. What users write may also have environment variables, which are replaced as soon
as it is read: what is kept has their values."""

import os
import re
import sys

from orchestrator.fields.faults import describe

S3 = "s3://"
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9_=+.-]+)*)/?")
PATH_IN_URI = re.compile(r"(sqlite:///|file://|file:|)(~.*)")
VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([^{}/]*)\})")
LIKE_S3 = re.compile(r"s3(:|//)/*", re.IGNORECASE)
OF_WINDOWS = re.compile(r"([A-Za-z]):[\\/]")
UTF8 = "export LC_ALL=C.UTF-8, or PYTHONUTF8=1"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def bucket_and_prefix(text: str) -> tuple[str, str] | None:
    """What s3://BUCKET/PREFIX names, None for a folder; raises ValueError for another kind of
    address."""
    if not SCHEME.match(text):
        return None
    match = ADDRESS.fullmatch(text)
    if match is None or ".." in text:
        raise ValueError(
            f"got {describe(text)}, expected a folder, or s3://BUCKET/PREFIX of letters, digits, _=+.-"
        )
    return match[1], match[2].strip("/")


def checked(text: str) -> str:
    """`text` where it is such an address, for settings; raises ValueError where it is not."""
    if bucket_and_prefix(text) is None:
        expanded(text)
    return text


def expanded(text: str) -> str:
    """A path with the home folder in the place of ~ or ~user at its beginning; raises ValueError
    where that has none. A folder that is called so is ./~."""
    found = os.path.expanduser(text)
    if found.startswith(
        "~"
    ):  # what cannot be expanded comes back as it was: it would be a folder of that name
        user = text.partition("/")[0]
        why = (
            "this user has no home folder: set HOME"
            if user == "~"
            else f"no user {user[1:]}: write the path out"
        )
        raise ValueError(f"got {describe(text)}, but {why}; a folder of that name is ./{user}")
    return found


def expanded_uri(text: str) -> str:
    """A tracking store's address with the home folder in the place of ~ where it is, or has, a path
    that begins so; raises ValueError like `expanded`."""
    match = PATH_IN_URI.fullmatch(text)
    return text if match is None else match[1] + expanded(match[2])


def checked_path(text: str) -> str:
    """`text` where `expanded` can make a path of it, for settings, which stay as they are
    written."""
    expanded(text)
    return text


def checked_uri(text: str) -> str:
    """The same of `expanded_uri`."""
    expanded_uri(text)
    return text


def meant(text: str) -> str:
    """What a user means who writes `text` for a path or s3:// address: with the values of the
    environment variables in it; raises ValueError where one is not set, where the locale has no
    such name, and for slips that would make a folder of a strange name."""
    found = _with_variables(nameable(text))
    if not os.path.lexists(os.path.expanduser(found)):  # what is there under this name is meant
        _check_slips(found)
    return found


def as_path(text: str) -> str:
    """`meant`, with the home folder in the place of ~."""
    return expanded(meant(text))


def nameable(text: str) -> str:
    """`text`; raises ValueError where the locale has no such name."""
    if problem := no_name(text):
        raise ValueError(f"got {describe(text)}, {problem}")
    return text


def no_name(text: str) -> str:
    """Why no file can be called `text` in this process's locale, and what to do; empty where one
    can."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        letters = describe(error.object[error.start : error.end])
        return (
            f"but this locale's encoding, {sys.getfilesystemencoding()}, has no {letters}: {UTF8}"
        )
    return ""


def not_text(typed: str) -> str:
    """Why what was `typed` cannot be read as text in this process's locale, and what to do; empty
    where it can."""
    try:
        typed.encode()
    except (
        UnicodeEncodeError
    ):  # Python keeps bytes that the locale does not know as halves of characters
        return f"this locale's encoding, {sys.getfilesystemencoding()}, does not have all that was typed: {UTF8}"
    return ""


def _with_variables(text: str) -> str:
    """`text` with the values of $NAME and ${NAME}. A part of a path that is there under this very
    name is one."""
    parts: list[str] = []
    for part in text.split("/"):
        there = "$" in part and os.path.lexists(os.path.expanduser("/".join([*parts, part])))
        parts.append(
            part if there else VARIABLE.sub(lambda match: _value(match[1] or match[2], text), part)
        )
    return "/".join(parts)


def _value(name: str, text: str) -> str:
    if value := os.environ.get(name):
        return value
    state = "is empty" if name in os.environ else "is not set"
    raise ValueError(
        f"got {describe(text)}, but the environment variable {name} {state}: set it, or write it out"
    )


def _check_slips(text: str) -> None:
    if text != text.strip():
        raise ValueError(
            f"got {describe(text)}, expected no blanks at its ends: write {describe(text.strip())}"
        )
    if (match := LIKE_S3.match(text)) and not text.startswith(S3):
        near = f"{S3}{text[match.end() :]}"
        raise ValueError(
            f"got {describe(text)}, expected a folder, or s3://BUCKET/PREFIX: did you mean {near}?"
        )
    if OF_WINDOWS.match(text):
        here = f"/mnt/{text[0].lower()}/{text[3:]}".replace("\\", "/")
        raise ValueError(
            f"got {describe(text)}, a path of Windows: write it as this system has it, such as {here}"
        )
