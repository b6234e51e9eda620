"""The names of all files and folders of a store, each once.

layout.json                 the version of this layout
stages/<key>/               what a finished stage is: manifest.json and its files
work/<key>/                 what an unfinished stage is, and the lease of whoever works on it
sweeps/<name>/<id>/         what a sweep is: its plan, how its trials ended, its report
families/ labels/ notices/  final states of trainings, labels of data sets, warnings about stages
damaged/                    results that were found not to be what was written, set aside
ray/<run>/                  what one invocation leaves while it lasts
publishing/                 the lease of whoever publishes to MLflow
"""

LAYOUT, VERIFIED = "layout.json", "verified.json"
STAGES = "stages"
WORK = "work"
SWEEPS = "sweeps"
FAMILIES = "families"
LABELS = "labels"
NOTICES = "notices"
DAMAGED = "damaged"
RAY, PUBLISHING = "ray", "publishing"

# of a finished stage
MANIFEST = "manifest.json"
NETWORK, BEST_NETWORK = "model.safetensors", "best.safetensors"
LOSSES = "losses.json"
SYSTEM = "system.json"
METRICS = "metrics.json"
SAMPLES = "samples.png"
FIDS = "fids.json"  # what a teacher scored while it trained
REAL = "real.png"  # training images as a network sees them, of a reference
OWN_FILE = "network.safetensors"  # of own features
ABOUT = "about.json"  # what is known of them, as their accuracy on held-out images

# of an unfinished one
CHECKPOINTS = "checkpoints"
PROGRESS = "progress.json"
FAILURE = "failure.json"

# of a sweep
PLAN = "plan.json"
CONFIG = "config.yaml"
TRIALS = "trials.json"
RESULTS, REPORT = "results.csv", "report.html"
FIGURES, SAMPLE_GRIDS = "figures", "samples"
ANY_PLAN = f"*/*/{PLAN}"  # below `SWEEPS`
