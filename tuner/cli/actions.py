"""What `verdict` and `serve` do once their options are read, by whichever of the two parsers."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rules.errors import ErrorKind, TunerError
from rules.reason import sentences
from tuner.cli.choices import OnMissing
from tuner.cli.inputs import (
    Inputs,
    Launching,
    decided,
    looked_up,
    may_be_proved,
    plan_of_service,
    planned_safely,
    probed_first,
)
from tuner.cli.output import failures, needs_verdict, present, refuse, result, say_without_waiting, stop_on_signals
from tuner.cli.unclear import misspelt_option, refuse_own_options_behind
from tuner.launch.serve import command, execute
from tuner.launch.text import command_line, serve_line, verdict_text
from tuner.text import folded_command

if TYPE_CHECKING:
    from tuner.launch.plan import Plan


def verdict(model: str, inputs: Inputs, *, as_json: bool, verbose: bool) -> None:
    """Show the stored verdict of a model."""
    with failures(as_json, model):
        present(
            looked_up(model, inputs, os.environ),
            as_json,
            partial(verdict_text, verbose=verbose),
        )


def serve(args: Sequence[str], inputs: Inputs, launching: Launching, on_missing: OnMissing, *, dry_run: bool) -> None:
    """Become `vllm serve` with the decision merged into `args`, or print the command."""
    with failures(as_json=False):
        refuse_own_options_behind(args, inputs.python)
        plan = _planned(args, inputs, launching, on_missing)
        if misspelt := misspelt_option(args, plan.subject.environment.vllm):
            say_without_waiting(f"tuner: {misspelt}")
        for sentence in (serve_line(plan), *sentences(plan.warnings)):
            say_without_waiting(f"tuner: {sentence}")
        refuse(plan)
        python = Path(plan.subject.environment.python)
        if dry_run:
            result(folded_command(command_line(command(python, plan.launch.args), plan.launch.env)))
        else:
            execute(python, plan.launch.args, plan.launch.env)


def _asked_first(args: Sequence[str], inputs: Inputs, launching: Launching) -> "Plan":
    """The plan of the service; without one that of the store; without a verdict there that of the release's rules."""
    try:
        plan = plan_of_service(args, inputs, launching, os.environ)
    except TunerError as error:
        say_without_waiting(f"tuner: {error.message.rstrip('.')}; the store here is asked")
    else:
        if plan.lookup.verdict is not None:
            decides = f"has a verdict that is signed with {inputs.signed_with}" if inputs.signed_with else "decides"
            say_without_waiting(f"tuner: the service {inputs.service} {decides}")
            return plan
        say_without_waiting(f"tuner: the service {inputs.service} has no verdict; the store here is asked")
    plan = planned_safely(args, inputs, launching, os.environ)
    if plan.lookup.verdict is None:
        say_without_waiting("tuner: the store here has no verdict either; the rules of this vLLM release decide")
    return plan


def _planned(args: Sequence[str], inputs: Inputs, launching: Launching, on_missing: OnMissing) -> "Plan":
    if inputs.decision is None and (inputs.service is None or inputs.without_store):
        plan = planned_safely(args, inputs, launching, os.environ)
    elif inputs.decision is None:
        plan = _asked_first(args, inputs, launching)
    elif on_missing is OnMissing.PROBE:
        raise TunerError(
            "--decision and --on-missing probe exclude each other.",
            hint="The file decides, and a probe would not change it.",
            kind=ErrorKind.USAGE,
        )
    else:
        plan = decided(inputs.decision, args, inputs, launching, os.environ)
    if on_missing is OnMissing.PROBE and may_be_proved(plan) and not inputs.without_store:
        say_without_waiting("tuner: this launch was not proved; probing first (one to several minutes)")
        stop_on_signals()
        plan = probed_first(args, inputs, launching, os.environ)
    if on_missing is OnMissing.FAIL and plan.lookup.verdict is None and needs_verdict(plan):
        why = "; ".join(sentences(plan.lookup.miss))
        raise TunerError(why, hint=_way_to_verdict(plan), kind=ErrorKind.NO_VERDICT)
    return plan


def _way_to_verdict(plan: "Plan") -> str:
    if not plan.proving:
        return "Probe the model, and write the file anew with `tuner export --format json`."
    return f"Run `{command_line(plan.proving, {})}` first."
