"""Checks the addresses of tracking stores: a server, an SQLite file, or another database."""

import re
from urllib.parse import urlsplit

from orchestrator.fields.addresses import expanded_uri, meant
from orchestrator.fields.faults import describe

SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
EXPECTED = "a tracking server such as http://127.0.0.1:5000, a file such as sqlite:///mlflow.db, or a postgresql://, "
EXPECTED += "mysql:// or mssql:// database"
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
OF_DATABASE = "use a password file, such as ~/.pgpass for postgresql, or a tracking server in front of the database"
SQLITE_FILE = re.compile(r"(sqlite(?:\+[a-z]+)?:///)(.+)")
SQLITE_SLIP = re.compile(r"sqlite(?:\+[a-z]+)?:/{0,2}(?=[^/])(.+)")
HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")
SERVER_SLIP = re.compile(r"(https?):/{0,3}(?=[^/])(.+)", re.IGNORECASE)


def meant_uri(text: str) -> str:
    """The address of the tracking store that a user writes as `text`, with environment variables in
    the path of a file replaced by their values. Raises ValueError, with the nearest valid address,
    if it is not valid, or if it contains a password, which would be stored with the settings."""
    scheme, _, rest = text.partition("://")
    kind = scheme.partition("+")[0]
    if match := SQLITE_FILE.fullmatch(text):
        if match[2] == ":memory:":
            raise ValueError(f"got {describe(text)}, which stores nothing: expected {EXPECTED}")
        return match[1] + meant(match[2])
    if not rest.strip("/") or not (kind in DATABASES or (scheme in SERVERS and _has_host(text))):
        near = _nearest(text)
        hint = f": did you mean {near}?" if near else ""
        raise ValueError(f"got {describe(text)}, expected {EXPECTED}{hint}")
    if _password(text):
        remedy = LOGIN if scheme in SERVERS else OF_DATABASE
        raise ValueError(
            f"got {describe(text)}, expected no password, which would be stored: {remedy}"
        )
    return text


def as_uri(text: str) -> str:
    """`meant_uri` with ~ replaced by the home folder."""
    return expanded_uri(meant_uri(text))


def sqlite_path(uri: str) -> str:
    """The path in the address of an SQLite file, unchanged; empty for other addresses."""
    match = SQLITE_FILE.fullmatch(uri)
    return "" if match is None else match[2]


def _has_host(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is not a number, or too large
        return False


def _password(text: str) -> bool:
    try:
        return urlsplit(text).password is not None
    except ValueError:
        return "@" in text


def _nearest(text: str) -> str:
    """The valid address that `text` most likely means; empty if there is none."""
    if match := SERVER_SLIP.fullmatch(text):
        near = f"{match[1].lower()}://{match[2]}"
        return near if near != text and _has_host(near) else ""
    if match := SQLITE_SLIP.fullmatch(text):
        return f"sqlite:///{match[1]}"
    if text.startswith("file:"):
        return f"sqlite:///{text.removeprefix('file:').removeprefix('//').rstrip('/')}/mlflow.db"
    if text.startswith("postgres://"):
        return text.replace("postgres", "postgresql", 1)
    if HOST_AND_PORT.fullmatch(text):
        return f"http://{text}"
    looks_like_file = ":" not in text and (
        "/" in text or text.endswith((".db", ".sqlite", ".sqlite3"))
    )
    return f"sqlite:///{text}" if looks_like_file else ""
