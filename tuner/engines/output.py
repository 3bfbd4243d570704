"""The output probe: what the engines of one launch answer to the same prompts; `rules/output.py` compares them."""

from collections.abc import Mapping
from typing import Any

from rules.releases import FlagStatus
from tuner.engines.engines import Asking, Engine, Found, Starting, Watching, answers, launched
from tuner.launch.plan import Plan
from tuner.processes.answers import Shape, damaged, require

PROMPT = ("name", "repeats", "alone", "given", "tokens", "made")
NOTHING: Found = {"engine": {}, "changed": [], "prompts": []}
ANSWER: Shape = {"engine": dict, "changed": list, "prompts": list}
MOST_PROMPTS, MOST_TOKENS = 32, 256
"""Of an answer; the worker sends 9 prompts of 64 tokens at most. All of it is stored with the verdict."""


def compared(starting: Starting, watching: Watching) -> list[Found]:
    """Ask the engines of a launch.

    Returns:
        What the report keeps of them (`rules.report.Output`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    return answers(ASKING, engines(starting.plan), starting, watching)


def engines(plan: Plan) -> list[Engine]:
    """The eager engine twice, which is the reference, and each engine of the launch.

    In the reference nothing is compiled, no graph is replayed, and the flag is off where it can be set.
    """
    off = False if plan.flag.status is FlagStatus.SETTABLE else None
    return [*(Engine(name, off, eager=True) for name in ("eager", "eager_again")), *launched(plan)]


def _kept(answer: Mapping[str, Any]) -> Found:
    require("result.json", answer, ANSWER)
    prompts = [{name: one.get(name) for name in PROMPT} for one in answer["prompts"] if isinstance(one, dict)]
    sizes = [len(part) for one in prompts for part in one.values() if isinstance(part, list)]
    if len(prompts) > MOST_PROMPTS or max(sizes, default=0) > MOST_TOKENS:
        raise damaged("result.json", "it is larger than what was asked for")
    return {"engine": answer["engine"], "changed": answer["changed"], "prompts": prompts}


ASKING = Asking("output", _kept, NOTHING)
"""What each engine is asked."""
