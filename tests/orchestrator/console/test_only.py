"""What `--only` means where a value is none of the sweep's."""

import made_up
import pytest

from orchestrator.console import overrides
from orchestrator.fields.faults import ConfigError


def test_every_value_of_only_has_to_be_of_the_sweep():
    plan = made_up.plan({"sampling.steps": [2, 4], "path.damping": [9.0, 25.0]})
    assert overrides.selected_trials(plan, ["sampling.steps=[2,4]", "path.damping=9.0"]) == {
        t.index for t in plan.trials if t.overrides["path.damping"] == 9.0
    }
    for text, got in (("[2,9]", "9"), ("[2, 9, many]", '9, "many"'), ("9", "9")):
        with pytest.raises(ConfigError) as refused:
            overrides.selected_trials(plan, [f"sampling.steps={text}"])
        expected = f"got {got}, which no trial has, expected some of 2, 4"
        assert str(refused.value) == f"--only sampling.steps={text}: sampling.steps: {expected}"
