"""How many network evaluations (NFE) the solvers take, without torch: a driver counts them too."""

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "ab2": 1, "rk4": 4}  # of one step
