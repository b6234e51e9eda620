"""Registers the best network of a sweep as a version of the MLflow model with the experiment's name.

A version is identified by its tags (`sweep_id`, `stage_key`, `trial_key`): publishing again
registers nothing twice."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.plan.plan import Trial
from orchestrator.store import layout, network_folder
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.ranking import best_of, rankings, scale_of
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.verdict import verdicts
from orchestrator.tracking.runs import DESCRIPTION, truncated

REQUIRED = ("kacflow", "mlflow", "torch", "safetensors")


def register(client: Any, records: Records, run: Any) -> None:
    """Register the best network of `records` if it is a sweep that has ended and measured
    something; `run` is the sweep's own run, which keeps the files."""
    ended = all(e.status.well or e.status == Status.FAILED for e in records.endings)
    if records.plan.goal != "sweep" or not ended or records.interrupted():
        return
    for trial in best_trials(records):
        _register(client, records, run, trial)


def _register(client: Any, records: Records, run: Any, trial: Trial) -> None:
    sizes = trial.facts.data.sizes()  # all known: a network has been trained on these data
    name, stage = records.plan.experiment.name, trial.chain[-1]
    tags = {"sweep_id": records.plan.id, "stage_key": stage.key, "trial_key": trial.key}
    if any(
        tags.items() <= v.tags.items() for v in client.search_model_versions(f"name = '{name}'")
    ):
        return
    # a sweep that is extended may have another best network; the old one stays
    place = f"model/{trial.key}"
    with TemporaryDirectory() as folder:
        network = Path(folder) / "network"
        network_folder.write(network, trial.config, stage, records.store.result(stage.key), sizes)
        _save(Path(folder) / "model", network, trial.config.sampling.steps)
        client.log_artifacts(run.info.run_id, str(Path(folder) / "model"), place)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    description = truncated(description_of(records, trial), DESCRIPTION)
    source = f"{run.info.artifact_uri}/{place}"
    client.create_model_version(
        name, source, run_id=run.info.run_id, tags=tags, description=description
    )


def description_of(records: Records, trial: Trial) -> str:
    """What a registered network is, its measure with the interval of its setting, what cannot be told
    from it, and what it needs."""
    within = f" on {scale_of(records, trial)}" if len(records.plan.data_names) > 1 else ""
    parts = [f"{trial.chain[-1].label}, the best of sweep {records.plan.id}{within}: {trial.title}"]
    for verdict in verdicts(records):
        for answer in verdict.answers:
            if trial.index not in answer.trials:
                continue
            parts.append(f"{verdict.metric} {answer.value.text()}")
            if len(answer.trials) > 1:
                own = records.measured(trial)[verdict.metric]
                parts[-1] += f" over {len(answer.trials)} training seeds, {own:.3g} of this one"
            if answer.ties:
                parts.append(f"cannot be told from it: {'; '.join(answer.ties)}")
    needed = [str(plugin) for plugin in trial.config.used_plugins()]
    if needed:
        parts.append(f"needs the plugin {', '.join(needed)}")
    return "; ".join(parts)


def best_trials(records: Records) -> list[Trial]:
    """For each data set and feature extractor the best network of a student that is in the store or,
    if there are no students, of a teacher: of the setting with the best mean over its training seeds,
    so that no single lucky seed decides, the seed with the best measure."""
    best = []
    for ranking in rankings(records).values():
        measured = [records.plan.trials[index] for index, _ in ranking]
        stored = [t for t in measured if records.store.done(t.chain[-1].key)]
        intact = [t for t in stored if _has_network(records, t)]
        students = [t for t in intact if t.config.sampling.model == "student"]
        among = [trial.index for trial in students or intact]
        if among:
            best += best_of(records, among)[0][:1]
    return best


def _has_network(records: Records, trial: Trial) -> bool:
    try:
        return records.store.result(trial.chain[-1].key).has(layout.NETWORK)
    except DamagedError as e:
        records.damaged |= e.problems
        return False


def _save(folder: Path, network: Path, steps: int) -> None:
    """Write an MLflow model around the files in `network`; its example request asks for `steps`."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    numbers: list[Any] = [
        ColSpec(DataType.long, name, required=False) for name in ("count", "seed", "steps")
    ]
    labels = [ColSpec(Array(DataType.long), "labels", required=False)]
    example: dict[str, Any] = {"count": 4, "seed": 0, "steps": steps}
    pyfunc.save_model(
        folder,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"network": str(network)},
        signature=ModelSignature(Schema([*numbers, *labels])),
        input_example=pd.DataFrame([example]),
        pip_requirements=list(_requirements()),
    )


def _requirements() -> Any:
    for name in REQUIRED:
        with suppress(PackageNotFoundError):
            yield f"{name}=={version(name)}"
