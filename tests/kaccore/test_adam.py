import subprocess
import sys

import pytest
import torch
from torch import nn

from kaccore.adam import Adam

ONE_STEP = """
import sys
import torch
from kaccore.training import Settings, Training
training = Training(torch.nn.Linear(2, 2), Settings(steps=2, lr=1e-3, ema=0.9))
for step, _ in training.run(lambda model, part: model(torch.ones(1, 2)).square().mean()):
    if step == 1:
        tensors, numbers = training.state()
        training.restore(tensors, numbers)
print(training.step, "torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torchs_number_for_number_also_after_its_state_was_saved(fused):
    models, states = [], []
    for kind in (Adam, torch.optim.Adam):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1))
        optimizer = kind(model.parameters(), lr=1e-2, fused=fused)
        for step in range(20):
            if step == 10:
                state = optimizer.state_dict()
                optimizer = kind(model.parameters(), lr=1e-2, fused=fused)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
        models.append(model)
        states.append(optimizer.state_dict())
    mine, theirs = ([p.detach() for p in model.parameters()] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert all(
        torch.equal(states[0]["state"][i]["exp_avg"], states[1]["state"][i]["exp_avg"])
        for i in range(4)
    )


def test_gradients_are_given_back_and_the_step_leaves_no_graph():
    weight = nn.Parameter(torch.ones(2))
    optimizer = Adam([weight])
    weight.square().sum().backward()
    optimizer.step()
    assert weight.grad is not None and weight.grad_fn is None
    optimizer.zero_grad()
    assert weight.grad is None


def test_training_does_without_torchs_compiler():
    said = subprocess.run(
        [sys.executable, "-c", ONE_STEP], capture_output=True, text=True, timeout=300, check=True
    )
    assert said.stdout.split() == ["2", "False"]
