"""Words of the command line that were renamed."""

import pytest
from fake_environment import tuner_process

from tuner.cli.app import app
from tuner.cli.renamed import NEW_WORDS, renamed_word


@pytest.mark.parametrize(("command", "old"), NEW_WORDS)
def test_an_old_word_is_refused_with_the_new_one(command: str, old: str) -> None:
    """Nothing else is done, and the exit code is that of faulty usage."""
    done = tuner_process(command, old, code=2)
    assert (done.out, done.err) == ("", f"tuner: {old} is now {NEW_WORDS[command, old]}.\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["serve", "MODEL", "--strict"],
        ["serve", "--store", "--strict", "MODEL"],
        ["plan", "MODEL", "--", "--strict"],
        ["cache", "list", "ls"],
        ["--strict"],
        [],
    ],
)
def test_what_is_not_ours_is_left_alone(argv: list[str]) -> None:
    """What stands behind the model is vLLM's, and a value is not an option."""
    assert renamed_word(argv) is None


def test_an_old_word_before_the_model_is_seen() -> None:
    """`serve` hands the first word that it does not know to vLLM, so it must know the old one."""
    assert renamed_word(["serve", "--store", "x", "--strict", "MODEL"]) == ("--strict", "--fail-on-unknown")


def test_new_words_are_commands_and_options() -> None:
    """Each new word is what the error says."""
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {command for command, _ in NEW_WORDS} - {"cache", "verdicts"} <= commands
