"""Options of `tuner serve` that stand where vLLM gets them, and options that neither of the two knows."""

from collections.abc import Iterator, Sequence

from tuner.arguments.option_faults import nearest
from tuner.arguments.release_options import option_table
from tuner.arguments.serve_arguments import end_of_options
from tuner.cli.own_options import SERVE


def unclear_options(args: Sequence[str], vllm: str | None) -> Iterator[str]:
    """A sentence for each option that stands in the wrong place, or that is misspelt.

    Args:
        args: what `vllm serve` gets.
        vllm: the release that will read it.
    """
    for argument in args[: end_of_options(args)]:
        name = argument.partition("=")[0]
        if name in SERVE:
            yield f"`{name}` is an option of tuner: write it before the model. Here vLLM gets it."
    first = args[0].partition("=")[0] if args else ""
    table = option_table(vllm)
    if not first.startswith("--") or table is None:
        return
    use = table.use_of(first.replace("_", "-"))
    meant = nearest(first, list(SERVE))
    if use is not None and use.option is None and not use.candidates and meant and first not in SERVE:
        yield f"`{first}` is neither an option of tuner nor one of vLLM {table.version}. `{meant}` may be meant."
