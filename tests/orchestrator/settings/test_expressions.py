from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.settings.experiment import Experiment
from orchestrator.settings.expressions import Expression
from orchestrator.settings.space import sweepable

SETTINGS = sweepable(Experiment)
VALUES = {"path.damping": 25.0, "path.speed": 2.0, "sampling.model": "teacher", "teacher.label_dropout": None,
          "distill.intervals": [20, 4], "sampling.steps": 4}  # fmt: skip


def holds(text: str, **changed: Any) -> bool:
    return Expression(text, SETTINGS).holds(lambda key: {**VALUES, **changed}[key])


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("damping * 1 >= speed", True),
        ("path.damping / path.speed < 12", False),
        ("sampling.model == 'teacher' and sampling.steps in [1, 2, 4]", True),
        ("not label_dropout", True),
        ("label_dropout != null", False),
        ("1 < speed < damping", True),
        ("1 < speed < 2 or damping == 25", True),
        ("-speed + 3 * (damping - 24) == 1", True),
        ("distill.intervals == [20, 4]", True),
        ("damping // 10 == 2 and damping % 10 == 5", True),
        ("sampling.model not in ['student']", True),
    ],
)
def test_an_expression_is_true_or_false_of_settings(text, truth):
    assert holds(text) is truth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("damping > 'a'", r"cannot be evaluated with path\.damping = 25\.0: '>' not supported"),
        ("label_dropout + 1 > 0", r"teacher\.label_dropout = null: arithmetic needs numbers"),
        ("'a' * 999999999 == 'b'", "arithmetic needs numbers"),
        ("damping / (speed - 2) > 1", "division by zero"),
    ],
)
def test_what_cannot_be_computed_is_said_with_the_values(text, message):
    with pytest.raises(ValueError, match=message):
        holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "damping.__class__", "(lambda: 1)()", "[x for x in [1]]", "f'{damping}'",
        "damping := 3", "speed if damping else 1", "{1: 2}", "damping[0]", "2 ** 99999999", "1 << 99", "b'a' == 1",
        "...", "a" * 501, "", "(" * 300,
    ],
)  # fmt: skip
def test_nothing_can_be_called_or_reached(text):
    with pytest.raises(ValueError):
        Expression(text, SETTINGS)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_refused(text):
    try:
        expression = Expression(text, SETTINGS)
    except ValueError:
        return
    assert set(expression.keys) <= set(SETTINGS)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_constraint_agrees_with_python(damping, speed):
    values = {"path.damping": damping, "path.speed": speed}
    assert holds("damping * 2 - 1 >= speed", **values) is (damping * 2 - 1 >= speed)
