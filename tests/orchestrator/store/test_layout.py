"""Each name of a file or folder in the store stands in one place of the code."""

import re

import pytest
from commands import REPOSITORY

from orchestrator.store import layout

# another thing of the same name: a network's folder for MLflow, and Ray's own temporary folder
ELSEWHERE = {
    "orchestrator/reports/png_figures.py": {layout.REAL},  # the figure that is made of it
    "orchestrator/store/network_folder.py": {layout.NETWORK, layout.CONFIG},
    "orchestrator/cluster/local_ray.py": {layout.RAY},
    "orchestrator/execution/stage_runner.py": {layout.RAY},
    "orchestrator/tracking/uri.py": {layout.MLFLOW},  # of the cache of a machine
}
NAMES = {value for name, value in vars(layout).items() if name.isupper() and "*" not in value}
FILES = [name for name in NAMES if "." in name]
FOLDERS = NAMES - {*FILES}


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "orchestrator").rglob("*.py")), ids=lambda path: path.name
)
def test_no_other_file_spells_a_name_of_the_store(path):
    name, text = str(path.relative_to(REPOSITORY)), path.read_text()
    spelt = {file for file in FILES if re.search(rf"""(?<=["'/]){re.escape(file)}(?=["'])""", text)}
    spelt |= {folder for folder in FOLDERS if re.search(rf"""/ ["']{folder}["']""", text)}
    if name != "orchestrator/store/layout.py":
        assert spelt <= ELSEWHERE.get(name, set())


def test_what_is_excepted_is_there():
    for name, names in ELSEWHERE.items():
        assert all(f'"{each}"' in (REPOSITORY / name).read_text() for each in names)
