"""Commands that take options of ours and options of vLLM, and tell the two apart."""

from typing import Any

from typer.core import TyperCommand

from tuner.arguments.release_options import history
from tuner.cli.own_options import own_tokens


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
                ctx.fail(f"{name} is an option of vLLM. Write options of vLLM behind `--`, as in `{example}`.")
        return super().parse_args(ctx, args)


def _is_vllms(name: str) -> bool:
    """Whether any release of vLLM has an option of this name; a dotted key is part of its option."""
    return bool(history(name.partition(".")[0].replace("_", "-")))
