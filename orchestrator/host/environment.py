"""Settings of a command's whole process: environment variables that Ray and MLflow read at import,
and warning filters. Importing a module of this project sets nothing."""

import os
import warnings

# less output of Ray and Tune, and the interval at which Ray Train's controller polls its workers
# (default 2 s)
QUIET = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray warns of four times as many processes
    "RAY_worker_maximum_startup_concurrency": "16",
    "RAY_DISABLE_MEMORY_MONITOR_LOG": "1",
    # by default Ray retries a task for ever that was killed because memory ran out
    "RAY_task_oom_retries": "6",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt must reach this project, not only Tune
    "TUNE_WARN_THRESHOLD_S": "60",
    # the last report of a trial has its status, not the metric
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow would print it into the live table
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # the store has everything: a dead server must not delay the end of a run
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "DO_NOT_TRACK": "true",
}


def prepare() -> None:
    """Apply these settings; variables that the user has set stay."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
