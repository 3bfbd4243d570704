"""A launch that compiles a model whose compiled code runs other MoE layers."""

from collections.abc import Iterator

from rules.decide import MODE_KEY
from rules.reason import sentences
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.errors import ExitCode
from tuner.launch.plan import compiles

_MEANING = "Compiled, the model runs other MoE layers than eager, and the launch compiles it."


def _problems(examined: Examined) -> Iterator[Problem]:
    verdict = examined.plan.lookup.verdict if examined.plan else None
    if verdict is None or examined.arguments is None or verdict.compile != "frozen":
        return
    if compiles(examined.arguments) is not False:
        message = "; ".join(sentences(verdict.compile_reasons)) or _MEANING
        yield Problem(f"Set {MODE_KEY} to 0 in the compilation config: {message}.")


RULE = Rule("compiled-though-frozen", Severity.ERROR, _MEANING, of_launch=_problems, exit_code=ExitCode.CONTRADICTION)
