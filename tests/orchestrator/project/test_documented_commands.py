"""Every command and program in README.md and docs/*.md is run: here, in a folder as the repository
is after `make sweep`, or in the place that ELSEWHERE names.

A command that trains is run for real where its file is one of REAL, the tutorial's, and with
--dry-run elsewhere. All files have the settings of the tiny default sweep, so that nothing takes
long; names in capitals stand for what `Reader.names` says."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY, run, run_here
from conftest import SweepRun
from documented import PAGES, Part, parts
from PIL import Image
from stages import kinds_restored

from orchestrator.settings.loading import load

ELSEWHERE = {  # what begins so: the file that runs it, and words with which it does
    "make install": (".ci/run", 'make PYTHON="$PYTHON" install'),
    "make sweep": ("tests/orchestrator/conftest.py", '"experiments" / "nfe_sweep.yaml"'),
    "make test": (".ci/run", "make test"),
    "make lint": (".ci/run", "make lint"),
    "make docs": (".ci/run", "make docs"),
    "bash .ci/check_package": (".ci/run", "bash .ci/check_package"),
    "python -m build": (".ci/check_package", "-m build"),
    "make test-failures": (".ci/run", "make test-failures"),
    "make ui": ("tests/orchestrator/host/test_printed.py", '"make", "--no-print-directory"'),
    "python -m orchestrator.ui": ("tests/orchestrator/host/test_printed.py", 'run(tmp_path, "ui"'),
    "make bench": ("tests/orchestrator/project/test_benchmarks.py", "command.main("),
    "python -m benchmarks": ("tests/orchestrator/project/test_benchmarks.py", "command.main("),
    "make figures": ("tests/orchestrator/project/test_method_figures.py", "method_figures.write("),
    "apt-get install chromium": (".ci/run", "install -y -qq chromium"),
    "apt-get install bindfs": (".ci/run", "install -y -qq chromium bindfs"),
    "pip install '.[export]'": ("pyproject.toml", 'dev = ["kacflow[export,'),
    "pip install '.[playground]'": (
        "pyproject.toml",
        'dev = ["kacflow[export,cluster,playground,docs]"',
    ),
    "pip install '.[s3]'": ("pyproject.toml", '"kacflow[s3]"'),
    "python -m orchestrator.playground": (
        "tests/orchestrator/playground_page.py",
        'command("playground"',
    ),
    "python -m orchestrator.doctor --address": (
        "tests/cluster/test_examined.py",
        "-m orchestrator.doctor",
    ),
    "python -m orchestrator.sweep experiments/nfe_sweep.yaml --set storage=s3://my-bucket": (
        "tests/failures/test_s3.py",
        'f"storage={STORAGE}"',
    ),
    "python -m orchestrator.status NAME --open": (
        "tests/orchestrator/console/test_live_report.py",
        'run(tmp_path, "status", "fabricated", "--open")',
    ),
    "python -m orchestrator.status --storage s3://my-bucket": (
        "tests/orchestrator/store/test_s3.py",
        'status.main(["--storage"',
    ),
    **dict.fromkeys(
        (
            "python -m orchestrator.report SWEEP SWEEP",
            "python -m orchestrator.report nfe-sweep damping-speed",
        ),
        ("tests/orchestrator/reports/test_comparison.py", "report.main(folders)"),
    ),
    "python -m orchestrator.report nfe-sweep --storage s3://my-bucket": (
        "tests/orchestrator/store/test_s3.py",
        'report.main(["fabricated", "--storage"',
    ),
    "python -m orchestrator.sample s3://my-bucket": (
        "tests/orchestrator/store/test_s3.py",
        "sample.main([run,",
    ),
    "python -m orchestrator.stages --storage s3://my-bucket": (
        "tests/orchestrator/store/test_s3.py",
        'stages.main(["--storage", root',
    ),
    "kacflow new": ("tests/orchestrator/commands/test_new.py", '["new", "nfe_sweep"]'),
    "kacflow sweep": ("tests/orchestrator/commands/test_new.py", '["sweep", "nfe_sweep.yaml"'),
    'eval "$(kacflow completion bash)"': (
        "tests/orchestrator/commands/test_completion.py",
        "source ./script",
    ),
    "python docs/figures/stability_tables.py": (
        "tests/orchestrator/project/test_stability_tables.py",
        "stability_tables.main(",
    ),
    "make slurm-test": ("Makefile", "slurm-test:"),
    "python -m orchestrator.doctor --slurm": (
        "tests/slurm/test_slurm_doctor.py",
        '"--slurm"',
    ),
    "python -m orchestrator.slurm": ("tests/slurm/slurm_lab.py", 'self.python("slurm"'),
    "make cluster-test": (".ci/run", "make cluster-test"),
    "make token": ("tests/cluster/lab.py", '"make", "token"'),
    "ray up": ("tests/cluster/lab.py", '"ray", "up"'),
    "ray exec": ("tests/cluster/lab.py", '"ray", "exec"'),
    "ray dashboard": ("tests/cluster/lab.py", '"ray", "dashboard"'),
    "ray job submit": ("tests/cluster/lab.py", '"ray", "job", "submit"'),
    "ray down": ("tests/cluster/test_taken_down.py", '"ray", "down"'),
    "bash orchestrator/machines/firewall.sh": (
        "tests/cluster/lab.py",
        "orchestrator/machines/firewall.sh",
    ),
    ". .venv/bin/activate": ("Makefile", "-m venv $(VENV)"),
    "source .venv/bin/activate": ("Makefile", "-m venv $(VENV)"),
    "mlflow models serve": (
        "tests/orchestrator/tracking/test_served_model.py",
        'documented("mlflow models serve")',
    ),
    "curl http://127.0.0.1:5001/invocations": (
        "tests/orchestrator/tracking/test_served_model.py",
        'documented("curl ")',
    ),
    "python tests/orchestrator/mlflow_pages.py": (
        "tests/orchestrator/tracking/test_mlflow_pages.py",
        "mlflow_pages.open_runs(",
    ),
}
NOWHERE = {  # and why not
    "pip install gdown": "only CelebA's own download needs it",
    "pip install 'kacflow[playground]'": "the package is not published",
    **dict.fromkeys(
        (
            "aws",
            "BUCKET=your-bucket",
            "for role in head worker",
            "done",
            "sed s/BUCKET/$BUCKET/",
            "export AWS_PROFILE",
            "export AWS_DEFAULT_REGION",
        ),
        "it needs an AWS account",
    ),
    **dict.fromkeys(("ray symmetric-run", "ray stop"), "it is named as what does not suit"),
    **dict.fromkeys(
        ("kubectl", "sed -i 's#YOUR-REGISTRY"), "it needs Kubernetes: docs/kubernetes.md says so"
    ),
    **dict.fromkeys(
        ("docker", "mkdir -p runs", "apptainer"),
        "it needs images of a registry: docs/containers.md says how they were tried",
    ),
    "ssh": "it names a machine of the reader's",
    **dict.fromkeys(
        ("bash .ci/run", "make check", "make test-random", "make coverage", "python -m pytest"),
        "it runs the tests themselves",
    ),
    "python -m kaccore.metrics.assets.make_classifiers": "it takes minutes and writes what the package ships",
}
HERE = ("sweep", "train", "distill", "evaluate", "sample", "export", "report", "stages", "status", "reference", "data",
        "doctor")  # fmt: skip
TRAINING = HERE[:4]
REAL = {"tutorial.yaml", "mine.yaml"}
COMPLETE = (
    "stages",
    "status",
    "reference",
)  # without arguments; of others a mere name is a mention


class Reader:
    """Someone who does what a page says, in `folder`."""

    def __init__(self, folder: Path, sweep: SweepRun) -> None:
        self.folder = folder
        self.settings = [*sweep.arguments[2::2], "cluster.workers=1"]
        self.names = {
            "FILE": "experiments/nfe_sweep.yaml", "KEY=VALUE": "path.damping=9.0", "ADDRESS": "auto",
            "RUN": "nfe-sweep", "OUT": "out.png", "NAME": "nfe-sweep", "NAME/ID": f"nfe-sweep/{sweep.folder.name}",
            "mine.py": "trigonometric.py", "SWEEP": "nfe-sweep", "$SCRATCH/runs": "runs",
            "SWEEP_DIR": f"runs/sweeps/nfe-sweep/{sweep.folder.name}",
        }  # fmt: skip

    def do(self, part: Part) -> str:
        """Do as `part` says; returns what went wrong."""
        if part.kind == "python":
            exec(compile(part.text, f"the page's line {part.line}", "exec"), {})
        elif part.kind == "yaml" and (named := re.match(r"name: (\S+)", part.text)):
            self.save(self.folder / f"{named[1]}.yaml", part.text)
        elif part.kind == "command" and exception(part.text) is None:
            return self.type(self.filled(part.text))
        return ""

    def save(self, path: Path, text: str) -> None:
        """An experiment, with the tiny settings, and the plugins of docs/extending beside it."""
        for plugin in (REPOSITORY / "docs" / "extending").glob("*.py"):
            shutil.copy(plugin, path.parent)
        path.write_text(text)
        staged = "nfe_sweep" in path.name  # whose stages have pairs to be few
        tiny = [each for each in self.settings if staged or not each.startswith("distill.stages")]
        one = ["sweep.max_concurrent_trials=1"] if "\nsweep:" in text else []  # which imports once
        with kinds_restored():
            path.write_text(load(path, [*tiny, *one]).to_yaml())

    def filled(self, text: str) -> list[str]:
        """A command's words, all its [--options] taken and its NAMES filled in."""
        words = shlex.split(re.sub(r"\[(--[^]]*|[A-Z/]+)\]", r"\1", text), comments=True)
        words = [self.names.get(word, word) for word in words if word != "..."]
        for at, word in enumerate(words[:-1]):
            if word == "--only" and words[at + 1] == self.names["KEY=VALUE"]:
                words[at + 1] = "sampling.steps=4"  # of what is swept
        return words

    def type(self, words: list[str]) -> str:
        """Run a command; returns what went wrong."""
        name = words[2].removeprefix("orchestrator.") if words[1:2] == ["-m"] else ""
        if words[0] not in ("python", ".venv/bin/python") or name not in HERE:
            return "in none of HERE, ELSEWHERE and NOWHERE"
        arguments = words[3:] or ([] if name in COMPLETE else ["--help"])
        trains = name in TRAINING and not {"--dry-run", "--help"} & set(arguments)
        if trains and REAL & set(arguments):
            said = run(self.folder, name, *arguments)
        else:
            said = run_here(self.folder, name, *arguments, *(["--dry-run"] if trains else []))
        if said.returncode:
            return f"status {said.returncode}: {said.stdout}{said.stderr}"
        out = (
            Path(arguments[-arguments[::-1].index("--out")])
            if "--out" in arguments
            else self.folder
        )
        return (
            "" if any(out.iterdir() if out.is_dir() else out.read_bytes()) else f"nothing in {out}"
        )


