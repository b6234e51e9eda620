"""What README.md and docs/*.md tell a reader to type: commands, programs and files, each with its
line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commands import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHELL = (
    "",
    "sh",
    "bash",
    "shell",
    "console",
)  # languages of fenced blocks; output goes into ```text
MODULES = ("sweep", "train", "distill", "evaluate", "sample", "export", "report", "stages", "status", "reference",
           "playground", "data", "ui")  # fmt: skip
PROGRAMS = ("python", "python3", "make", "mlflow", "pip", "git", "curl", "source", ".", "apt-get", "ray", "bash", "sh",
            "docker", "apptainer", "kubectl", "helm", "kind", "aws", "ssh", "sudo", "torchrun", "jupyter")  # fmt: skip
OPENED = re.compile(r"(\s*)```\s*(\w*)")
ITEM = re.compile(r"\s*(?:\d+\.|[-*|])(?:\s|$)")  # where a list's item or a table's row begins
SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Part:
    """Something to type: a shell "command", a "python" program or a "yaml" file, and the line on
    which it begins."""

    kind: str
    text: str
    line: int


def parts(page: Path) -> Iterator[Part]:
    """All of a page, in the order in which it is read."""
    lines, at = page.read_text().splitlines(), 0
    while at < len(lines):
        end = at + 1
        if opened := OPENED.match(lines[at]):
            while lines[end].strip() != "```":
                end += 1
            yield from _fenced(opened[2], lines[at + 1 : end], at + 2)
            end += 1
        else:
            while (
                end < len(lines)
                and lines[end].strip()
                and not (ITEM.match(lines[end]) or OPENED.match(lines[end]))
            ):
                end += 1
            yield from _prose(lines[at:end], at + 1)
        at = end


def _fenced(language: str, lines: list[str], first: int) -> Iterator[Part]:
    if language in ("python", "yaml"):
        yield Part(language, "\n".join(lines) + "\n", first)
    elif language in SHELL:
        yield from _commands(lines, first)


def _commands(lines: list[str], first: int) -> Iterator[Part]:
    """A command a line, or several lines that end in a backslash."""
    begun = ""
    for number, line in enumerate(lines, first):
        begun = f"{begun} {line.strip()}".strip()
        if begun.endswith("\\"):
            begun = begun[:-1].strip()
        elif begun:
            if not begun.startswith("#"):
                yield Part("command", begun.removeprefix("$ "), number)
            begun = ""


def _prose(lines: list[str], first: int) -> Iterator[Part]:
    """The commands in a paragraph's `code`, and each with the options that its sentence names
    later, as `--seed 3`."""
    last, end = "", 0
    if all(line.startswith("    ") for line in lines):
        yield from (part for part in _commands(lines, first) if is_command(part.text))
        return
    text = "\n".join(lines)
    for span in SPAN.finditer(text):
        words = " ".join(span[1].split())
        line = first + text.count("\n", 0, span.start())
        if re.search(r"\.\s", text[end : span.start()]):
            last = ""
        if is_command(words):
            last = f"python -m orchestrator.{words}" if words.split()[0] in MODULES else words
            yield Part("command", last, line)
        elif words.startswith("--") and "orchestrator." in last:
            yield Part("command", f"{last} {words}", line)
        end = span.end()


def is_command(text: str) -> bool:
    """Whether `text` is something to type, and not a name: `make test`, and `sweep FILE` for its
    module."""
    words = [word for word in text.split() if not re.match(r"[A-Z_]+=", word)]
    if len(words) < 2:
        return False
    return words[0].rpartition("/")[2] in PROGRAMS or (
        words[0] in MODULES and words[1] not in MODULES
    )
