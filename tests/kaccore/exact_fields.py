"""Velocity fields that are known exactly, for tests of what is built on a velocity."""

import torch

from kaccore.paths import KacPath


class PointData:
    """The exact marginal velocity of a path for data at `points` of equal weight in one dimension.

    Where rounding or a solver's error puts x outside every light cone, it belongs to the edge of
    the nearest."""

    def __init__(self, path: KacPath, points: list[float]) -> None:
        self.path, self.points = path, points

    def __call__(self, x, t, labels=None):
        t = t.double()
        f, g = (
            v.reshape(-1, *[1] * (x.ndim - 1))
            for v in (self.path.signal(t).value, self.path.clock(t).value)
        )
        df, dg = (
            s(t).derivative.reshape(-1, *[1] * (x.ndim - 1))
            for s in (self.path.signal, self.path.clock)
        )
        noise = [x.double() - f * point for point in self.points]
        process, edge = self.path.process, self.path.process.speed * g * (1 - 1e-6)
        log_weight, fields = [], []
        for point, k in zip(self.points, noise, strict=True):
            log_p = process.density(k, g.flatten()).clamp_min(1e-300).log()
            log_weight.append(torch.where(k.abs() < edge, log_p, -1e4 * (1 + k.abs() - edge)))
            fields.append(
                df * point + dg * process.velocity(k, g.flatten(), straight=k.abs() >= edge)
            )
        return (torch.stack(log_weight).softmax(0) * torch.stack(fields)).sum(0).to(x.dtype)
