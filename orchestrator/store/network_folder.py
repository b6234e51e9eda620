"""A trained network that needs no store: a folder of three files. `work.network_sampler` draws from
it.

model.safetensors   the averaged weights, as the store has them
config.yaml         the trial's complete configuration
facts.json          the key of its stage, the fingerprint and the sizes of its data
"""

import shutil
from pathlib import Path

from kaccore.files import write_json
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override
from orchestrator.store.stage_result import Result

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
FACTS = "facts.json"


def write(
    folder: Path, trial_config: Experiment, stage: Stage, result: Result, sizes: dict[str, int]
) -> None:
    """Write the folder of `stage`, whose `result` the store has, as `trial_config` samples it."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(result.path(WEIGHTS), folder / WEIGHTS)
    (folder / CONFIG).write_text(
        override(trial_config, {"sweep": None}).to_yaml(), encoding="utf-8"
    )
    told = {
        "stage": stage.key,
        "label": stage.label,
        "sha256": result.manifest["files"][WEIGHTS]["sha256"],
    }
    write_json(
        folder / FACTS,
        {**told, "fingerprint": stage.data.fingerprint, "data": sizes},
    )
