"""The checks of the documentation's site and of its prose find what they look for."""

import logging

import hooks
import prose
import pytest


def test_an_unwanted_word_is_named_with_its_line_also_across_lines():
    found = list(prose.unwanted("One line.\nA lease is taken for\ndead, `anew` or anew.", "x.md"))
    assert [line.partition(":")[2].partition(": write")[0] for line in found] == [
        "2: 'taken for dead'",
        "3: 'anew'",
    ]


def test_messages_are_read_and_other_texts_are_not():
    tree = prose.ast.parse(
        'x = "anew"\nf(help="b")\nraise ValueError(f"c {x} d")\nparser.error("e")\n"docstring"'
    )
    assert sorted(text for _, text in prose.messages(tree)) == [" d", "b", "c "]


def test_docstrings_are_read_with_their_lines():
    tree = prose.ast.parse(
        '"""A module."""\nclass A:\n    """A class."""\n\n    def f(self): ...\n'
    )
    assert list(prose.docstrings(tree)) == [(1, "A module."), (3, "A class.")]


def test_long_words_and_sentences_are_harder_to_read():
    plain, words = prose.readability("The cat sat. The dog ran.\n\n| a table |\n\n```\ncode\n```\n")
    hard, _ = prose.readability("Heterogeneous organisations necessitate interoperability.")
    assert words == 3 and plain > 100 > 0 > hard


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("```klingon\nx\n```\n", "a code block in klingon"),
        ("A text:\n- an item\n", "needs a blank line"),
        ("A text:\n\n- an item\n\n```\nmake test\n```\n", ""),
    ],
)
def test_what_the_site_would_show_otherwise_is_a_warning(
    page: str, words: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "mkdocs.plugins.kacflow"):
        hooks.check(page, "x.md")
    assert words in caplog.text if words else caplog.text == ""


def test_a_page_that_loads_something_from_a_network_is_found():
    assert hooks.LOADED.search('<script async src="https://a.example/x.js"></script>')
    assert hooks.LOADED.search("<link rel=stylesheet href=//a.example/x.css>")
    assert not hooks.LOADED.search('<a href="https://arxiv.org/abs/2509.21513">the paper</a>')


def test_files_that_pages_link_to_are_on_the_site():
    assert hooks.uri(hooks.ROOT / "README.md") == "index.md"
    assert hooks.uri(hooks.ROOT / "docs/sweeps.md") == "sweeps.md"
    assert hooks.ROOT / "cluster.yaml" in hooks.linked_sources()
