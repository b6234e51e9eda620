"""What a run says of where it comes from, and of the runs that belong to it, as tags that MLflow's page
of the run shows: its source, its description with links, the ids of the linked runs."""

from collections.abc import Mapping

from orchestrator.host.invocation import COMMANDS, portable
from orchestrator.plan.plan import Plan, Trial
from orchestrator.sweeps.records import Records

NOTE = "mlflow.note.content"  # the description of a run, in Markdown
TEACHER, STUDENT = "teacher_run_id", "student_run_id"


def source_tags(records: Records) -> dict[str, str]:
    """The command that ran the sweep, as MLflow's source of a run. MLflow shows the commit next to it."""
    plan = records.plan
    command = records.command() or portable(COMMANDS[plan.goal], f"{plan.experiment.name}.yaml")
    return {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}


def trial_tags(
    plan: Plan, trial: Trial, experiment: str, sweep_run: str, run_ids: Mapping[str, str]
) -> dict[str, str]:
    """The links of a trial's run. `experiment`: MLflow's id; `sweep_run`: the run of the sweep;
    `run_ids`: the runs of the stages by key, those that MLflow has."""
    stages = {TEACHER: trial.chain[0]}
    if trial.chain[-1].kind == "student":
        stages[STUDENT] = trial.chain[-1]
    known = {tag: stage for tag, stage in stages.items() if stage.key in run_ids}
    links = [("sweep", f"sweep {plan.id}", sweep_run)]
    links += [
        (tag.partition("_")[0], plan.names[stage.key], run_ids[stage.key])
        for tag, stage in known.items()
    ]
    lines = [f"{what}: {_link(name, experiment, run_id)}" for what, name, run_id in links]
    ids = {tag: run_ids[stage.key] for tag, stage in known.items()}
    return {**ids, NOTE: "  \n".join(lines)}  # two blanks: a new line in Markdown


def _link(name: str, experiment: str, run_id: str) -> str:
    """A link to a run, relative to the address at which the page is open."""
    text = "".join(f"\\{c}" if c in "\\[]" else c for c in name)
    return f"[{text}](#/experiments/{experiment}/runs/{run_id})"
