"""What the documentation shows is what the project takes."""

import re
from pathlib import Path

import pytest
from commands import REPOSITORY
from documented import PAGES

from orchestrator.fields.kind import FAMILIES
from orchestrator.fields.schema import leaves
from orchestrator.plan.expand import expand
from orchestrator.reference import markdown
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import parse
from orchestrator.settings.yaml_reader import load_text

EXPERIMENTS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
    if text.startswith("name:")
]


@pytest.mark.parametrize("text", EXPERIMENTS)
def test_an_experiment_in_the_documentation_is_one(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(REPOSITORY / "docs" / "extending")  # where its plugins are
    experiment = parse(load_text(text, "documentation"))
    assert expand(experiment).trials or experiment.sweep.search == "optuna"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path):
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = set(re.findall(r"experiments/[\w/]+\.yaml", page.read_text()))
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_reference_of_the_file_is_what_the_program_says():
    assert (REPOSITORY / "docs" / "reference.md").read_text() == markdown()


def test_every_setting_is_in_the_reference():
    text = markdown()
    names = {key: key.rpartition(".")[2] for key in leaves(Experiment)}
    kinds = {f"{family.block}.{family.key}" for family in FAMILIES.values()}
    rows = {key: f"`{name}`, " if key in kinds else f"| `{name}` |" for key, name in names.items()}
    assert [key for key, row in rows.items() if row not in text] == []


def test_the_plugin_in_the_readme_is_a_part_of_the_whole_one():
    (shown,) = re.findall(r"```py\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    whole = (REPOSITORY / "docs" / "extending" / "trigonometric.py").read_text().splitlines()
    assert [line for line in shown.splitlines() if line not in whole] == []
