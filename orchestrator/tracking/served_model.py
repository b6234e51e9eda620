"""What `mlflow models serve` runs. MLflow keeps this file beside the weights and executes it;
nothing is unpickled.

A request is one or more records of `count`, `seed`, `steps` and `labels`, all of them optional; the
answer has one of `images` and `nfe` for each. The package itself must be installed where it is
served."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from orchestrator.work.requests import RequestError


class Images(PythonModel):
    """A trained network as MLflow's kind of model."""

    def load_context(self, context: Any) -> None:
        """Read the network once, when serving begins."""
        # here, since whoever writes a model executes this file as well
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
    """A data frame has NaN where one record has a field and another has not."""
    return value is None or (isinstance(value, float) and value != value)


set_model(Images())
