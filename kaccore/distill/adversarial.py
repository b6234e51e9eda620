"""The relativistic adversarial loss on noised images.

    t = 0 with probability `clean`, else uniform on (0, latest)
    x_t, r_t: points of the path from the student's image x and from a real image r of the same label
    student:        softplus(D(r_t) - D(x_t))
    discriminator:  softplus(D(x_t) - D(r_t)) + gamma/2 (|grad D(r_t)|^2 + |grad D(x_t)|^2)

The loss and both gradient penalties, R1 and R2, are R3GAN's (arXiv 2501.05441). To compare noised
images is Diffusion-GAN's idea (arXiv 2206.02262), and as a part of distillation SiDA's (arXiv
2410.14919). Without another loss that holds each image where the teacher puts it, a student loses
modes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kaccore.distill.generated import Made
from kaccore.guidance import Model
from kaccore.paths import Path
from kaccore.tensors import left_broadcast, of_shard

DISCRIMINATOR = "discriminator"
FURTHEST = 60.0  # of two scores whose slopes are told apart
EVERY = 4  # the penalties are computed in one step of so many, at random, times so many


class AdversarialLoss:
    """The loss of a student and of the discriminator with it, which learns in the same step.

    `network`: its name among the networks, or ENCODER_OF and the name of another network, whose
    features in the middle are then the discriminator (SiDA). `gamma` >= 0 weights the gradient
    penalties; `clean` in [0, 1] is the share of images without noise; `latest` in (0, 1] the latest
    time. The value is the discriminator's loss, log 2 where it cannot tell the images apart: the
    student's part adds its gradient and zero. Raises ValueError outside of the ranges."""

    def __init__(
        self,
        path: Path,
        *,
        gamma: float = 0.02,
        clean: float = 0.3,
        latest: float = 0.7,
        network: str = DISCRIMINATOR,
    ) -> None:
        if gamma < 0:
            raise ValueError(f"gamma = {gamma}: expected >= 0")
        if not 0 <= clean <= 1:
            raise ValueError(f"clean = {clean}: expected 0 to 1")
        if not 0 < latest <= 1:
            raise ValueError(f"latest = {latest}: expected > 0 and <= 1")
        self.path = path
        self.gamma = gamma
        self.clean = clean
        self.latest = latest
        self.network = network

    def __call__(self, networks: Model, made: Made) -> Tensor:
        """One pass of the discriminator serves both: the score of an image depends on it alone, so
        that the gradient in it for the student's loss is a multiple of that for the discriminator's."""
        images = made.images
        if images.requires_grad:
            images = images.view_as(images)  # for a hook on what comes from here alone
        fake, real, t = self._points(made, images)
        lead = self._scores(networks, fake, t, made) - self._scores(networks, real, t, made)
        if images.requires_grad:
            # softplus(lead) and softplus(-lead) have the slopes s(lead) and -s(-lead), s the logistic
            turned = -torch.exp(-lead.detach().clamp(-FURTHEST, FURTHEST))
            images.register_hook(lambda slope: left_broadcast(turned, slope) * slope)
        loss = F.softplus(lead).mean()
        if not self._penalised(made):
            return loss
        return loss + EVERY * self.gamma / 2 * self._slopes(networks, fake, real, t, made)

    def _slopes(self, networks: Model, fake: Tensor, real: Tensor, t: Tensor, made: Made) -> Tensor:
        """The squared slopes of the scores at images of both kinds: the mean over the images."""
        points = [images.detach().requires_grad_() for images in (fake, real)]
        scores = [self._scores(networks, images, t, made).sum() for images in points]
        slopes = torch.autograd.grad(scores, points, create_graph=True)
        return torch.stack([slope.flatten(1).square().sum(1).mean() for slope in slopes]).sum()

    def _points(self, made: Made, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points from the student's images and from real ones, both of the shard, at the same new
        times, and these."""
        count, device = len(made.real), made.real.device
        t = self.latest * torch.rand(count, generator=made.generator, device=device)
        clean = torch.rand(count, generator=made.generator, device=device) < self.clean
        t = torch.where(clean, 0.0, t)
        fake = made.on_path(self.path, images, t).x
        real = self.path.sample(made.real, t, made.generator).x
        real, t = of_shard(made.shard, real, t)
        return fake, real, t

    def _scores(self, networks: Model, x: Tensor, t: Tensor, made: Made) -> Tensor:
        return networks(x, t, made.own_labels, network=self.network)

    def _penalised(self, made: Made) -> bool:
        if self.gamma == 0:
            return False
        device = made.real.device
        return bool(torch.rand((), generator=made.generator, device=device) < 1 / EVERY)
