"""What `tuner probe --depth replay` does once its options are read: the engine of one launch, watched."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from tuner import render
from tuner.arguments import parse
from tuner.cli_output import failures, present, stop_on_signals, written_to
from tuner.errors import ExitCode, TunerError
from tuner.flow import Request, probe
from tuner.inputs import Inputs, Launching, opened_store, planned
from tuner.memory import remember_replays
from tuner.progress import working
from tuner.replay import Watching, replayed
from tuner.sweep import Selection

if TYPE_CHECKING:
    from cache.entry import Entry
    from cache.store import VerdictStore
    from tuner.arguments import ServeArguments
    from tuner.plan import Plan

IMPORT_LIMIT = 600.0
"""Seconds more than for a model: vLLM's import, and weights."""


def run(
    request: Request, selection: Selection, python: str | None, store: str | None, *, whole: bool, as_json: bool
) -> NoReturn:
    """Probe the model's order if that is not known, watch its engine, store both, print, and end with an exit code.

    The request's names are the model, then arguments of `vllm serve`.
    """
    words = list(request.names)
    with failures(as_json, words[0] if words else None):
        _require_one_model(words, narrowed=whole or selection != Selection())
        stop_on_signals()
        inputs = Inputs(python, store=store)
        verdicts = written_to(opened_store(store, os.environ))
        made, arguments = _planned(words, request, inputs)
        with working() as under_way:
            if made.found.entry is None:
                under_way("no verdict is stored; probing the order first (about a minute)")
                made = _order_first(made, request, inputs, verdicts)
            watching = Watching(under_way, request.time_limit + IMPORT_LIMIT, request.memory_limit)
            found = replayed(made, arguments, os.environ, watching)
        remember_replays(verdicts, _own(made), found)
        present(_planned(words, request, inputs)[0], as_json, render.verdict_text)
    raise SystemExit(ExitCode.DONE)


def _require_one_model(words: list[str], *, narrowed: bool) -> None:
    said = "" if words else "No MODEL is named."
    if narrowed:
        said = "--depth replay takes one MODEL, and neither --all nor what narrows it."
    elif any(not word.startswith("-") for word in words[1:2]):
        said = f"--depth replay takes one MODEL, and {words[1]} is a second."
    if said:
        hint = "As in `tuner probe --depth replay MODEL -- --max-model-len 4096`."
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
