import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaccore.checkpoint import (
    CorruptFileError,
    file_sha256,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    write_bytes,
    write_json,
    write_tensors,
)

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "mask": torch.tensor([True, False]),
}
NUMBERS = {"step": 12, "loss": 0.1 + 0.2, "note": "Kac, 1974 – é"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("saved"), TENSORS, NUMBERS)


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == TENSORS.keys() and all(
        torch.equal(v, TENSORS[k]) and v.dtype == TENSORS[k].dtype for k, v in tensors.items()
    )


def damaged_copy(saved: Path, folder: Path, suffix: str, damage) -> Path:
    """The checkpoint `saved` copied into `folder`, with the bytes of its `suffix` file changed by
    `damage`."""
    for s in (".json", ".safetensors"):
        data = saved.with_suffix(s).read_bytes()
        (folder / saved.with_suffix(s).name).write_bytes(damage(data) if s == suffix else data)
    return folder / saved.name


def flip(place: float, bit: int):
    def damage(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]

    return damage


places = st.floats(0, 1, exclude_max=True)


def test_what_is_loaded_is_what_was_saved(saved):
    tensors, numbers = load_checkpoint(saved)
    assert same(tensors) and numbers == NUMBERS


def test_views_and_tensors_with_gradients_are_saved_by_value(tmp_path):
    base = torch.arange(6.0, requires_grad=True)
    views = {"transposed": base.reshape(2, 3).T, "part": base[1:3]}
    read = read_tensors(tmp_path / "views", write_tensors(tmp_path / "views", views))
    assert all(torch.equal(read[k], views[k]) for k in views)


@given(places, st.integers(0, 7))
def test_one_flipped_bit_of_the_tensors_is_noticed(saved, tmp_path_factory, place, bit):
    damaged = damaged_copy(saved, tmp_path_factory.mktemp("flip"), ".safetensors", flip(place, bit))
    with pytest.raises(CorruptFileError, match="sha256"):
        load_checkpoint(damaged)


def test_any_flipped_bit_of_the_json_is_noticed_or_changes_nothing(saved, tmp_path):
    data = saved.read_bytes()
    damaged = damaged_copy(saved, tmp_path, "", None)
    noticed = 0
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        damaged.write_bytes(changed)
        try:
            tensors, numbers = load_checkpoint(damaged)
        except CorruptFileError:
            noticed += 1
        else:  # \u00e9 may be spelt \u00E9, a last digit may be beyond what a float keeps
            assert same(tensors) and numbers == NUMBERS
    assert noticed > 0.99 * 8 * len(data)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@given(place=places)
def test_a_truncated_file_is_noticed(saved, tmp_path_factory, suffix, place):
    cut = lambda data: data[: int(place * (len(data) - 1))]  # noqa: E731
    with pytest.raises(CorruptFileError, match=suffix):
        load_checkpoint(damaged_copy(saved, tmp_path_factory.mktemp("cut"), suffix, cut))


@given(st.integers(0, 2000))
def test_a_truncated_tensor_file_is_noticed_without_a_checksum_too(saved, tmp_path_factory, size):
    data = saved.with_suffix(".safetensors").read_bytes()
    path = tmp_path_factory.mktemp("cut") / "tensors"
    path.write_bytes(data[: min(size, len(data) - 1)])
    with pytest.raises(CorruptFileError, match="not a whole safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("text", ["[]", "7", '"step"', "null", "{}", '{"step": 12}'])
def test_a_json_that_describes_no_checkpoint_is_noticed(saved, tmp_path, text):
    with pytest.raises(CorruptFileError, match="json"):
        load_checkpoint(damaged_copy(saved, tmp_path, ".json", lambda _: text.encode()))


def test_numbers_that_json_spells_otherwise_are_still_the_ones_written(tmp_path):
    odd = {"step": 1, "losses": (0.5, float("inf")), "by size": {10: "b", 2: "a"}}
    numbers = load_checkpoint(save_checkpoint(tmp_path, TENSORS, odd))[1]
    assert numbers == {"step": 1, "losses": [0.5, float("inf")], "by size": {"10": "b", "2": "a"}}


def test_a_missing_file_is_named(saved, tmp_path):
    alone = damaged_copy(saved, tmp_path, "", None)
    alone.with_suffix(".safetensors").unlink()
    with pytest.raises(CorruptFileError, match=r"safetensors is missing"):
        load_checkpoint(alone)
    with pytest.raises(CorruptFileError, match=r"step-00000099\.json"):
        load_checkpoint(tmp_path / "step-00000099.json")


def test_tensors_of_another_checkpoint_are_not_taken_for_ones_own(saved, tmp_path):
    other = save_checkpoint(tmp_path, {"weight": torch.zeros(2)}, {"step": 12})
    mixed = damaged_copy(
        saved, tmp_path, ".safetensors", lambda _: other.with_suffix(".safetensors").read_bytes()
    )
    with pytest.raises(CorruptFileError, match="sha256"):
        load_checkpoint(mixed)


def test_there_is_no_json_where_the_tensors_could_not_be_written(tmp_path):
    (tmp_path / "step-00000012.safetensors" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        save_checkpoint(tmp_path, TENSORS, NUMBERS)
    assert not list(tmp_path.glob("*.json"))


def test_tensors_without_their_json_are_no_checkpoint_but_whole(tmp_path):
    (tmp_path / "step-00000012.json" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        save_checkpoint(tmp_path, TENSORS, NUMBERS)
    assert same(read_tensors(tmp_path / "step-00000012.safetensors"))
    with pytest.raises(CorruptFileError):
        load_checkpoint(tmp_path / "step-00000012.json")


def test_writing_replaces_a_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    for content in (b"a long first version", b"short", b""):
        assert (
            write_bytes(path, content) == hashlib.sha256(content).hexdigest() == file_sha256(path)
        )
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_saving_again_replaces_the_checkpoint_of_the_same_step(tmp_path):
    save_checkpoint(tmp_path, {"weight": torch.zeros(2)}, {"step": 12})
    assert same(load_checkpoint(save_checkpoint(tmp_path, TENSORS, NUMBERS))[0])
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoints_sort_by_step(tmp_path):
    paths = [save_checkpoint(tmp_path, TENSORS, {"step": step}) for step in (9, 10, 100_000, 0)]
    steps = [load_checkpoint(path)[1]["step"] for path in sorted(paths)]
    assert steps == [0, 9, 10, 100_000]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json_comes_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    assert write_json(path, value) == file_sha256(path)
    assert json.loads(path.read_text()) == value
