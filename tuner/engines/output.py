"""The output probe: the answers of one launch's engines to the same prompts; `rules/output.py` compares them."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from rules.releases import FlagStatus
from tuner.engines.engines import (
    EngineLaunch,
    EngineQuestion,
    EngineVariant,
    Supervision,
    answers,
    launched_engines,
    picked,
)
from tuner.launch.plan import Plan
from tuner.processes.answers import checked, damaged

PROMPT_FIELDS = ("name", "repeats", "alone", "given", "tokens", "made")
EMPTY: dict[str, Any] = {"engine": {}, "changed": [], "prompts": []}
MOST_PROMPTS, MOST_TOKENS = 32, 256
"""Of an answer; the worker sends 9 prompts of at most 64 tokens. All of it is stored with the verdict."""


class OutputAnswer(Struct, frozen=True):
    """What the worker says of one engine; `rules.report.Output` describes the fields."""

    engine: dict[str, Any]
    changed: list[Any]
    prompts: list[Any]


def compared(launch: EngineLaunch, supervision: Supervision) -> list[dict[str, Any]]:
    """Ask the engines of a launch.

    Returns:
        The part of the report about each engine (`rules.report.Output`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    return answers(QUESTION, engines(launch.plan), launch, supervision)


def engines(plan: Plan) -> list[EngineVariant]:
    """The eager engine twice, which is the reference, and each engine of the launch.

    In the reference nothing is compiled, no graph is replayed, and the flag is off where it can be set.
    """
    off = False if plan.flag.status is FlagStatus.SETTABLE else None
    reference = [EngineVariant("eager", off, eager=True), EngineVariant("eager_again", off, eager=True)]
    return [*reference, *launched_engines(plan)]


def _report_part(answer: Mapping[str, Any]) -> dict[str, Any]:
    output = checked("result.json", answer, OutputAnswer)
    prompts = picked(output.prompts, PROMPT_FIELDS)
    if len(prompts) > MOST_PROMPTS or any(map(_is_too_long, prompts)):
        raise damaged("result.json", "it is larger than what was asked for")
    return {"engine": output.engine, "changed": output.changed, "prompts": prompts}


def _is_too_long(prompt: Mapping[str, Any]) -> bool:
    return any(isinstance(part, list) and len(part) > MOST_TOKENS for part in prompt.values())


QUESTION = EngineQuestion("output", _report_part, EMPTY)
