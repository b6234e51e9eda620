import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.fields.faults import ConfigError
from orchestrator.fields.schema import leaves
from orchestrator.settings import yaml_reader
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import load, override, parse

BAD_INPUT = sorted((Path(__file__).parent / "bad_input").glob("*.yaml"))

CONTRACT = """\
name: nfe-sweep
seed: 0
storage: runs
data: {name: digits}                         # digits | mnist | cifar10 | celeba64 | lsun_bedroom256 | folder
path: {kind: kac, damping: 25.0, speed: 2.0, signal: linear, clock: linear}
model: {kind: unet, channels: 32, multipliers: [1, 2], blocks: 1, attention: [], dropout: 0.0}
teacher: {steps: 1500, batch_size: 128, lr: 2.0e-3, ema: 0.999, label_dropout: 0.1}
distill: {kind: endpoint, intervals: [20, 4, 2, 1], teacher_steps: 100, teacher_solver: ab2, steps: 400, \
batch_size: 128, lr: 5.0e-4, target: velocity}
sampling: {model: student, solver: euler, steps: 4, guidance: 1.0}
evaluation: {samples: 1797, metrics: [fid, kid], features: auto, seeds: 1}
cluster: {workers: 1, cpus_per_worker: 1, gpus_per_worker: 0}
tracking: {uri: null}                        # null: the embedded store
sweep:
  metric: fid
  mode: min
  search: grid                               # grid | random | optuna
  num_trials: null                           # random, optuna: how many
  scheduler: none                            # none | asha
  max_concurrent_trials: 2
  space:
    sampling.model: {grid: [teacher, student]}
    sampling.steps: {grid: [1, 2, 4, 20]}
"""
SHORT = "name: short\ndata: {name: digits}\npath: {kind: kac}\n"


def contract() -> dict:
    return yaml_reader.load_text(CONTRACT, "contract")


def refusal(text: str, tmp_path: Path, *overrides: str) -> list[str]:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file, overrides)
    return str(refused.value).replace(str(tmp_path) + "/", "").split("\n")


@pytest.mark.parametrize("file", BAD_INPUT, ids=lambda file: file.stem)
def test_bad_file_is_refused_with_the_expected_words(file):
    wanted = re.findall(r"^# expect: (.*)$", file.read_text(), re.MULTILINE)
    with pytest.raises(ConfigError) as refused:
        load(file)
    lines = str(refused.value).split("\n")
    assert wanted
    for pattern in wanted:
        assert any(re.search(pattern, line) for line in lines), (
            f"{pattern!r} not in:\n" + "\n".join(lines)
        )
    assert len(lines) == len(refused.value.faults) == len(wanted), "\n".join(lines)
    assert all(line.startswith(str(file)) for line in lines)


def test_contract_parses_and_survives_the_round_trip(tmp_path):
    file = tmp_path / "nfe.yaml"
    file.write_text(CONTRACT)
    experiment = load(file)
    assert experiment == parse(contract())
    assert experiment.path.damping == 25.0
    assert experiment.distill.intervals == (20, 4, 2, 1)
    assert experiment.sweep.space["sampling.steps"].values == (1, 2, 4, 20)
    file.write_text(experiment.to_yaml())
    assert load(file) == experiment


def test_defaults_are_the_contracts_values():
    short, full = parse(yaml_reader.load_text(SHORT, "short")), parse(contract())
    assert short.model_dump(exclude={"name", "sweep"}) == full.model_dump(exclude={"name", "sweep"})
    assert short.sweep is None


def test_defaults_are_valid_values():
    defaults = parse(yaml_reader.load_text(SHORT, "short"))
    assert parse(defaults.model_dump(mode="json")) == defaults


def test_every_setting_is_described():
    assert [
        key for key, field in leaves(Experiment).items() if len(field.description or "") < 10
    ] == []


def test_all_faults_are_told_at_once_each_on_a_line(tmp_path):
    text = "name: a\ndata: {name: digits}\npath: {kind: kac, damping: -1, dampng: 2}\nsampling: {steps: 3}\nseed: x\n"
    assert refusal(text, tmp_path) == [
        'x.yaml: seed: got "x", expected an integer >= 0 and <= 4294967295',
        "x.yaml: path.damping: got -1, expected a number > 0",
        'x.yaml: path.dampng: unknown key "dampng", did you mean "damping"?',
        "x.yaml: sampling.steps: got 3, expected one of 20, 4, 2, 1: "
        "a student has the step counts of distill.intervals",
    ]


