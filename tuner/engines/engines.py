"""Engines as a launch would start them: each runs in its own process, and all get one question."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rules.assumptions import LAYERS_SHRUNK
from rules.errors import TunerError
from rules.releases import FlagStatus
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.question import Answer, WorkerQuery, query_engines, worker_variables
from tuner.engines.stand_ins import stand_ins
from tuner.launch.plan import Plan
from tuner.model.config_size import check_config_size
from tuner.model.shrink import shrink


@dataclass(frozen=True)
class EngineVariant:
    """One engine to start.

    Attributes:
        name: `flag_on`, `flag_off` or `as_launched`; `rules.report` says which other names a question has.
        flag: the value of `fast_moe_cold_start`; None leaves the launch as it is.
        eager: without compiling and CUDA graphs, whatever the launch asks for.
    """

    name: str
    flag: bool | None
    eager: bool = False


@dataclass(frozen=True)
class Supervision:
    """How engines are supervised.

    Attributes:
        say: gets a sentence about each engine that begins.
        limit: seconds for each engine, vLLM's import excluded.
        memory_limit: bytes for each engine; None: as much as suits this machine.
    """

    say: Callable[[str], None]
    limit: float
    memory_limit: int | None


@dataclass(frozen=True)
class EngineQuestion:
    """A question that each engine gets.

    Attributes:
        name: as the worker knows it.
        report_part: takes from an answer what the report keeps; raises a TunerError for an answer of another shape.
        empty: the same part for an engine that did not answer.
    """

    name: str
    report_part: Callable[[Mapping[str, Any]], dict[str, Any]]
    empty: Mapping[str, Any]


@dataclass(frozen=True)
class EngineLaunch:
    """A launch whose engines are started.

    Attributes:
        plan: the launch.
        arguments: the user's arguments, read.
        environ: the environment variables of the launch.
    """

    plan: Plan
    arguments: ServeArguments
    environ: Mapping[str, str]


def launched_engines(plan: Plan) -> list[EngineVariant]:
    """An engine for each value of the flag where it can be set; else one engine with the launch as it is.

    The launch itself has one of the two values.
    """
    if plan.flag.status is FlagStatus.SETTABLE:
        return [EngineVariant("flag_on", True), EngineVariant("flag_off", False)]
    return [EngineVariant("as_launched", None)]


def answers(
    question: EngineQuestion, engines: Sequence[EngineVariant], launch: EngineLaunch, supervision: Supervision
) -> list[dict[str, Any]]:
    """Start engines one after another and ask each; the failure of an engine costs only that engine.

    Returns:
        The part of the report about each engine (`rules.report`).

    Raises:
        TunerError: no engine answered: the failure of the first.
    """
    parts: list[dict[str, Any]] = []
    failures: list[TunerError] = []
    with closing(_raw_answers(question, engines, launch, supervision)) as raw_answers:
        for engine in engines:
            supervision.say(f"starting the engine, {engine.name.replace('_', ' ')} (one to several minutes)")
            try:
                answer = _raised(next(raw_answers))
                parts.append({**_heading(engine, "ran", ""), **question.report_part(answer)})
            except TunerError as failure:
                failures.append(failure)
                parts.append({**_heading(engine, "failed", failure.message), **question.empty})
    if len(failures) == len(parts):
        raise failures[0]
    return parts


def picked(rows: Sequence[object], fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are objects, each with only these fields; a field that is missing is None."""
    return [{name: row.get(name) for name in fields} for row in rows if isinstance(row, dict)]


def thin_model(plan: Plan, arguments: ServeArguments) -> dict[str, Any] | None:
    """A smaller model where the real weights are not here: random weights of full size would show no more.

    It has as many layers as the order probe ran, which is all of them where the model's code asks for layers by number.
    """
    if "dummy" not in stand_ins(plan, arguments):
        return None
    model = plan.subject.model
    check_config_size(model.config)
    code = model.folder if plan.subject.trust_remote_code else None
    small = shrink(model.config)
    return {"config": small.config if small.deep is None or _ran_cut(plan) else small.deep, "code": code}


def _ran_cut(plan: Plan) -> bool:
    """Whether the order probe, which runs first, needed fewer layers than the model has."""
    assumptions = plan.lookup.report.assumptions if plan.lookup.report else ()
    return any(assumption.kind == LAYERS_SHRUNK for assumption in assumptions)


def _raw_answers(
    question: EngineQuestion, engines: Sequence[EngineVariant], launch: EngineLaunch, supervision: Supervision
) -> Generator[Answer | TunerError]:
    plan = launch.plan
    query = WorkerQuery(
        question.name,
        plan.launch.args,
        supervision.limit,
        supervision.memory_limit,
        more={"thin": thin_model(plan, launch.arguments)},
        engines=[{"flag": engine.flag, "eager": engine.eager} for engine in engines],
    )
    variables = worker_variables(launch.environ, plan.launch.env)
    return query_engines(query, plan.subject.environment.python, lambda _control: variables)


def _raised(answer: Answer | TunerError) -> Answer:
    if isinstance(answer, TunerError):
        raise answer
    return answer


def _heading(engine: EngineVariant, status: str, detail: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": engine.name, "status": status, "detail": detail, "made_at": now}
