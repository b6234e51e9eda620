import torch
from hypothesis import settings

# The same examples on every run, and no limit on the time one of them takes: a busy machine is not
# a fault.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

torch.set_num_threads(
    1
)  # these networks are tiny: two threads that wait for each other take ten times as long
