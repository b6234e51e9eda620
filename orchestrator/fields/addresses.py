"""Paths and s3://BUCKET/PREFIX addresses in settings. A path may start with ~ for a home folder.
Environment variables in what a user writes are replaced when it is read; stored settings contain
their values."""

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
    """The bucket and the prefix of an s3:// address, None for a folder; raises ValueError for any
    other address."""
    if not SCHEME.match(text):
        return None
    match = ADDRESS.fullmatch(text)
    if match is None or ".." in text:
        raise ValueError(
            f"got {describe(text)}, expected a folder, or s3://BUCKET/PREFIX of letters, digits, _=+.-"
        )
    return match[1], match[2].strip("/")


def checked(text: str) -> str:
    """`text` if it is a folder or an s3:// address; raises ValueError otherwise."""
    if bucket_and_prefix(text) is None:
        expanded(text)
    return text


def expanded(text: str) -> str:
    """A path with a leading ~ or ~user replaced by the home folder; raises ValueError if there is
    no such home folder. ./~ is a folder of that name."""
    path = os.path.expanduser(text)
    if path.startswith("~"):  # expanduser returns what it cannot expand unchanged
        user = text.partition("/")[0]
        if user == "~":
            why = "this user has no home folder: set HOME"
        else:
            why = f"no user {user[1:]}: write the full path"
        raise ValueError(f"got {describe(text)}, but {why}; a folder of that name is ./{user}")
    return path


def expanded_uri(text: str) -> str:
    """The address of a tracking store with a leading ~ of its path replaced by the home folder;
    raises ValueError like `expanded`."""
    match = PATH_IN_URI.fullmatch(text)
    return text if match is None else match[1] + expanded(match[2])


def checked_path(text: str) -> str:
    """`text`, unchanged; raises ValueError if `expanded` does."""
    expanded(text)
    return text


def checked_uri(text: str) -> str:
    """`text`, unchanged; raises ValueError if `expanded_uri` does."""
    expanded_uri(text)
    return text


def meant(text: str) -> str:
    """The path or s3:// address that a user writes as `text`, with environment variables replaced
    by their values. Raises ValueError if a variable is not set, if the locale cannot encode the
    name, and for mistakes that would create a folder with a strange name."""
    place = _with_variables(nameable(text))
    if not os.path.lexists(os.path.expanduser(place)):  # an existing file may have any name
        _check_slips(place)
    return place


def as_path(text: str) -> str:
    """`meant` with ~ replaced by the home folder."""
    return expanded(meant(text))


def nameable(text: str) -> str:
    """`text`; raises ValueError if the locale cannot encode it as a file name."""
    if problem := no_name(text):
        raise ValueError(f"got {describe(text)}, {problem}")
    return text


def no_name(text: str) -> str:
    """Why `text` cannot be a file name in this process's locale, with the remedy; empty if it
    can."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        letters = describe(error.object[error.start : error.end])
        encoding = sys.getfilesystemencoding()
        return f"but this locale's encoding, {encoding}, has no {letters}: {UTF8}"
    return ""


def not_text(typed: str) -> str:
    """Why `typed` cannot be read as text in this process's locale, with the remedy; empty if it
    can."""
    try:
        typed.encode()
    except UnicodeEncodeError:  # Python decodes bytes unknown to the locale as lone surrogates
        encoding = sys.getfilesystemencoding()
        return f"this locale's encoding, {encoding}, does not have all typed characters: {UTF8}"
    return ""


def _with_variables(text: str) -> str:
    """`text` with $NAME and ${NAME} replaced by their values. A part of the path that exists under
    its literal name stays unchanged."""
    parts: list[str] = []
    for part in text.split("/"):
        exists = "$" in part and os.path.lexists(os.path.expanduser("/".join([*parts, part])))
        if not exists:
            part = VARIABLE.sub(lambda match: _value(match[1] or match[2], text), part)
        parts.append(part)
    return "/".join(parts)


def _value(name: str, text: str) -> str:
    if value := os.environ.get(name):
        return value
    state = "is empty" if name in os.environ else "is not set"
    raise ValueError(
        f"got {describe(text)}, but the environment variable {name} {state}: set it, or write its value"
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
            f"got {describe(text)}, a Windows path: write the path on this system, such as {here}"
        )
