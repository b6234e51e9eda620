"""What a command sets for its whole process: variables that Ray and MLflow read when they are
imported, and filters of warnings. Importing a module of this project sets nothing."""

import os
import warnings

# Ray's and Tune's chatter, and how often Ray Train's controller looks at its workers (its default
# is 2 s)
QUIET = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # four times this many processes are worth a warning to Ray
    "RAY_worker_maximum_startup_concurrency": "16",
    "RAY_DISABLE_MEMORY_MONITOR_LOG": "1",
    # by default a task that is killed for want of memory is tried for ever
    "RAY_task_oom_retries": "6",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt has to reach us, not only Tune
    "TUNE_WARN_THRESHOLD_S": "60",
    # the last report of a trial says how it ended, not what it scores
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # it would do so in the middle of the live table
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # the store has everything: a dead server must not hold up the end
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "DO_NOT_TRACK": "true",
}


def prepare() -> None:
    """Set all of it; a variable that the user has set himself stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