def exception(text: str) -> str | None:
    """The key of ELSEWHERE or NOWHERE that speaks of a command, whatever variables are set before
    it."""
    bare = re.sub(r"^([A-Z]\w*=\S+ )*(\.venv/bin/)?", "", text)
    found = [key for key in (*ELSEWHERE, *NOWHERE) if re.match(re.escape(key) + r"(?![-\w])", bare)]
    return found[0] if found else None


@pytest.fixture(scope="module")
def experiments(default_sweep: SweepRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped experiments with the tiny settings, in a folder."""
    folder = tmp_path_factory.mktemp("experiments")
    reader = Reader(folder, default_sweep)
    for file in (REPOSITORY / "experiments").glob("*.yaml"):
        reader.save(folder / file.name, file.read_text())
    return folder


@pytest.fixture
def reader(
    default_sweep: SweepRun, experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    shutil.copytree(default_sweep.storage, tmp_path / "runs")
    shutil.copytree(experiments, tmp_path / "experiments")
    for name in ("tulips", "roses"):
        (tmp_path / "my-images" / name).mkdir(parents=True)
        for k in range(20):
            pixels = np.random.default_rng(k).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my-images" / name / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, default_sweep)


@pytest.mark.usefixtures("on_shared_ray")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_whatever_a_page_says_to_type_is_run_and_ends_well(reader, page):
    """Minutes for the tutorial: its two experiments are trained, measured, swept and exported."""
    done: set[str] = set()
    for part in parts(page):
        if part.text not in done:
            assert reader.do(part) == "", f"{page.name}, line {part.line}: {part.text}"
            done.add(part.text)


def test_what_is_run_elsewhere_is():
    texts = {key: (REPOSITORY / file).read_text() for key, (file, _) in ELSEWHERE.items()}
    assert [key for key, (_, words) in ELSEWHERE.items() if words not in texts[key]] == []
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {key.removeprefix("make ") for key in ELSEWHERE if key.startswith("make ")} <= {*targets}


def test_no_page_is_without_what_is_excepted():
    used = {
        exception(part.text) for page in PAGES for part in parts(page) if part.kind == "command"
    }
    assert (ELSEWHERE.keys() | NOWHERE.keys()) - used == set()
