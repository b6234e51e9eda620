"""Colours as people write them, without torch: settings are checked by it."""

import difflib

EXPECTED = 'a colour: a name such as white, or hex such as "#20a0ff" in quotes'
OPAQUE = 255


def rgb(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of whatever Pillow's ImageColor reads. Raises ValueError for
    what is no colour, or is one that is itself transparent."""
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError:
        near = difflib.get_close_matches(text.lower(), ImageColor.colormap, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f"got {text!r}, expected {EXPECTED}{hint}") from None
    if alpha not in ([], [OPAQUE]) or max(red, green, blue) > 255:
        raise ValueError(f"got {text!r}, expected {EXPECTED}, opaque and of 0 to 255 a channel")
    return red, green, blue
