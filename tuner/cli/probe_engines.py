"""What `tuner probe MODEL -- VLLM ARGS` does once its options are read: the proof of one launch, or its engines."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from rules.errors import ErrorKind, TunerError
from rules.reason import sentences
from tuner.arguments.serve_arguments import parse
from tuner.cli.choices import Depth
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.cli.output import failures, keeping, present, stop_on_signals, written_to
from tuner.cli.progress import working
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.engines.replay import replayed
from tuner.errors import ExitCode
from tuner.launch.text import plan_text, verdict_text
from tuner.probe.models import Request, probe, prove
from tuner.probe.sweep import Selection
from tuner.verdicts.lookup import opened_store, remember_replays

if TYPE_CHECKING:
    from cache.verdicts.entry import Entry
    from cache.verdicts.store import VerdictStore
    from tuner.arguments.serve_arguments import ServeArguments
    from tuner.launch.plan import Plan

KEPT = "the verdict on the model's order is kept if it was reached; the same command goes on from there"
LOADING_LIMIT = 600.0
"""Seconds more than for a model: weights, and code that is compiled."""


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
    """Probe the model's order if that is not known, prove the launch or ask its engines, store both, print, and end.

    The request's names are the model, then arguments of `vllm serve`.
    """
    words = list(request.names)
    with failures(as_json, words[0] if words else None):
        _require_one_model(words, depth, narrowed=whole or selection != Selection())
        stop_on_signals()
        inputs = Inputs(python, store=store)
        verdicts = written_to(opened_store(store, os.environ))
        plan, arguments = planned_launch(words, request, inputs)
        with keeping(KEPT), working() as under_way:
            plan = order_first(plan, request, inputs, verdicts, under_way)
            if depth is Depth.ORDER:
                under_way("tracing the launch's whole model (20 s to a few minutes)")
                prove(plan.subject, arguments, own_entry(plan), request, verdicts)
            else:
                limit = request.time_limit + LOADING_LIMIT
                watching = Supervision(under_way, limit, request.memory_limit, under_way.log_line)
                engines = replayed(EngineLaunch(plan, arguments, os.environ), watching)
                remember_replays(verdicts, own_entry(plan), engines)
        plan = planned_launch(words, request, inputs)[0]
        present(plan, as_json, partial(plan_text if depth is Depth.ORDER else verdict_text, verbose=True))
    raise SystemExit(_exit_code(plan, depth))


def names_a_launch(words: Sequence[str]) -> bool:
    """Whether the words of `tuner probe` are a model and arguments of its launch, and not several models."""
    return any(word.startswith("-") for word in words[1:])


def _exit_code(plan: "Plan", depth: Depth) -> ExitCode:
    """3 for a launch of which nothing could be proved."""
    return ExitCode.UNKNOWN if depth is Depth.ORDER and not plan.proof.is_decided else ExitCode.FINE


def _require_one_model(words: list[str], depth: Depth, *, narrowed: bool) -> None:
    what = "A launch" if depth is Depth.ORDER else f"--depth {depth}"
    if narrowed:
        problem = f"{what} takes one MODEL, and neither --all nor what narrows it."
    elif not words:
        problem = "No MODEL is named."
    elif len(words) > 1 and not words[1].startswith("-"):
        problem = f"{what} takes one MODEL, and {words[1]} is a second."
    else:
        return
    option = "" if depth is Depth.ORDER else f"--depth {depth} "
    hint = f"As in `tuner probe {option}MODEL -- --max-model-len 4096`."
    raise TunerError(problem, hint=hint, kind=ErrorKind.USAGE)


def planned_launch(words: list[str], request: Request, inputs: Inputs) -> "tuple[Plan, ServeArguments]":
    """The launch of these words, with the options of the command among them."""
    ours = [] if request.model_impl == "auto" else ["--model-impl", request.model_impl]
    ours += ["--revision", request.revision] if request.revision else []
    ours += ["--trust-remote-code"] if request.trust_remote_code else []
    args = [*words[:1], *ours, *words[1:]]
    plan = planned(args, inputs, Launching(), os.environ)
    return plan, parse(args, vllm=plan.subject.environment.vllm)


def order_first(
    plan: "Plan", request: Request, inputs: Inputs, store: "VerdictStore", under_way: Callable[[str], None]
) -> "Plan":
    """The plan itself if a verdict is stored; else that of a launch whose model's order was probed first.

    Raises:
        TunerError: the probe failed.
    """
    if plan.lookup.entry is not None:
        return plan
    under_way("no verdict is stored; probing the order first (about a minute)")
    serving = planned_launch(list(request.names), request, inputs)[1].serving
    first = replace(
        request,
        names=list(request.names[:1]),
        model_impl=serving.model_impl,
        revision=serving.revision,
        trust_remote_code=serving.trust_remote_code,
    )
    for result in probe(first, plan.subject.environment, store, lambda _stage, _name: None):
        if result.failure:
            raise result.failure
    return planned_launch(list(request.names), request, inputs)[0]


def own_entry(plan: "Plan") -> "Entry":
    """The entry to which the engines are added.

    Raises:
        TunerError: it is not one of this environment.
    """
    entry = plan.lookup.entry
    if entry is None:
        raise TunerError(
            "The order probe left no verdict for this launch.",
            hint="; ".join(sentences(plan.lookup.miss)),
            kind=ErrorKind.NO_VERDICT,
        )
    return entry
