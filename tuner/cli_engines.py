"""What `tuner probe --depth replay` and `--depth output` do once their options are read: engines of one launch."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from tuner import render
from tuner.arguments import parse
from tuner.cli_options import Depth
from tuner.cli_output import failures, present, stop_on_signals, written_to
from tuner.engines import Starting, Watching
from tuner.errors import ExitCode, TunerError
from tuner.flow import Request, probe
from tuner.inputs import Inputs, Launching, opened_store, planned
from tuner.memory import remember_engines
from tuner.output_check import compared
from tuner.progress import working
from tuner.replay import replayed
from tuner.sweep import Selection

if TYPE_CHECKING:
    from cache.entry import Entry
    from cache.store import VerdictStore
    from tuner.arguments import ServeArguments
    from tuner.plan import Plan

IMPORT_LIMIT = 600.0
"""Seconds more than for a model: vLLM's import, and weights."""
ASKED = {Depth.REPLAY: ("replays", replayed), Depth.OUTPUT: ("outputs", compared)}
"""Depth -> the report's field, and what fills it."""


def run(
    request: Request,
    selection: Selection,
    python: str | None,
    store: str | None,
    *,
    depth: Depth,
    whole: bool,
    as_json: bool,
) -> NoReturn:
    """Probe the model's order if that is not known, ask its engines, store both, print, and end with an exit code.

    The request's names are the model, then arguments of `vllm serve`.
    """
    words = list(request.names)
    with failures(as_json, words[0] if words else None):
        _require_one_model(words, depth, narrowed=whole or selection != Selection())
        stop_on_signals()
        inputs = Inputs(python, store=store)
        verdicts = written_to(opened_store(store, os.environ))
        made, arguments = _planned(words, request, inputs)
        with working() as under_way:
            if made.found.entry is None:
                under_way("no verdict is stored; probing the order first (about a minute)")
                made = _order_first(made, request, inputs, verdicts)
            watching = Watching(under_way, request.time_limit + IMPORT_LIMIT, request.memory_limit)
            field, ask = ASKED[depth]
            found = ask(Starting(made, arguments, os.environ), watching)
        remember_engines(verdicts, _own(made), field, found)
        present(_planned(words, request, inputs)[0], as_json, render.verdict_text)
    raise SystemExit(ExitCode.DONE)


def _require_one_model(words: list[str], depth: Depth, *, narrowed: bool) -> None:
    said = "" if words else "No MODEL is named."
    if narrowed:
        said = f"--depth {depth} takes one MODEL, and neither --all nor what narrows it."
    elif any(not word.startswith("-") for word in words[1:2]):
        said = f"--depth {depth} takes one MODEL, and {words[1]} is a second."
    if said:
        hint = f"As in `tuner probe --depth {depth} MODEL -- --max-model-len 4096`."
        raise TunerError(said, hint=hint, kind="usage", exit_code=ExitCode.USAGE)


def _planned(words: list[str], request: Request, inputs: Inputs) -> "tuple[Plan, ServeArguments]":
    """The launch of these words, with the options of the command among them."""
    ours = [] if request.model_impl == "auto" else ["--model-impl", request.model_impl]
    ours += ["--revision", request.revision] if request.revision else []
    ours += ["--trust-remote-code"] if request.trust_remote_code else []
    args = [*words[:1], *ours, *words[1:]]
    made = planned(args, inputs, Launching(), os.environ)
    return made, parse(args, vllm=made.subject.environment.vllm)


def _order_first(made: "Plan", request: Request, inputs: Inputs, store: "VerdictStore") -> "Plan":
    serving = _planned(list(request.names), request, inputs)[1].serving
    first = replace(
        request,
        names=list(request.names[:1]),
        model_impl=serving.model_impl,
        revision=serving.revision,
        trust_remote_code=serving.trust_remote_code,
    )
    for result in probe(first, made.subject.environment, store, lambda _stage, _name: None):
        if result.failure:
            raise result.failure
    return _planned(list(request.names), request, inputs)[0]


def _own(made: "Plan") -> "Entry":
    """The entry to which the engines are added.

    Raises:
        TunerError: it is not one of this environment.
    """
    entry = made.found.entry
    if entry is None:
        raise TunerError("The order probe left no verdict for this launch.", hint="; ".join(made.found.miss))
    return entry
