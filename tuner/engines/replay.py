"""The replay probe: each engine that a launch would start, with its MoE calls watched on the device."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, to_builtins

from rules.errors import TunerError
from rules.releases import FlagStatus
from tuner.engines.engines import EngineLaunch, Supervision, thin_model
from tuner.engines.question import Answer, WorkerQuery, engine_variables, query_engines
from tuner.launch.plan import Plan
from tuner.processes.answers import checked

PASS_FIELDS = ("request", "called", "ran", "tokens", "count", "replayed", "ambiguous")
EMPTY: dict[str, Any] = {"registered": [], "lost": 0, "engine": {}, "changed": [], "passes": []}
"""The part of the report about an engine that did not answer."""


class ReplayAnswer(Struct, frozen=True):
    """What the worker says of one engine; `rules.report.Replay` describes the fields."""

    registered: list[Any]
    lost: int
    engine: dict[str, Any]
    changed: list[Any]
    passes: list[Any]


@dataclass(frozen=True)
class EngineVariant:
    """One engine to start.

    Attributes:
        name: `flag_on`, `flag_off` or `as_launched`.
        flag: the value of `fast_moe_cold_start`; None leaves the launch as it is.
    """

    name: str
    flag: bool | None


def replayed(launch: EngineLaunch, supervision: Supervision) -> list[dict[str, Any]]:
    """Start the engines of a launch one after another and watch each; the failure of an engine costs only that engine.

    Returns:
        The part of the report about each engine (`rules.report.Replay`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    engines = launched_engines(launch.plan)
    parts: list[dict[str, Any]] = []
    failures: list[TunerError] = []
    with closing(_answers(engines, launch, supervision)) as answers:
        for engine in engines:
            supervision.say(f"starting the engine, {engine.name.replace('_', ' ')} (one to several minutes)")
            try:
                parts.append({**_heading(engine, "ran", ""), **_report_part(_raised(next(answers)))})
            except TunerError as failure:
                failures.append(failure)
                parts.append({**_heading(engine, "failed", failure.message), **EMPTY})
    if len(failures) == len(parts):
        raise failures[0]
    return parts


def launched_engines(plan: Plan) -> list[EngineVariant]:
    """An engine for each value of the flag where it can be set; else one engine with the launch as it is.

    The launch itself has one of the two values.
    """
    if plan.flag.status is FlagStatus.SETTABLE:
        return [EngineVariant("flag_on", True), EngineVariant("flag_off", False)]
    return [EngineVariant("as_launched", None)]


def _answers(
    engines: Sequence[EngineVariant], launch: EngineLaunch, supervision: Supervision
) -> Generator[Answer | TunerError]:
    plan = launch.plan
    query = WorkerQuery(
        "replay",
        plan.launch.args,
        supervision.limit,
        supervision.memory_limit,
        more={"thin": thin_model(plan, launch.arguments), "eager": False},
        engines=[{"flag": engine.flag} for engine in engines],
        hear=supervision.hear,
    )
    variables = engine_variables(launch.environ, plan.launch.env)
    return query_engines(query, plan.subject.environment.python, lambda _control: variables)


def _raised(answer: Answer | TunerError) -> Answer:
    if isinstance(answer, TunerError):
        raise answer
    return answer


def _heading(engine: EngineVariant, status: str, detail: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": engine.name, "status": status, "detail": detail, "made_at": now}


def _report_part(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the report keeps of an answer.

    Raises:
        TunerError: the answer has another shape.
    """
    replay = checked("result.json", answer, ReplayAnswer)
    return {**to_builtins(replay), "passes": [_picked(row) for row in replay.passes if isinstance(row, dict)]}


def _picked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a pass that the report keeps; a field that is missing is None."""
    return {name: row.get(name) for name in PASS_FIELDS}
