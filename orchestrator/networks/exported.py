"""A file that `export` wrote, sampled as a trained network is.

Noise of image k of a seed is that of the run, and so are the images, to within the tolerance of the
export. The number of steps, the solver and the guidance are part of the file."""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.methods.path_kind import PathKind
from orchestrator.plan.data import DatasetInfo, as_images
from orchestrator.sweeps.measured import count_text

if TYPE_CHECKING:  # a refusal does not wait for torch
    from torch import Tensor, nn

    from kaccore.export.opening import Exported
    from kaccore.paths import Path as NoisePath
    from kaccore.sampling import Samples

# the formats that endings mean to people and programs; a file may also have another ending, or none
ENDINGS = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
    ".safetensors": "safetensors",
}
EXPERIMENTS = (".yaml", ".yml")


def is_exported(source: str) -> bool:
    """Whether `source` is a file that `export` wrote, or by its ending is meant to be one."""
    file = Path(source)
    if file.suffix.lower() in ENDINGS:
        return True
    if file.suffix in EXPERIMENTS or not file.is_file():
        return False
    from kaccore.export.opening import format_of

    return format_of(file) is not None


class ExportedSampler:
    """The sampler in `file`. Raises ConfigError if it is damaged, needs a package or a plugin that is
    not there, or training images for its noise, and for other values of `wishes` (model, steps,
    solver, guidance; None: any) than it was exported with."""

    def __init__(self, file: str, wishes: Mapping[str, Any]) -> None:
        self.file = file
        self.exported = self._opened()
        self.about = self.exported.about
        self._labels: tuple[int, ...] | None = None
        self._check(wishes)
        shape = self.about["inputs"]["noise"]["shape"]
        names = tuple(self.about["class_names"])
        # as many labels as classes: without a wish each is drawn equally often
        self.info = DatasetInfo(
            name=file,
            fingerprint="",
            count=len(names) or 1,
            channels=shape[1],
            size=shape[2],
            class_names=names,
            points=not self.about["sampler"]["bounded"],
        )
        self.data = as_images(self.info)
        self.path = self._path()

    def _opened(self) -> "Exported":
        if not Path(self.file).is_file():
            raise ConfigError([Fault(self.file, "", "there is no such file")])
        from kaccore.export.opening import open_exported

        try:
            return open_exported(Path(self.file))
        except ImportError as e:
            what = f"ONNX needs {e.name}: pip install 'kacflow[export]'"
        except ValueError as e:
            what = str(e).removeprefix(f"{self.file}: ")
        except Exception as e:  # whatever torch, safetensors or onnxruntime raises
            lines = str(e).strip().splitlines()
            what = f"it is damaged: {lines[0] if lines else type(e).__name__}"
        raise ConfigError([Fault(self.file, "", what)])

    def _check(self, wishes: Mapping[str, Any]) -> None:
        """Raise ConfigError for wishes that the file does not have."""
        has = {
            "model": self.model,
            "steps": self.about["steps"],
            "solver": self.about["sampler"]["solver"],
            "guidance": self.about["sampler"]["guidance"],
        }
        what = "which is part of an exported file"
        remedy = "load the run that it was exported from, or export it again"
        faults = [
            Fault(
                name,
                "",
                f"got {describe(value)}, but {self.file} has {describe(has[name])}, {what}: {remedy}",
            )
            for name, value in wishes.items()
            if value is not None and value != has[name]
        ]
        if faults:
            raise ConfigError(faults)

    def _path(self) -> "NoisePath":
        """The path whose prior is the noise."""
        content = self.about["path"]
        if content["kind"] not in PathKind.family.names():
            needs = ", ".join(self.about["plugins"]) or "a plugin"
            what = f"its noise is that of the path {content['kind']}, which {needs} defines"
            remedy = "load an experiment that names the plugin first"
            raise ConfigError([Fault(self.file, "", f"{what}: {remedy}")])
        kind = PathKind.family.of_content(content)
        if kind.starts_from_data:
            what = "its noise starts from training images, which the file does not have"
            remedy = "load the run that it was exported from"
            raise ConfigError([Fault(self.file, "", f"{what}: {remedy}")])
        return kind.build(self.data)

    @property
    def model(self) -> str:
        """teacher or student."""
        return "teacher" if self.about["stage"]["label"] == "teacher" else "student"

    @property
    def network(self) -> "nn.Module":
        """The network with its weights; raises ConfigError for a format that has programs alone."""
        if self.exported.sampler is None:
            what = f"{self.exported.format} has no PyTorch module: export it as safetensors"
            raise ConfigError([Fault(self.file, "", what)])
        return self.exported.sampler.network

    def with_labels(self, labels: Sequence[int]) -> "ExportedSampler":
        """The same file, sampled with these classes in turn. Raises ConfigError for others than it
        has."""
        if not self.info.classes:
            raise ConfigError([Fault("labels", "", f"{self.file} takes no labels")])
        outside = [label for label in labels if not 0 <= label < self.info.classes]
        if outside:
            last = self.info.classes - 1
            what = f"got {outside[0]}, expected the number of a class, 0 to {last}"
            raise ConfigError([Fault("labels", "", what)])
        sampler = copy(self)
        sampler._labels = tuple(labels)
        return sampler

    def draw(self, count: int, seed: int) -> "tuple[Samples, Tensor | None]":
        """The first `count` images of `seed` as floats, and their labels, if the file takes any. Its
        energies are not measured: NaN."""
        import torch

        from kaccore.sampling import Samples, sample_in_batches
        from orchestrator.work.drawing import choose_labels

        def run(noise: "Tensor", labels: "Tensor | None", indices: Sequence[int]) -> Samples:
            images = self.exported.run([noise] if labels is None else [noise, labels])
            return Samples(images, self.about["nfe"], torch.full((len(images),), torch.nan))

        labels = choose_labels(self._labels, self.data, seed, range(count))
        shape = (count, self.info.channels, self.info.size or 1, self.info.size or 1)
        model: Any = run  # has no weights and no device of its own
        return sample_in_batches(run, model, self.path, shape, seed, labels, 0, None), labels

    def text(self, nfe: int) -> str:
        """The network and its settings, as a text; `nfe`: what an image costs."""
        own, steps = self.about["sampler"], self.about["steps"]
        solver = "by jumps" if own["jumps"] else f"of {own['solver']}"
        return (
            f"{self.model}, {count_text(steps)} {solver}, NFE {nfe}, guidance {own['guidance']:g}"
        )

    def origin(self) -> str:
        """Where the network comes from, as a text."""
        stage = self.about["stage"]
        made = f"{stage['label']}, stage {stage['key']}"
        return f"from {self.file}, {self.exported.format}, of {self.about['experiment']}: {made}"
