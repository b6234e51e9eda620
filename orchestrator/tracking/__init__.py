"""MLflow as a view of the store: its database or server, runs, metrics, the registered model."""
