"""docs/CITATION.cff is a citation file of format 1.2.0, and says what the rest of the project says.

The keys are those that the format's schema requires and allows of what this file uses; the
validators on PyPI need older versions of packages that this project uses."""

import re
import tomllib
from typing import Any

import yaml
from commands import REPOSITORY

FILE = REPOSITORY / "docs" / "CITATION.cff"
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip
REFERENCE = {"authors", "title", "type"}
PERSON = {"given-names", "family-names", "name-particle", "name-suffix", "alias", "affiliation", "orcid",
          "email", "website"}  # fmt: skip
IDENTIFIERS = ("doi", "url", "swh", "other")


def citation() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_it_has_the_keys_that_the_format_requires_and_no_others():
    found = citation()
    assert REQUIRED <= found.keys() <= ALLOWED
    assert found["cff-version"] == "1.2.0" and found["type"] in ("software", "dataset")
    for entry in (found, *found["references"]):
        assert entry.keys() >= REFERENCE
        assert entry["title"] and entry["authors"]
        for author in entry["authors"]:
            assert author.keys() == {"name"} or author.keys() <= PERSON, author
        for identifier in entry.get("identifiers", ()):
            assert identifier["type"] in IDENTIFIERS and identifier["value"]


def test_its_version_and_licence_are_those_of_the_package():
    found = citation()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {name: str(found[name]) for name in ("version", "license", "keywords")} == {
        name: str(project[name]) for name in ("version", "license", "keywords")
    }


def test_it_cites_the_papers_of_the_flows():
    cited = {entry["url"].rpartition("/")[2]: entry for entry in citation()["references"]}
    named = set(
        re.findall(r"arXiv (\d{4}\.\d{5})", (REPOSITORY / "docs" / "method.md").read_text())
    )
    assert {"2509.21513", "2506.20641"} <= cited.keys() <= named
    for number, entry in cited.items():
        assert entry["identifiers"] == [{"type": "other", "value": f"arXiv:{number}"}]
        assert entry["year"] == 2000 + int(number[:2])
