from pathlib import Path
from typing import Any

import pytest
import torch
from stages import own_keys

from kaccore.data import load
from orchestrator.plan.plan import Plan, alike, make
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.work import building, forecast

DATA = load("digits")


def plan(**blocks: Any) -> Plan:
    config = {
        "name": "f", "data": {"name": "digits"}, "path": {"kind": "kac"},
        "model": {"channels": 8, "multipliers": [1], "patch": 4}, "teacher": {"steps": 200, "batch_size": 16},
        "distill": {"intervals": [4, 2], "teacher_steps": 8, "steps": 100, "batch_size": 16},
        "evaluation": {"samples": 64}, "sweep": {"space": {"sampling.steps": {"grid": [4, 2]}}},
    }  # fmt: skip
    return make(parse(own_keys({**config, **blocks})), alike(DATA.fingerprint, "digits-cnn-v1"))


def test_the_parameters_are_those_of_the_network(tmp_path: Path):
    planned = plan()
    found = forecast.forecast(planned, Store(tmp_path), 2)
    network = building.network(planned.trials[0].chain[0], DATA)
    assert found.parameters == sum(weights.numel() for weights in network.parameters())
    assert found.state_bytes == found.parameters * 24  # a student with its teacher takes most
    assert found.memory_bytes > torch.finfo(torch.float32).bits // 8 * found.parameters


def test_the_time_is_that_of_all_steps_and_of_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        forecast, "_step_seconds", lambda stage, data: 0.1 if stage.kind == "teacher" else 0.2
    )
    monkeypatch.setattr(forecast, "_evaluation_seconds", lambda *given: 1.0)
    one, two = (forecast.forecast(plan(), Store(tmp_path), at_once) for at_once in (1, 2))
    training = 200 * 0.1 + 100 * 0.2 + 100 * 0.2
    assert one.seconds == pytest.approx(forecast.START_SECONDS + training + 4 + 2)
    assert two.seconds == pytest.approx(
        forecast.START_SECONDS + training + 2
    )  # one chain: no less than all of it
    assert one.step_seconds == pytest.approx(training / 400)


def test_what_the_store_has_takes_no_time(tmp_path: Path):
    planned, store = plan(), Store(tmp_path)
    for stage in planned.stages():
        store.publish(stage, store.gather(stage), 1.0)
    found = forecast.forecast(planned, store, 2)
    assert (found.seconds, found.parameters) == (0.0, 0)
    assert forecast.in_words(found, 2) == []


@pytest.mark.parametrize("kind", ["endpoint", "progressive", "consistency", "flow_map", "matching"])
def test_steps_of_every_distiller_are_timed(tmp_path: Path, kind: str):
    block = {"kind": kind, "intervals": [4, 2, 1], "teacher_steps": 8, "steps": 3, "batch_size": 16}
    space = {"space": {"sampling.steps": {"grid": [1]}}}
    planned = plan(distill=block, sampling={"model": "student", "steps": 1}, sweep=space)
    found = forecast.forecast(planned, Store(tmp_path), 1)
    assert found.seconds is not None and found.seconds > forecast.START_SECONDS
    (network, estimate) = forecast.in_words(found, 1)
    assert f"{found.parameters:,} parameters" in network and "from steps timed here" in estimate


def test_of_a_large_network_the_operations_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forecast, "LARGEST", 1000.0)
    monkeypatch.setattr(forecast, "_rate", lambda: 1e9)
    planned = plan(model={"kind": "mlp", "channels": 32, "depth": 1})
    found = forecast.forecast(planned, Store(tmp_path), 2)
    model = building.network(planned.trials[0].chain[0], DATA)
    products = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    a_pass = 2 * sum(products)  # of one image: a multiplication and an addition a weight
    training = (
        16 * a_pass * (200 * 3 + 100 * (3 + 2) + 100 * (3 + 2))
    )  # two steps of ab2, then two of Euler
    sampling = 64 * a_pass * (4 + 2)
    assert found.operations == pytest.approx(training + sampling)
    longest = training + 64 * a_pass * 2
    assert found.seconds == pytest.approx(forecast.START_SECONDS + longest / 1e9)
    assert "operations counted and 1 GFLOP/s" in forecast.in_words(found, 2)[-1]
