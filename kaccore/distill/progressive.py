"""Progressive distillation (Salimans and Ho, arXiv 2202.00512, algorithm 2) for velocity fields: a
student's one Euler step on the grid of M intervals is two steps of the teacher on the grid of 2M.

    t_n = 1 - n/M;  y = teacher from t_n over (t_n + t_{n+1})/2 to t_{n+1};  loss = ( u(x, t_n) - (x
    - y) M )^2

A chain halves M from stage to stage, 2^k ... 2, 1, each stage's teacher the student before it.

Weight: the paper predicts x_0 under max(SNR, 1) or SNR + 1, the latter being the plain square in v.
Here the plain square in u stands for it: with x_t = (1 - t) x_0 + t eps an error d in x_0 is d/t in
u, so the weight is 1/t^2, which is SNR + 1 = ((1 - t)^2 + t^2)/t^2 up to a factor between 1 and 2.
Kac noise has no such x_0 view of u; u serves all."""

from kaccore.distill.endpoint import EndpointDistiller
from kaccore.guidance import Model
from kaccore.paths import Path


class ProgressiveDistiller(EndpointDistiller):
    """The endpoint distiller on its velocity target with two teacher steps in each of the student's
    `intervals`.

    `solver` and `guidance` are the teacher's: later stages have students for teachers, whose steps
    are Euler's and whose guidance is in them already. `huber` and the ValueErrors are
    EndpointDistiller's."""

    def __init__(
        self,
        teacher: Model,
        path: Path,
        *,
        intervals: int,
        solver: str = "euler",
        guidance: float = 1.0,
        huber: float | None = None,
    ) -> None:
        super().__init__(
            teacher,
            path,
            intervals=intervals,
            substeps=2,
            solver=solver,
            guidance=guidance,
            huber=huber,
        )
