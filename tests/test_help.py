"""The help: commands by what they are for, with an example each, and short forms."""

import re
import shlex

import pytest
import typer
from fake_environment import tuner

from tuner.cli.app import app
from tuner.cli.commands import GROUPS
from tuner.cli.examples import EXAMPLES

TOP = typer.main.get_command(app)
COMMANDS = TOP.commands  # type: ignore[attr-defined]


def test_every_command_stands_below_one_heading() -> None:
    """A command that no heading lists would be in no help."""
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    out = tuner("--help", code=0).out
    for heading, names in GROUPS.items():
        assert re.search(rf"^{heading}:\n  {names[0]} ", out, re.MULTILINE)


def test_every_help_fits_80_columns() -> None:
    """Also with its example, which is never folded."""
    for words in ([], *([name] for name in COMMANDS), *(name.split() for name in EXAMPLES)):
        lines = tuner(*words, "--help", code=0, env={"COLUMNS": "80"}).out.splitlines()
        assert max(map(len, lines)) <= 80, words


@pytest.mark.parametrize("words", [(), ("verdicts",), ("cache",), ("service",)])
def test_a_list_of_commands_is_not_cut(words: tuple[str, ...]) -> None:
    """What a command does is folded at 80 columns, and never ends in dots."""
    out = tuner(*words, "--help", code=0, env={"COLUMNS": "80"}).out
    assert "..." not in out.partition("Options:")[2]
    assert "…" not in out


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_uses_options_that_are_there(name: str) -> None:
    """Each option of ours in it is one of the command, and the help shows it."""
    command = TOP
    for word in name.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    words = shlex.split(EXAMPLES[name].partition("| ")[2] or EXAMPLES[name])
    assert words[: 1 + len(name.split())] == ["tuner", *name.split()]
    own = words[: words.index("--")] if "--" in words else words
    if name == "serve":
        own = own[: own.index("Qwen/Qwen3-30B-A3B")]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in own if word.startswith("-")} <= options
    assert f"Example:\n    {EXAMPLES[name]}\n" in tuner(*name.split(), "-h", code=0).out


def test_a_shell_can_complete_commands() -> None:
    """As typer does it: the shell asks by a variable."""
    asked = {"_TUNER_COMPLETE": "complete_bash", "COMP_WORDS": "tuner ver", "COMP_CWORD": "1"}
    assert tuner(env=asked).out.split() == ["verdict", "verdicts"]
