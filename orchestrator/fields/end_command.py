"""The command that a run hands to the shell at its end, with placeholders such as {name}."""

import re
import shlex
from collections.abc import Iterator, Mapping

from orchestrator.fields.faults import describe, masked, nearest

MEANINGS = {
    "name": "the experiment's name",
    "id": "the sweep's id",
    "status": "done, failed or interrupted",
    "report": "the path of the report",
    "verdict": "the path of the verdict as JSON",
}
# not ${NAME}, which is the shell's; {"text": ...} and { print } have other characters
PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}")


def checked_command(text: str) -> str:
    """`text`, unchanged. Raises ValueError for an unknown placeholder, one within quotes, a quote
    that is not closed, and a password in an address."""
    if not text.strip():
        raise ValueError(f"got {describe(text)}, expected a command")
    if masked(text) != text:
        why = "settings are stored with the results: use an environment variable, such as $WEBHOOK"
        raise ValueError(f"got a password in {describe(text)}, expected none: {why}")
    quotes = list(_open_quotes(text))
    for match in PLACEHOLDER.finditer(text):
        name, place = match[1], match[0]
        if name not in MEANINGS:
            known = ", ".join(f"{{{each}}}" for each in MEANINGS)
            close = nearest(name, MEANINGS)
            hint = f" (did you mean {{{close}}}?)" if close else ""
            raise ValueError(f"got the unknown placeholder {place}{hint}, expected any of {known}")
        if quote := quotes[match.start()]:
            remedy = (
                f"close the quotes before it, as in {quote}run {quote}{place}{quote} ended{quote}"
            )
            raise ValueError(
                f"got {place} within quotes, expected it outside of them, "
                f"since its value is quoted already: {remedy}"
            )
    if quotes[-1]:
        raise ValueError(
            f"got {describe(text)}, expected a second {quotes[-1]} that closes the first"
        )
    return text


def filled(text: str, values: Mapping[str, str]) -> str:
    """The command with each placeholder replaced by its value, quoted as one word of a shell."""
    return PLACEHOLDER.sub(lambda match: shlex.quote(values[match[1]]), text)


def _open_quotes(text: str) -> Iterator[str]:
    """For each position of `text`, and for its end, the quote that is open before it; empty where
    none is."""
    quote, escaped = "", False
    for character in text:
        yield quote
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote = character
    yield quote
