"""What `tuner cache warm` does once its options are read: two starts of a server, and a record of them."""

import os

from tuner.arguments.serve_arguments import parse
from tuner.cli_output import complain, failures, print_json, refuse, result, say, stop_on_signals
from tuner.compile_cache.warm import Warmed, warm
from tuner.compile_cache.warm_text import warmed_document, warmed_text
from tuner.errors import ExitCode, TunerError
from tuner.inputs import Inputs, Launching, planned
from tuner.progress import working


def run(args: list[str], inputs: Inputs, cache_root: str | None, limit: float, *, as_json: bool) -> None:
    """Warm, print, and end with an exit code: 0 a second start hits, 1 it does not, 3 its log does not say."""
    with failures(as_json, args[0]):
        stop_on_signals()
        made = planned(args, inputs, Launching(cache_root=cache_root), os.environ)
        refuse(made)
        arguments = parse(args, vllm=made.subject.environment.vllm)
        with working() as under_way:
            warmed = warm(made, arguments, os.environ, limit, under_way)
        if as_json:
            print_json(warmed_document(warmed))
        else:
            result(warmed_text(warmed))
        for note in warmed.notes:
            say(f"tuner: {note}")
        raise SystemExit(_conclude(warmed))


def _conclude(warmed: Warmed) -> ExitCode:
    if warmed.record.hit:
        return ExitCode.DONE
    if warmed.record.hit is None:
        hint = "It compiles nothing, or VLLM_CONFIGURE_LOGGING keeps it from saying so."
        complain(TunerError("The log of the second start says nothing of the compile cache.", hint=hint), None)
        return ExitCode.UNKNOWN
    hint = f"vLLM says: {warmed.reason}" if warmed.reason else ""
    complain(TunerError("The second start compiled again: this cache does not help.", hint=hint), None)
    return ExitCode.ERROR
