"""How many workers a group may have, by the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.methods.optimised import Optimised
from orchestrator.settings.blocks import Cluster
from orchestrator.settings.loading import load

FILE = """\
name: x
data: {name: digits}
path: {kind: kac}
teacher: {batch_size: 64}
distill: {batch_size: 48, accumulate: 2}
"""


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("4", [4]),
        ("{min: 2, max: 8}", [2, 4, 8]),
        ("{min: 3, max: 10000}", [4, 8]),
        ("{min: 1, max: 1}", [1]),
    ],
)
def test_a_group_has_equal_shares_of_every_batch(tmp_path, text, sizes):
    (tmp_path / "x.yaml").write_text(FILE)
    experiment = load(tmp_path / "x.yaml", [f"cluster.workers={text}"])
    assert experiment.cluster.group_sizes([experiment.teacher, experiment.distill]) == sizes
    assert experiment.cluster == type(experiment).model_validate(experiment.model_dump()).cluster


@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 4)), max_size=3),
)
def test_sizes_are_those_that_divide(least, more, batches):
    trainings = [
        Optimised(batch_size=images * parts, accumulate=parts) for images, parts in batches
    ]
    cluster = Cluster(workers={"min": least, "max": least + more})
    expected = [
        size
        for size in range(least, least + more + 1)
        if all(images % size == 0 for images, _ in batches)
    ]
    assert cluster.group_sizes(trainings) == expected
    assert (cluster.min_workers, cluster.max_workers) == (least, least + more)
