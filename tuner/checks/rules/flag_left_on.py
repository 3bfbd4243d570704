"""A flag that is on because the launch does not set it, against an unsafe verdict."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from rules.releases import FlagStatus, turns_off_by_itself
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_left_out, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, sentence
from tuner.errors import ExitCode


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None or plan.flag.status is not FlagStatus.SETTABLE or plan.lookup.verdict is None:
        return
    if not examined.true_refused or not is_left_out(examined) or is_speculative(examined):
        return
    why = sentence(str(plan.decision.reasons[0]))
    if examined.model is not None and _is_excepted(examined):
        message = f"{why} This vLLM turns {FLAG_KEY} off for {examined.model.architecture}, and for no other."
        yield Problem(message, severity=Severity.NOTE)
    else:
        yield Problem(f"{why} vLLM {examined.version} turns {FLAG_KEY} on where the launch does not set it.")


def _is_excepted(examined: Examined) -> bool:
    """Whether this vLLM turns the flag off for this model's architecture, as long as it runs the model's own code."""
    if examined.model is None or examined.arguments is None:
        return False
    if examined.arguments.serving.model_impl == "transformers":
        return False
    return turns_off_by_itself(examined.version, examined.model.architecture)


RULE = Rule(
    "flag-left-on",
    Severity.ERROR,
    f"{FLAG_KEY} is not set, this vLLM turns it on by itself, and the verdict is unsafe.",
    of_launch=_problems,
    exit_code=ExitCode.CONTRADICTION,
)