def test_a_rule_whose_fields_are_wrong_stays_silent(tmp_path):
    lines = refusal(SHORT + "distill: {intervals: [3, 2]}\nsampling: {steps: 7}\n", tmp_path)
    assert len(lines) == 1
    assert "distill.intervals" in lines[0]


def test_whole_numbers_are_numbers_and_are_kept_as_floats():
    experiment = override(parse(contract()), {"path.damping": 3})
    assert experiment.path.damping == 3.0
    assert isinstance(experiment.path.damping, float)


def test_an_experiment_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse(contract()).path.damping = 1.0


def test_overrides_are_read_as_yaml(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(CONTRACT)
    texts = [
        "path.damping=5.0",
        "distill.intervals=[10, 5]",
        "sampling.steps=5",
        "sweep=null",
        "name=other",
    ]
    experiment = load(file, texts)
    assert (experiment.path.damping, experiment.distill.intervals, experiment.sampling.steps) == (
        5.0,
        (10, 5),
        5,
    )
    assert (experiment.sweep, experiment.name) == (None, "other")


def test_an_override_reaches_a_key_of_the_sweep(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(SHORT)
    experiment = load(file, ["sweep.space.path.damping={grid: [1, 2]}", "sweep.metric=kid"])
    assert experiment.sweep.metric == "kid"
    assert experiment.sweep.space["path.damping"].values == (1, 2)


@pytest.mark.parametrize(
    "override, expected",
    [
        ("path.damping=-1", "--set path.damping=-1: path.damping: got -1, expected a number > 0"),
        ("teacher.lr=2e-4", '--set teacher.lr=2e-4: teacher.lr: got "2e-4", .*write 2.0e-4'),
        (
            "path.dampng=1",
            '--set path.dampng=1: path.dampng: unknown key "dampng", did you mean "damping"',
        ),
        ("lr=1", '--set lr=1: lr: unknown key "lr", did you mean "teacher.lr" or "distill.lr"'),
        (
            "sampling.steps=7",
            "--set sampling.steps=7: sampling.steps: got 7, expected one of 20, 4, 2, 1",
        ),
        (
            "distill.intervals=[20]",
            r"--set distill.intervals=\[20\]: sampling.steps: got 4, expected one of 20",
        ),
        ("seed", "--set seed: expected KEY=VALUE"),
        ("=1", "--set =1: expected KEY=VALUE"),
        ("seed=", "--set seed=: seed: the value is missing: write null for no value"),
        ("data=[", r"--set data=\[: line 1, column 2: "),
        ("seed=010", "--set seed=010: line 1, column 1: YAML 1.1 reads 010 in base 8"),
        (
            "storage=!!python/name:os.system",
            "--set .*: the tag !!python/name:os.system is not allowed",
        ),
        (
            "sweep.space.seed={grid: [1, -1]}",
            "--set .*: sweep.space.seed: value -1: got -1, expected an integer",
        ),
    ],
)
def test_a_bad_override_is_named_by_its_text(override, expected, tmp_path):
    lines = refusal(SHORT, tmp_path, override)
    assert len(lines) == 1
    assert re.match(expected, lines[0]), lines[0]


def test_faults_of_the_file_and_of_overrides_come_together(tmp_path):
    lines = refusal(SHORT + "seed: -1\n", tmp_path, "path.speed=x", "nothing", "modle.blocks=2")
    assert [line.split(": ")[0] for line in lines] == [
        "--set nothing", "--set modle.blocks=2", "x.yaml", "--set path.speed=x",
    ]  # fmt: skip


def test_override_returns_a_new_checked_experiment():
    experiment = parse(contract())
    other = override(experiment, {"path.kind": "diffusion", "sweep": None})
    assert (other.path.kind, other.sweep, experiment.path.kind) == ("diffusion", None, "kac")
    with pytest.raises(
        ConfigError, match=r"override sampling\.steps=3: sampling\.steps: got 3, expected one of"
    ):
        override(experiment, {"sampling.steps": 3})


def test_value_is_plain():
    experiment = parse(contract())
    assert experiment.value("distill.intervals") == [20, 4, 2, 1]
    assert experiment.value("seed") == 0


@pytest.mark.parametrize(
    "raw, expected",
    [
        (b"name: \xff\xfe\n", "line 1: not UTF-8 text (byte 0xff at offset 6)"),
        (
            "name: é\n".encode("utf-16"),
            "UTF-16 text, as Windows writes it, expected UTF-8: save the file as UTF-8",
        ),
        ("name: é\n".encode("utf-16-be"), "UTF-16 text, as Windows writes it"),
        (b"name: x\ndata:\n  name:\tdigits\n", "line 3, column 8: a tab, write a space"),
        (b"name: x\ndata:\n\tname: digits\n", "line 3, column 1: a tab, indent with spaces"),
        (b"a: 1\nname: a\x00b\n", "line 2: character U+0000 is not allowed in YAML"),
        (b"#" * 1_000_001, "larger than 1000000 bytes"),
        (b"", "the file is empty"),
        (b"[" * 100_000, "nested deeper than 50 levels"),
    ],
    ids=[
        "not-utf-8",
        "utf-16",
        "utf-16-plain",
        "tab-within",
        "tab-before",
        "nul",
        "large",
        "no-bytes",
        "brackets",
    ],
)
def test_bytes_that_are_no_settings_are_refused(raw, expected, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load(file)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SHORT.encode())
    assert load(file).name == "short"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("absent.yaml", "there is no such file"),
        (".", "this is a directory"),
        ("a\0b", "cannot be read"),
    ],
)
def test_a_path_that_is_no_file_is_refused(name, expected, tmp_path):
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path / name)


