"""An MLflow run while it is being logged. MLflow's databases limit the length of texts, and its
client truncates longer ones silently: here they end in an ellipsis, and a file of the run has the
full texts."""

import json
from typing import Any

# characters
RUN_NAME = 250
KEY = 250
PARAM = 6000
TAG = 8000
DESCRIPTION = 5000
PARAMS, METRICS = 100, 1000  # at most so many in one call
# the file with the full texts that were truncated, and the tag that lists them
WHOLE, CUT = "whole.json", "cut"


def truncated(text: str, limit: int) -> str:
    """`text`, cut to at most `limit` characters with an ellipsis at its end."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def add_params(
    client: Any, run_id: str, values: dict[str, Any], logged: dict[str, str]
) -> dict[str, str]:
    """Log the settings `values` of a run whose parameters are `logged`. MLflow's parameters cannot
    change: returns those that have other values now."""
    from mlflow.entities import Param

    texts = {truncated(k, KEY): truncated(str(v), PARAM) for k, v in values.items()}
    new = [Param(k, text) for k, text in texts.items() if k not in logged]
    for i in range(0, len(new), PARAMS):
        client.log_batch(run_id, params=new[i : i + PARAMS])
    return {k: text for k, text in texts.items() if logged.get(k, text) != text}


class NewRun:
    """A new run, created by the constructor; `start` in milliseconds since 1970, by default now."""

    def __init__(
        self,
        client: Any,
        experiment: str,
        name: str,
        tags: dict[str, str],
        start: int | None = None,
    ) -> None:
        self.client = client
        self._full_texts: dict[str, str] = {}
        short_tags = {
            truncated(k, KEY): self._truncated(f"tag {k}", v, TAG) for k, v in tags.items()
        }
        name = self._truncated("run name", name, RUN_NAME)
        run = client.create_run(experiment, start_time=start, tags=short_tags, run_name=name)
        self.id = str(run.info.run_id)

    def params(self, values: dict[str, Any]) -> None:
        """Log settings as texts."""
        from mlflow.entities import Param

        logged = [
            Param(truncated(k, KEY), self._truncated(f"parameter {k}", str(v), PARAM))
            for k, v in values.items()
        ]
        for i in range(0, len(logged), PARAMS):
            self.client.log_batch(self.id, params=logged[i : i + PARAMS])

    def metrics(self, logged: list[Any]) -> None:
        """Log MLflow's Metrics, as many in a call as it accepts: each call is expensive."""
        for i in range(0, len(logged), METRICS):
            self.client.log_batch(self.id, metrics=logged[i : i + METRICS])

    def end(self, status: str, at: int) -> None:
        """End the run `at` a time in milliseconds since 1970; `status` is FINISHED, FAILED or
        KILLED."""
        if self._full_texts:
            self.client.log_text(
                self.id, json.dumps(self._full_texts, indent=1, ensure_ascii=False), WHOLE
            )
            self.client.set_tag(self.id, CUT, truncated(", ".join(self._full_texts), TAG))
        self.client.set_terminated(self.id, status, at)

    def _truncated(self, what: str, text: str, limit: int) -> str:
        if len(text) > limit:
            self._full_texts[what] = text
        return truncated(text, limit)
