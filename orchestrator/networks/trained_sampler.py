"""A trained network with what it takes to draw images from it."""

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.networks import sampling_choice
from orchestrator.networks.locate import TrainedRun
from orchestrator.plan.data import DatasetInfo
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment

if TYPE_CHECKING:  # a refusal does not wait for torch
    from torch import Tensor, nn

    from kaccore.sampling import Samples


class TrainedSampler:
    """The network of `run` that `config` samples, and the data set as sampling needs it. Raises
    ConfigError if it is not trained yet, or its classes do not suit the settings."""

    def __init__(self, run: TrainedRun, config: Experiment) -> None:
        self.run = run
        self.config = config
        self.stage = sampling_choice.stage_to_sample(run, config)
        self.data = run.data()
        sampling_choice.check_classes(run, config, self.data)

    @cached_property
    def network(self) -> "nn.Module":
        """The network with its trained weights, on the device that evaluates networks here."""
        from orchestrator.work import building
        from orchestrator.work.drawing import device

        decay = self.config.sampling.ema
        trained = building.trained(self.run.store, self.stage, self.data, decay)
        return trained.to(device())

    @property
    def info(self) -> DatasetInfo:
        """The data set on which it was trained, without its images."""
        return self.run.trial.facts.data

    def with_labels(self, labels: list[int]) -> "TrainedSampler":
        """The same network and data, sampled with these classes."""
        config = loading.override(self.config, {"sampling.labels": labels})
        sampling_choice.check_classes(self.run, config, self.data)
        _ = self.network  # the copy has it, too
        sampler = copy(self)
        sampler.config = config
        return sampler

    def draw(
        self, count: int, seed: int, network: "nn.Module | None" = None
    ) -> "tuple[Samples, Tensor | None]":
        """The first `count` images of `seed` as floats, and their labels, if the network has any.
        `network`: what is sampled in place of the own one."""
        from orchestrator.work.drawing import draw, labels_for

        setting = self.config.sampling
        numbers = range(count)
        labels = labels_for(self.stage, setting.labels, self.data, seed, numbers)
        sampled = self.network if network is None else network
        samples = draw(self.stage, setting, sampled, self.data, numbers, seed, labels)
        return samples, labels

    def text(self, nfe: int) -> str:
        """The network and its settings, as a text; `nfe`: what an image costs."""
        return sampling_choice.sampling_text(self.config, self.stage, nfe)

    def origin(self) -> str:
        """Where the network comes from, as a text."""
        return sampling_choice.origin_text(self.run, self.stage)
