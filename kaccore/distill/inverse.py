"""Inverse distillation: a one-step generator whose samples the frozen teacher would be the right
field for.

    G(z) = z - u_G(z, 1),  z ~ prior                     one Euler step over the whole path
    x_t, u_t = the path's point and velocity from G(z)   t uniform on (0, 1]
    min over G of  E |u_T(x_t) - u_t|^2 - min over u_F of E |u_F(x_t) - u_t|^2  =  E |u_T(x_t) - u_F(x_t)|^2

The fake field u_F learns the field of G's samples by flow matching; the two terms are equal, and
the whole is zero, where it is the teacher's. The continuous parent of IDLM (arXiv 2602.19066), and
for velocity fields the loss of flow generator matching (FGM, arXiv 2410.19310) and of score
identity distillation (SiD, arXiv 2404.04057).

The generator's loss. With the optimal fake field frozen, the difference inside the mean is

    |u_T - u_t|^2 - |u_F - u_t|^2  =  |u_T - u_F|^2 + 2 (u_T - u_F) . (u_F - u_t)

and its gradient goes through x_t and u_t both: either moves with G(z), by f and by f', on every
path, and no path's noise depends on the data. We take the second term alone, as FGM and SiD (alpha
= 1) do: the first pulls samples to where a fake field that stood still would agree with the
teacher. Measured on four 2-D normals, 24 runs each of 1000 steps (batch 128, Adam at 3e-3,
gradients clipped to 1): runs that lost one of the four, and the worst energy distance to the data,
of which one Euler step of the teacher has 0.15 to 0.7.

                                        Kac         flow matching   diffusion (sqrt)   diffusion (vp)
    both terms                          0, 0.02     0, 0.02         4, 0.41            2, 0.25
    the second alone                    0, 0.02     0, 0.02         0, 0.04            0, 0.03
    gradient u_T - u_F on x_t           16, 0.68    0, 0.06         5, 0.13            2, 0.10

The third stands for that of the KL divergence (DMD, arXiv 2311.18828), since for normal noise u_T -
u_F is the difference of the scores times a negative function of t. Kac noise has that only in the
diffusion limit. Where the fake field equals the teacher, the gradient of each of the three is zero
for every sample, and not in the mean alone.

Clip the gradients: without it runs of all three lose modes. And start G from a one-step student of
the teacher where there is one (the end of an endpoint chain): so started no run of 150 lost a mode;
from the teacher itself, whose one step ends in the middle of everything, about one of fifty does,
and one of some 200 ran away altogether."""

from functools import partial

import torch
from torch import Generator, Tensor, nn

from kaccore.guidance import GuidedVelocity, Model
from kaccore.losses import flow_matching_loss
from kaccore.paths import Path
from kaccore.tensors import ALL, of_shard


class InversePair(nn.Module):
    """The two networks that learn together, each called (x, t, labels): the fake field starts from
    the teacher's weights, the generator from a one-step student's or, less safely, from the
    teacher's.

    Called as a model it is the generator's velocity, to be sampled in one Euler step; `fake=True`
    asks the fake field."""

    def __init__(self, generator: nn.Module, fake: nn.Module) -> None:
        super().__init__()
        self.generator, self.fake = generator, fake

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, fake: bool = False
    ) -> Tensor:
        return (self.fake if fake else self.generator)(x, t, labels)


class InverseDistiller:
    """The loss of an `InversePair` over a frozen `teacher(x, t, labels)` with `guidance` (1 =
    none).

    A guided teacher's generator carries the guidance in its one evaluation, and so does the fake
    field."""

    def __init__(self, teacher: Model, path: Path, *, guidance: float = 1.0) -> None:
        self.teacher = teacher
        self.path = path
        self.guidance = guidance

    def loss(
        self,
        student: Model,
        x0: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """The generator's loss plus the fake field's, each with gradients for its own weights
        alone, so that one optimiser serves both. Of the data only the shape and the `labels` are
        used: the images are G's own. Of several workers each computes its `shard` of the batch.

        The value is the fake field's flow matching loss: the generator's part adds its gradient and
        zero."""
        z, mine = of_shard(shard, self.path.prior(x0.shape, generator).to(x0), labels)
        images = z - student(z, torch.ones(len(z), device=z.device), mine)
        whole = torch.zeros_like(
            x0
        )  # the path's noise is drawn for all; the others' images do not matter here
        whole[shard] = images.detach()
        pull = self.pull(student, whole, labels, generator, shard)[shard]
        fake_loss = flow_matching_loss(
            partial(student, fake=True), self.path, whole, labels, generator, shard
        )
        return fake_loss + ((images - images.detach()) * pull).mean()

    @torch.enable_grad()
    def pull(
        self,
        student: Model,
        images: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """The gradient of 2 (u_T - u_F) . (u_F - u_t) in each of the generator's `images` (B, ...)
        of the `shard`, shaped as they all are; no network's weights get any."""
        images = images.detach().requires_grad_()
        t = 1 - torch.rand(len(images), generator=generator, device=images.device)
        x, u, t, labels = of_shard(shard, *self.path.sample(images, t, generator), t, labels)
        real, fake = (
            GuidedVelocity(self.teacher, labels, self.guidance)(x, t),
            student(x, t, labels, fake=True),
        )
        loss = 2 * ((real - fake) * (fake - u)).sum()
        return torch.autograd.grad(loss, images)[0]