def test_a_tag_is_never_executed(tmp_path):
    trace = tmp_path / "executed"
    refusal(SHORT + f"storage: !!python/object/apply:os.mkdir [{trace}]\n", tmp_path)
    assert not trace.exists()


def test_aliases_and_merges_of_sound_size_are_read(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        SHORT + "teacher: &t {batch_size: 64, lr: 1.0e-3}\ndistill: {<<: *t, lr: 1.0e-4}\n"
    )
    experiment = load(file)
    assert (experiment.distill.batch_size, experiment.distill.lr, experiment.teacher.lr) == (
        64,
        1.0e-4,
        1.0e-3,
    )


def test_a_date_is_text(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(SHORT.replace("short", "2026-02-30"))
    assert load(file).name == "2026-02-30"


def test_config_error_survives_pickling():
    with pytest.raises(ConfigError) as refused:
        parse({"name": 3})
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.faults, str(again)) == (refused.value.faults, str(refused.value))


def test_a_refusal_needs_nothing_heavy():
    code = (
        "import sys; from orchestrator.plan import expand; from orchestrator.settings import loading, yaml_reader;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'kaccore', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just({})
    | st.just(0).map(lambda _: 10**5000),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """The contract's settings with up to four places deleted, replaced or added to."""
    data = copy.deepcopy(contract())
    for _ in range(draw(st.integers(1, 4))):
        place: object = data
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place, key=str)))
            action = draw(st.sampled_from(["descend", "descend", "delete", "replace", "add"]))
            if action == "descend" and isinstance(place[key], dict):
                place = place[key]
                continue
            if action == "delete":
                del place[key]
            elif action == "add":
                place[draw(st.text(max_size=8) | st.sampled_from(sorted(leaves(Experiment))))] = (
                    draw(ODD)
                )
            else:
                place[key] = draw(ODD)
            break
    return data


@settings(max_examples=150, deadline=None)
@given(mutated())
def test_damaged_settings_raise_config_error_or_are_sound(data):
    try:
        experiment = parse(data, "damaged")
    except ConfigError as error:
        assert error.faults
        assert len(str(error).split("\n")) == len(error.faults)
    else:
        assert parse(yaml_reader.load_text(experiment.to_yaml(), "again")) == experiment


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(list("ab:-[]{}&*!<|>\n #'\"?,%")), max_size=40).map("".join)
)
def test_any_text_is_yaml_or_a_config_error(text):
    try:
        yaml_reader.load_text(text, "text")
    except ConfigError as error:
        assert error.faults
