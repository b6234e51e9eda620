"""torch's Adam without torch's compiler.

torch.optim marks its methods as none of the compiler's business, and imports the compiler to say
so: 1.4 s and 70 MB in each process that trains, before its first step. Nothing here compiles an
optimiser, so the methods behind the marks do."""

import inspect

import torch
from torch.optim import Adam as _Adam
from torch.optim import Optimizer


class Adam(_Adam):
    """torch.optim.Adam, number for number, which torch.compile is to leave alone."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(_Adam.step))
