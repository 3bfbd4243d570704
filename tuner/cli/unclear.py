"""Options of `tuner serve` that stand where vLLM gets them, and options that neither of the two knows."""

import shlex
import sys
from collections.abc import Sequence

from rules.errors import ErrorKind, TunerError
from tuner.arguments.option_faults import nearest
from tuner.arguments.release_options import option_table
from tuner.arguments.serve_arguments import end_of_options
from tuner.cli.own_options import SERVE, own_tokens
from tuner.environment.saved import serving_environment


def refuse_own_options_behind(args: Sequence[str], python: str | None) -> None:
    """Refuse options of ours behind the model: vLLM would get them, and `--dry-run` there would start a server.

    An option that this release of vLLM has, too, is vLLM's.

    Args:
        args: what `vllm serve` gets.
        python: interpreter of the serving environment; None: the default one.

    Raises:
        TunerError: it names the option, and the command with it in its place; or there is no serving environment.
    """
    behind = [word for word in args[: end_of_options(args)] if word.partition("=")[0] in SERVE]
    if not behind:
        return
    vllm = serving_environment(python, None)[0].vllm
    for word in behind:
        name = word.partition("=")[0]
        if not _is_known(name, vllm):
            raise TunerError(
                f"`{name}` is an option of tuner, and stands behind the model, where vLLM would get it.",
                hint=f"Write it before the model: `{_in_front(args, word)}`.",
                kind=ErrorKind.USAGE,
            )


def _is_known(option: str, vllm: str | None) -> bool:
    """Whether a release of vLLM has an option, or one that it shortens; False for a release that was not read."""
    use = table.use_of(option) if (table := option_table(vllm)) else None
    return use is not None and (use.option is not None or bool(use.candidates))


def _in_front(args: Sequence[str], option: str) -> str:
    """The command with an option of ours, and its value, in front of the rest."""
    start = args.index(option)
    end = start + own_tokens(args[start : start + 1], SERVE)
    before = sys.argv[1 : -len(args)]
    return shlex.join(["tuner", *before, *args[start:end], *args[:start], *args[end:]])


def misspelt_option(args: Sequence[str], vllm: str | None) -> str | None:
    """A sentence on a first option that neither tuner nor vLLM knows, and that is nearly one of ours; else None.

    Args:
        args: what `vllm serve` gets.
        vllm: the release that will read it.
    """
    first = args[0].partition("=")[0] if args else ""
    table = option_table(vllm)
    if not first.startswith("--") or table is None or _is_known(first.replace("_", "-"), vllm):
        return None
    meant = nearest(first, list(SERVE))
    return meant and f"`{first}` is neither an option of tuner nor one of vLLM {table.version}. `{meant}` may be meant."
