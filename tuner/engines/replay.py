"""The replay probe: each engine that a launch would start, with its MoE calls watched on the device."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

from tuner.engines.engines import EngineLaunch, EngineQuestion, Supervision, answers, launched_engines, picked
from tuner.processes.answers import checked

PASS_FIELDS = ("request", "called", "ran", "tokens", "count", "replayed", "ambiguous")
EMPTY: dict[str, Any] = {"registered": [], "lost": 0, "engine": {}, "changed": [], "passes": []}


class ReplayAnswer(Struct, frozen=True):
    """What the worker says of one engine; `rules.report.Replay` describes the fields."""

    registered: list[Any]
    lost: int
    engine: dict[str, Any]
    changed: list[Any]
    passes: list[Any]


def replayed(launch: EngineLaunch, supervision: Supervision) -> list[dict[str, Any]]:
    """Watch each engine of a launch.

    Returns:
        The part of the report about each engine (`rules.report.Replay`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    question = EngineQuestion("replay", _report_part, EMPTY)
    return answers(question, launched_engines(launch.plan), launch, supervision)


def _report_part(answer: Mapping[str, Any]) -> dict[str, Any]:
    replay = checked("result.json", answer, ReplayAnswer)
    return {**to_builtins(replay), "passes": picked(replay.passes, PASS_FIELDS)}
