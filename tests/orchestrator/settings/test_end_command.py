"""`tracking.on_end`: which commands are taken, and that no value of a placeholder becomes code."""

import subprocess

import pytest

from orchestrator.fields.end_command import MEANINGS, checked_command, filled
from orchestrator.settings import loading

HOSTILE = 'a b\' "$(touch made)" `touch made`; touch made & {name} \\'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("notify-send {nam}", "unknown placeholder {nam} (did you mean {name}?)"),
        ("x {zzz}", "unknown placeholder {zzz}, expected any of {name}, {id}"),
        ('echo "{report}"', "got {report} within quotes"),
        ("echo 'it is {name}'", "as in 'run '{name}' ended'"),
        ("echo 'a' \"b {name}\"", "within quotes"),
        ('echo "a\\" {name}"', "within quotes"),
        ("echo 'a", "a second ' that closes the first"),
        ("   ", "expected a command"),
        ("curl https://ann:geheim@host/x", "such as $WEBHOOK"),
    ],
)
def test_a_command_that_cannot_be_right_is_refused(text, expected):
    with pytest.raises(ValueError) as refused:
        checked_command(text)
    assert expected in str(refused.value) and "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        'notify-send {name} {status} "as \\" asked"',
        'curl --data \'{"text": "\'{name}\'"}\' "$WEBHOOK"',
        "echo ${HOME} ${name} | awk '{ print $1 }'",
        "echo it\\'s {name}",
    ],
)
def test_what_is_the_shells_own_is_taken_as_it_is(text):
    assert checked_command(text) == text


def test_a_value_is_one_word_whatever_it_contains(tmp_path):
    command = checked_command("printf '%s\\n' {report} {name}'-'{status} 'x'{id}'y' {verdict}")
    values = dict.fromkeys(MEANINGS, HOSTILE)
    said = subprocess.run(
        filled(command, values), shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.splitlines() == [HOSTILE, f"{HOSTILE}-{HOSTILE}", f"x{HOSTILE}y", HOSTILE]
    assert not list(tmp_path.iterdir())


def test_variables_of_the_environment_are_kept_for_the_shell(tmp_path, monkeypatch):
    """What is stored with the results has the name of the variable, and not its value."""
    monkeypatch.setenv("WEBHOOK", "https://secret")
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: a\ndata: {name: digits}\npath: {kind: kac}\n"
        "tracking: {on_end: 'curl --data {name} \"$WEBHOOK\"'}\n"
    )
    read = loading.load(file)
    assert read.tracking.on_end == 'curl --data {name} "$WEBHOOK"'
    assert "secret" not in read.to_yaml() and loading.parse(read.model_dump(mode="json")) == read
