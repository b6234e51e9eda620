"""The experiments that come with the package, by name: `nfe_sweep`, `paper/kacflow_cifar10`."""

from pathlib import Path

from orchestrator.fields.faults import describe, nearest

# a link to the repository's folder; in an installed package a folder of its own
FOLDER = Path(__file__).parents[1] / "experiments"
SCHEMA = "schema.json"  # the JSON Schema of all of them
MODELINE = "# yaml-language-server: $schema="  # what tells an editor which schema a file has


def names() -> list[str]:
    """The names of all experiments, those of the paper last."""
    paths = [path.relative_to(FOLDER) for path in FOLDER.glob("**/*.yaml")]
    return [str(path.with_suffix("")) for path in sorted(paths, key=lambda p: (len(p.parts), p))]


def file_of(name: str) -> Path | None:
    """The file of an experiment; None if none has this name."""
    return FOLDER / f"{name}.yaml" if name in names() else None


def choices(name: str) -> str:
    """The names of all experiments, for the message about a `name` that is none of them, and the
    nearest."""
    close = nearest(name, names())
    hint = f"; did you mean {describe(close)}?" if close else ""
    return f"{', '.join(names())}{hint}"


def about(path: Path) -> str:
    """What an experiment is for: the first sentence of its first comment."""
    lines = path.read_text().splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith(MODELINE):
            comment.append(line.removeprefix("#").strip())
    text = " ".join(comment)
    ends = [text.find(mark) + 1 for mark in (". ", "? ") if mark in text]
    return text[: min(ends)] if ends else text


def with_schema(text: str, schema: str) -> str:
    """The text of an experiment whose first line names `schema`, a path relative to its file."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(MODELINE)]
    return f"{MODELINE}{schema}\n{''.join(lines)}"
