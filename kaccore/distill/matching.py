"""Matching of distributions: a student is right where the frozen teacher is the velocity field of
its images.

    x = G(z), M Euler steps of the student;  x_t, u_t: the path's point and velocity from x
    fake field w:  min  E |w(x_t) - u_t|^2          it learns the field of the student's images
    student:       min  E |u_T(x_t) - u_t|^2 - E |w(x_t) - u_t|^2

The two terms are equal, and their difference is zero, where w is the teacher's field u_T. This is the
continuous parent of IDLM (arXiv 2602.19066), and for velocity fields the loss of flow generator
matching (FGM, arXiv 2410.19310) and of score identity distillation (SiD, arXiv 2404.04057).

The student's loss. With the fake field frozen, the difference inside the mean is

    |u_T - u_t|^2 - |w - u_t|^2  =  |u_T - w|^2 + 2 (u_T - w) . (w - u_t)

and its gradient goes through x_t and u_t both: either moves with x, by f and by f', on every path,
and no path's noise depends on the data. `first` weights the first term. By default it is 0, as in
FGM and in SiD with alpha = 1 (`first` is 1 - alpha): the first term pulls images to where a fake
field that stood still would agree with the teacher. Measured on four 2-D normals, 24 runs each of
1000 steps (batch 128, Adam at 3e-3, gradients clipped to 1): runs that lost one of the four, and the
worst energy distance to the data, of which one Euler step of the teacher has 0.15 to 0.7.

                                        Kac         flow matching   diffusion (sqrt)   diffusion (vp)
    both terms                          0, 0.02     0, 0.02         4, 0.41            2, 0.25
    the second alone                    0, 0.02     0, 0.02         0, 0.04            0, 0.03
    gradient u_T - w on x_t             16, 0.68    0, 0.06         5, 0.13            2, 0.10

The third stands for that of the KL divergence (DMD, arXiv 2311.18828), since for normal noise u_T -
w is the difference of the scores times a negative function of t. Kac noise has that only in the
diffusion limit. Where the fake field equals the teacher, the gradient of each of the three is zero
for every image, and not in the mean alone.

Real images (RealUID, arXiv 2509.22459) correct what the teacher has wrong. With r_t, v_t the path's
point and velocity from a real image and rho = `ratio`, which is beta / alpha in the paper:

    fake field:  alpha E |w(x_t) - rho u_t|^2 + (1 - alpha) E |w(r_t) - (1 - alpha rho) / (1 - alpha) v_t|^2
    student:     as above, with rho u_t instead of u_t

Its minimum is still where the images are as the data: there w is u_T = E[u_t | x_t].

Clip the gradients: without it runs of all three losses lose modes. And start from a one-step student
of the teacher where there is one (the end of an endpoint chain, or regression on pairs): so started
no run of 150 lost a mode; from the teacher itself, whose one step ends in the middle of everything,
about one of fifty does, and one of some 200 ran away altogether."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kaccore.distill.generated import Made, pulled
from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import Path
from kaccore.tensors import of_shard

FAKE = "fake"


class MatchingLoss:
    """The loss of a student and of the network `FAKE` with it, which is called (x, t, labels) as
    the `teacher` is and starts from its weights.

    `guidance` (1 = none): of the teacher; student and fake field carry it in one evaluation. `first`:
    weight of the first term of the student's loss. `alpha` in (0, 1]: the share of the student's
    images in what the fake field learns, the others are real; `ratio` > 0: rho, 1 without real
    images. Times are uniform on (`earliest`, 1].

    The value is the fake field's loss: the student's part adds its gradient and zero. Raises
    ValueError outside of the ranges."""

    def __init__(
        self,
        path: Path,
        teacher: Model,
        *,
        guidance: float = 1.0,
        first: float = 0.0,
        alpha: float = 1.0,
        ratio: float = 1.0,
        earliest: float = 0.0,
    ) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha = {alpha}: expected > 0 and <= 1")
        if ratio <= 0 or (alpha == 1 and ratio != 1):
            expected = "1: no real images with alpha = 1" if alpha == 1 else "> 0"
            raise ValueError(f"ratio = {ratio}: expected {expected}")
        if not 0 <= earliest < 1:
            raise ValueError(f"earliest = {earliest}: expected >= 0 and < 1")
        self.path = path
        self.teacher = teacher
        self.guidance = guidance
        self.first = first
        self.alpha = alpha
        self.ratio = ratio
        self.earliest = earliest

    def __call__(self, networks: Model, made: Made) -> Tensor:
        loss = self.fake_loss(networks, made)
        if not made.images.requires_grad:
            return loss
        return loss + pulled(made.images, self.pull(networks, made) / made.images.numel())

    def fake_loss(self, networks: Model, made: Made) -> Tensor:
        """The loss of the fake field: flow matching of the student's images, and of real ones."""
        fake = partial(networks, network=FAKE)
        t = self._times(made)
        x, u = made.on_path(self.path, made.images.detach(), t)
        real, v = self.path.sample(made.real, t, made.generator) if self.alpha < 1 else (None, None)
        real, v, t = of_shard(made.shard, real, v, t)
        loss = F.mse_loss(fake(x, t, made.own_labels), self.ratio * u)
        if real is None or v is None:
            return loss
        rest = (1 - self.alpha * self.ratio) / (1 - self.alpha)
        of_real = F.mse_loss(fake(real, t, made.own_labels), rest * v)
        return self.alpha * loss + (1 - self.alpha) * of_real

    @torch.enable_grad()
    def pull(self, networks: Model, made: Made) -> Tensor:
        """The gradient of the student's loss, summed over coordinates, in its images (b, ...); no
        network's weights get any."""
        images = made.images.detach().requires_grad_()
        t = self._times(made)
        x, u = made.on_path(self.path, images, t)
        (t,) = of_shard(made.shard, t)
        labels = made.own_labels
        true = GuidedVelocity(self.teacher, labels, self.guidance)(x, t)
        fake = networks(x, t, labels, network=FAKE)
        loss = 2 * ((true - fake) * (fake - self.ratio * u)).sum()
        if self.first:
            loss = loss + self.first * (true - fake).square().sum()
        return torch.autograd.grad(loss, images)[0]

    def _times(self, made: Made) -> Tensor:
        """New times (B,) for the whole batch."""
        drawn = torch.rand(len(made.real), generator=made.generator, device=made.real.device)
        return 1 - (1 - self.earliest) * drawn
