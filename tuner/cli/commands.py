"""Commands that take options of ours and options of vLLM, and tell the two apart."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from tuner.arguments.release_options import history
from tuner.cli.own_options import own_tokens
from tuner.text import folded

_ERROR = "Error: "


class PassThrough(TyperCommand):
    """A command whose own options come first; from the first other token on, all is passed through."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `--` before the first token that is not ours."""
        takes_value = {name: not option.is_flag for option in self.params for name in option.opts if name[:2] == "--"}  # type: ignore[attr-defined]
        own = own_tokens(args, {**takes_value, "--help": False, "-h": False})
        foreign = ["--", *args[own:]] if own < len(args) else []
        return super().parse_args(ctx, [*args[:own], *foreign])


class BehindDashes(TyperCommand):
    """A command whose options of vLLM stand behind `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name an option of vLLM that stands in front of `--`."""
        ours = args[: args.index("--")] if "--" in args else args
        own = {*ctx.help_option_names, *(name for option in self.params for name in option.opts)}
        for word in ours:
            name = word.partition("=")[0]
            if name.startswith("-") and name not in own and _is_vllms(name):
                example = f"{ctx.command_path} MODEL -- {name} …"
                ctx.fail(_folded(f"{name} is an option of vLLM. Write options of vLLM behind `--`, as in `{example}`."))
        return super().parse_args(ctx, args)


def _folded(message: str) -> str:
    """The message of a usage error, folded behind the word that typer writes in front of it."""
    return folded(message, first=_ERROR, stream=sys.stderr).removeprefix(_ERROR)


def _is_vllms(name: str) -> bool:
    """Whether any release of vLLM has an option of this name; a dotted key is part of its option."""
    return bool(history(name.partition(".")[0].replace("_", "-")))


GROUPS = {
    "Know a model": ("env", "probe", "tune", "verdict", "verdicts", "report"),
    "Start a server": ("plan", "serve", "export", "confirm"),
    "Check manifests": ("check", "apply"),
    "Keep what is compiled": ("cache",),
    "Work as a team": ("service", "worker", "sweep"),
}
"""Heading in the help -> commands below it; the first that most people need stand first."""


_WHOLE = 10_000
"""Characters of a command's short help, which typer else cuts at the width; the list folds it."""


class ListedCommands(TyperGroup):
    """A group whose help lists its commands, each with its first sentence in full."""

    headings: Mapping[str, Sequence[str]] = {}
    """Heading -> commands below it; without any all stand below one."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one list for each heading."""
        for heading, names in (self.headings or {"Commands": self.list_commands(ctx)}).items():
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            with formatter.section(heading):
                formatter.write_dl([(name, command.get_short_help_str(_WHOLE)) for name, command in commands])


class GroupedCommands(ListedCommands):
    """The whole tool, whose help lists its commands by what they are for."""

    headings = GROUPS
