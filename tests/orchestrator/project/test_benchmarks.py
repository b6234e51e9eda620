"""The benchmarks measure what they say; how fast anything is is no test's matter."""

import importlib
import json

import pytest
import scipy.stats
import torch

from benchmarks import __main__ as command
from benchmarks import draws, sampling, scaling, table_sampler, training
from benchmarks.measure import ONCE, Measurement, in_turns, ratio
from benchmarks.table_sampler import TableSampler
from kaccore.process import KacProcess
from kaccore.tensors import generator_for


@pytest.fixture
def small_table(monkeypatch):
    monkeypatch.setattr(table_sampler, "TIMES", 101)
    monkeypatch.setattr(table_sampler, "LEVELS", 1_025)


@pytest.fixture
def small_calls(monkeypatch):
    narrow = training.Network(8, 1, 8, {**training.DIGITS, "channels": 32})
    papers = {**training.KF, "channels": 32, "multipliers": (1, 2), "blocks": 1}
    monkeypatch.setitem(training.NETWORKS, "128 channels", narrow)
    monkeypatch.setitem(training.NETWORKS, "34 M, KF", training.Network(8, 3, 2, papers))
    monkeypatch.setattr(draws, "BATCH", 8)
    monkeypatch.setattr(training, "SAME", 2)
    monkeypatch.setattr(sampling, "IMAGES", 4)
    monkeypatch.setattr(sampling, "STEPS", 3)


def test_calls_are_timed_in_turns():
    called: list[str] = []
    first, second = in_turns(
        lambda: called.append("a"), lambda: called.append("b"), repeats=3, warm_up=1
    )
    assert called == ["a", "b"] * 4
    assert len(first) == len(second) == 3


def test_a_ratio_is_the_median_of_the_rounds_with_its_quartiles():
    assert ratio([1.0, 6.0, 9.0, 8.0, 10.0], [1.0, 3.0, 3.0, 2.0, 2.0]) == (3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    "value, reach, met", [(1.0, "<= 1.03", True), (2.9, ">= 3", False), (5.0, "", None)]
)
def test_a_measurement_knows_whether_it_reaches_what_it_should(value, reach, met):
    assert Measurement("part", "what", "against", value, value, value, "times", reach).met is met


def test_the_table_that_is_compared_with_draws_the_same_law(small_table):
    process, t = KacProcess(25.0, 2.0), 0.3
    x, velocity = TableSampler(process).sample(
        torch.tensor([t]), generator_for(0, "table"), pixels=20_000
    )
    exact = process.sample(t, (20_000,), generator_for(0, "exact")).x
    assert scipy.stats.ks_2samp(x.flatten().numpy(), exact.numpy()).pvalue > 1e-3
    torch.testing.assert_close(velocity, process.velocity(x, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["draws", "training", "sampling", "metrics"])
def test_a_part_gives_figures(part, small_table, small_calls, monkeypatch):
    module = importlib.import_module(f"benchmarks.{part}")
    threads = torch.get_num_threads()
    monkeypatch.setenv(ONCE, "1")
    monkeypatch.setattr(
        module, "_in_new_process", lambda draw: [{"first": 0.1, "memory": 1.0}], raising=False
    )
    try:
        measurements = list(module.measurements())
    finally:
        torch.set_num_threads(threads)
    assert {m.part for m in measurements} == {part}
    assert all(m.value > 0 or "difference" in m.what for m in measurements)
    assert command.table(measurements).row_count == len(measurements)


def test_the_losses_of_plain_training_are_ours(monkeypatch):
    from benchmarks.training import NETWORKS, _ours, _plain

    ours, plain = _ours(NETWORKS["default"]), _plain(NETWORKS["default"])
    for _ in range(3):
        assert ours() == pytest.approx(plain(), rel=1e-5)


def test_every_part_can_be_named_and_others_are_refused(capsys):
    assert all(importlib.import_module(f"benchmarks.{part}").measurements for part in command.PARTS)
    with pytest.raises(SystemExit, match="2"):
        command.main(["nothing"])
    assert "PART: got 'nothing', expected one of draws, " in capsys.readouterr().err


def test_the_command_measures_a_part_in_a_process_of_its_own_and_keeps_its_measurements(
    tmp_path, capfd
):
    assert command.main(["metrics", "--once", "--json", str(tmp_path / "measurements.json")]) == 0
    assert "FID of 500 MNIST images" in capfd.readouterr().out
    (entry,) = json.loads((tmp_path / "measurements.json").read_text())
    assert entry["part"] == "metrics" and entry["value"] > 0


def test_shared_stages_of_the_cifar_table_cost_less_than_each_cell_alone():
    (row,) = zip(
        *(list(column.cells) for column in scaling.gpu_hours("kacflow_cifar10.yaml").columns),
        strict=True,
    )
    assert row[1:3] == ("375", "751")  # 75 teachers, 300 students, 375 evaluations, one reference
    assert float(row[5]) > 1


def test_the_drivers_own_work_is_measured():
    assert scaling.driver_times([20]).row_count == 1
