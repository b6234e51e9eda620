"""The figure of docs/architecture.md shows which room imports which in today's code."""

import json
import re

import pytest
import rooms_figure
from commands import REPOSITORY
from PIL import Image


def test_the_figure_was_drawn_of_the_imports_that_the_code_has():
    with Image.open(rooms_figure.IMAGES / f"{rooms_figure.NAME}.png") as kept:
        drawn = {(upper, lower) for upper, lower, _ in json.loads(kept.text[rooms_figure.KEPT])}
    assert drawn == set(rooms_figure.imports()), "make figures"


def test_what_others_imply_is_left_out():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]
    assert rooms_figure.drawn(dict.fromkeys(edges, 1)) == [("a", "b"), ("a", "d"), ("b", "c")]


@pytest.mark.parametrize(
    "room", sorted({room for row in rooms_figure.layers() for room in row} - {"commands"})
)
def test_every_room_says_what_it_is_for(room):
    assert len(rooms_figure.purpose(room)) > 20


def test_the_page_names_files_that_are_there():
    page = (REPOSITORY / "docs" / "architecture.md").read_text().split("## Rooms")[1]
    named = re.findall(r"`([\w/]+\.py|[\w/]+/)`", page)
    assert len(named) > 30
    assert [name for name in named if not (REPOSITORY / "orchestrator" / name).exists()] == []
