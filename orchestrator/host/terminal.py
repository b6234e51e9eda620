"""Output for any terminal, pipe or log, whatever its encoding."""

import codecs
import sys

PLAIN = "orchestrator.plain"  # the name of the error handler
# one character each, so that tables stay aligned
SIMPLE = {"━": "#", "╌": "-", "…": ".", "–": "-", "—": "-", "×": "x", "→": ">", "±": "~"}


def make_plain() -> None:
    """Make stdout and stderr replace characters that their encoding lacks: by a similar one, or
    else by an escape such as \\xe4, so that a file's name stays recognisable. Rich replaces its box
    characters itself."""
    codecs.register_error(PLAIN, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a caller has replaced the stream
            stream.reconfigure(errors=PLAIN)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SIMPLE.get(character) or _escaped(character) for character in text), error.end


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that this locale cannot decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode()
