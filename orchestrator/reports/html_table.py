"""Tables of text as HTML."""

import html
from collections.abc import Iterable


def text_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of texts, escaped, in the style of the verdict; a wide one scrolls."""
    return cell_table(heads, ((f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows))


def cell_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The same, of cells that are HTML."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        '<div class="scroll"><table class="verdict">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
