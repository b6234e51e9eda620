"""The names of all files and folders of a store, each once.

layout.json                 the version of this layout
stages/<key>/               a finished stage: manifest.json and its files
weights/<key>.safetensors   weights of a teacher that were trained elsewhere, until its stage is finished
work/<key>/                 an unfinished stage: checkpoints, and the lease of the process at work
sweeps/<name>/<id>/         a sweep: its plan, its plugins, how its trials ended, its report
families/ labels/ notices/  final states of trainings, labels of data sets, warnings about stages
jobs/<number>.json          a job of Slurm that runs a sweep of this store
damaged/                    damaged results that were set aside
ray/<run>/                  files of one invocation, requests to it too, removed at its end
publishing/                 the lease of the process that publishes to MLflow
mlflow/                     on a network file system: a copy of MLflow's database, its artifacts, the lease on both
"""

LAYOUT, VERIFIED = "layout.json", "verified.json"
STAGES = "stages"
WORK = "work"
WEIGHTS = "weights"
SWEEPS = "sweeps"
FAMILIES = "families"
LABELS = "labels"
NOTICES = "notices"
DAMAGED = "damaged"
JOBS = "jobs"
RAY, PUBLISHING = "ray", "publishing"
MLFLOW = "mlflow"

# of a run
REQUESTS, ORDERS = "requests", "orders"

# of a finished stage
MANIFEST = "manifest.json"
TONE = ("tone.inputs", "tone.outputs")  # tensors of a tone curve among the weights of a network
NETWORK, BEST_NETWORK = "model.safetensors", "best.safetensors"
PAIRS = "pairs.safetensors"  # where a teacher arrives from noise
LOSSES = "losses.json"
SYSTEM = "system.json"
METRICS = "metrics.json"
BOOTSTRAP = (
    "bootstrap.json"  # FIDs of resampled images, by metric; with OWN_SUFFIX against themselves
)
OWN_SUFFIX = "_own"
SAMPLES = "samples.png"
FIDS = "fids.json"  # FIDs of a teacher during its training
LOOKS = "samples-step-*.png"  # samples of it at each of them
FINAL_SAMPLES = "samples-at-end.png"  # of a network, at the end of its training
REAL = "real.png"  # in reference features: training images as a network gets them
OWN_FILE = "network.safetensors"  # the network of own features
ABOUT = "about.json"  # facts about own features, such as the accuracy on held-out images

# of an unfinished one
CHECKPOINTS = "checkpoints"
PARTS = "parts"  # of pairs
PROGRESS = "progress.json"
FAILURE = "failure.json"

# of a sweep
PLAN = "plan.json"
CONFIG = "config.yaml"
PLUGINS = "plugins"  # the sources of its single-file plugins
VERDICT = "verdict.json"
TRIALS = "trials.json"
RESULTS, REPORT = "results.csv", "report.html"
FIGURES, SAMPLE_GRIDS = "figures", "samples"
ANY_PLAN = f"*/*/{PLAN}"  # below `SWEEPS`


def look(step: int) -> str:
    """The file of the samples of a teacher after this step of its training."""
    return LOOKS.replace("*", f"{step:08d}")


def step_of_look(file: str) -> int:
    """The step of `look`, from the name of the file."""
    return int(file.removesuffix(".png").rpartition("-")[2])


def network(decay: float | None) -> str:
    """The file of the network with the further average of the weights of this decay; None: with its
    first one."""
    return NETWORK if decay is None else f"average-{decay!r}.safetensors"
