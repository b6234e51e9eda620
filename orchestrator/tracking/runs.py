"""A run of MLflow's while it is being logged. MLflow's databases have room for so much alone, and
its client cuts what is longer without a word: here it ends in an ellipsis, and a file of the run
has it whole."""

import json
from typing import Any

# characters
RUN_NAME = 250
KEY = 250
PARAM = 6000
TAG = 8000
DESCRIPTION = 5000
PARAMS, METRICS = 100, 1000  # of one call
WHOLE, CUT = "whole.json", "cut"  # the file that has what was cut, and the tag that names it


def fit(text: str, room: int) -> str:
    """`text`, or as much of it as there is `room` for, with an ellipsis."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


class NewRun:
    """A run that begins with its construction, at `start` (milliseconds since 1970), by default
    now."""

    def __init__(
        self,
        client: Any,
        experiment: str,
        name: str,
        tags: dict[str, str],
        start: int | None = None,
    ) -> None:
        self.client = client
        self._whole: dict[str, str] = {}
        kept = {fit(k, KEY): self._fit(f"tag {k}", v, TAG) for k, v in tags.items()}
        name = self._fit("run name", name, RUN_NAME)
        run = client.create_run(experiment, start_time=start, tags=kept, run_name=name)
        self.id = str(run.info.run_id)

    def params(self, values: dict[str, Any]) -> None:
        """Log settings, each as a text."""
        from mlflow.entities import Param

        logged = [
            Param(fit(k, KEY), self._fit(f"parameter {k}", str(v), PARAM))
            for k, v in values.items()
        ]
        for i in range(0, len(logged), PARAMS):
            self.client.log_batch(self.id, params=logged[i : i + PARAMS])

    def metrics(self, logged: list[Any]) -> None:
        """Log MLflow's Metrics: calls are what costs, so as many at once as it takes."""
        for i in range(0, len(logged), METRICS):
            self.client.log_batch(self.id, metrics=logged[i : i + METRICS])

    def end(self, status: str, at: int) -> None:
        """End the run `at` a time in milliseconds since 1970, as FINISHED, FAILED or KILLED."""
        if self._whole:
            self.client.log_text(
                self.id, json.dumps(self._whole, indent=1, ensure_ascii=False), WHOLE
            )
            self.client.set_tag(self.id, CUT, fit(", ".join(self._whole), TAG))
        self.client.set_terminated(self.id, status, at)

    def _fit(self, what: str, text: str, room: int) -> str:
        if len(text) > room:
            self._whole[what] = text
        return fit(text, room)
