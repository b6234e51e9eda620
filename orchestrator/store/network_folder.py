"""A trained network without a store: a folder of three files, with which `work.network_sampler`
samples.

model.safetensors   the averaged weights that are sampled, as the store has them
config.yaml         the trial's complete configuration
facts.json          the key of its stage, the fingerprint and the sizes of its data, and the plugins that it needs
"""

import shutil
from pathlib import Path

from kaccore.files import write_json
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override
from orchestrator.store import layout
from orchestrator.store.stage_result import Result

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
FACTS = "facts.json"


def write(
    folder: Path, trial_config: Experiment, stage: Stage, result: Result, sizes: dict[str, int]
) -> None:
    """Write the folder of `stage` from its `result`; `trial_config` has the settings of sampling,
    `sizes` the sizes of the data."""
    folder.mkdir(parents=True, exist_ok=True)
    file = layout.network(stage.average(trial_config.sampling.ema))
    shutil.copyfile(result.path(file), folder / WEIGHTS)
    config = override(trial_config, {"sweep": None}).to_yaml()
    (folder / CONFIG).write_text(config, encoding="utf-8")
    facts = {
        "stage": stage.key,
        "label": stage.label,
        "sha256": result.manifest["files"][file]["sha256"],
        "fingerprint": stage.data.fingerprint,
        "data": sizes,
        "plugins": [str(plugin) for plugin in trial_config.used_plugins()],
    }
    write_json(folder / FACTS, facts)
