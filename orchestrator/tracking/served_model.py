"""The model that `mlflow models serve` runs. MLflow keeps this file next to the weights and executes
it; nothing is unpickled.

A request is one or more records of `count`, `seed`, `steps` and `labels`, all of them optional; the
answer has a record of `images` and `nfe` for each. This package must be installed on the machine
that serves the model."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from orchestrator.work.requests import RequestError


class Images(PythonModel):
    """A trained network as an MLflow Python model."""

    def load_context(self, context: Any) -> None:
        """Load the network once, when serving begins."""
        # imported here: MLflow executes this file also when the model is written
        from orchestrator.work.network_sampler import NetworkSampler

        self.sampler = NetworkSampler(Path(context.artifacts["network"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each record of `model_input`."""
        records = model_input.to_dict("records")
        try:
            return [
                self.sampler.draw({k: v for k, v in record.items() if not _absent(v)})
                for record in records
            ]
        except RequestError as e:
            raise MlflowException.invalid_parameter_value(str(e)) from None


def _absent(value: Any) -> bool:
    """Whether a record lacks this field: a data frame then has NaN."""
    return value is None or (isinstance(value, float) and value != value)


set_model(Images())
