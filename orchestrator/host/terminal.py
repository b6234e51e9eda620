"""Output that any terminal, pipe or log takes, whatever its encoding."""

import codecs
import sys

PLAIN = "orchestrator.plain"  # the name of the error handler
# one for one, so that tables keep their shape
SIMPLE = {"━": "#", "╌": "-", "…": ".", "–": "-", "—": "-", "×": "x", "→": ">", "±": "~"}


def make_plain() -> None:
    """From now on stdout and stderr write what their encoding does not have in plain characters: a
    stand-in that looks alike, or else \\xe4 and the like, so that a file's name stays recognisable.
    Rich draws its boxes by itself."""
    codecs.register_error(PLAIN, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # somebody may have put another object in its place
            stream.reconfigure(errors=PLAIN)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SIMPLE.get(each) or _escaped(each) for each in text), error.end


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not text in this locale
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode()
