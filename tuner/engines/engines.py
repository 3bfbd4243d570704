"""Engines as a launch would start them, each in a process of its own and all asked one question."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cache.secrets import without_secrets
from rules.assumptions import LAYERS_SHRUNK
from rules.errors import TunerError
from rules.releases import FlagStatus
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.question import Answer, WorkerQuery, query_engines
from tuner.engines.stand_ins import stand_ins
from tuner.launch.plan import Plan
from tuner.model.config_size import check_config_size
from tuner.model.shrink import shrink

Found = dict[str, Any]
SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB; without it a CPU build reserves half the machine."""


@dataclass(frozen=True)
class Engine:
    """One engine to start.

    Attributes:
        name: `flag_on`, `flag_off` or `as_launched`; see `rules.report` for those of a question's own.
        flag: what `fast_moe_cold_start` is set to; None leaves the launch as it is.
        eager: without compiling and CUDA graphs, whatever the launch asks for.
    """

    name: str
    flag: bool | None
    eager: bool = False


@dataclass(frozen=True)
class Watching:
    """How engines are watched.

    Attributes:
        say: told what begins.
        limit: seconds for each engine, vLLM's import excluded.
        memory_limit: bytes for each; None: as much as suits this machine.
    """

    say: Callable[[str], None]
    limit: float
    memory_limit: int | None


@dataclass(frozen=True)
class Asking:
    """What is asked of each engine.

    Attributes:
        question: the worker's name of it.
        kept: the part of an answer that the report keeps; raises a TunerError for an answer of another shape.
        nothing: the same part of an engine that did not answer.
    """

    question: str
    kept: Callable[[Mapping[str, Any]], Found]
    nothing: Found


def launched(plan: Plan) -> list[Engine]:
    """Both values of the flag where it can be set, of which the launch has one; else the launch as it is."""
    if plan.flag.status is FlagStatus.SETTABLE:
        return [Engine("flag_on", True), Engine("flag_off", False)]
    return [Engine("as_launched", None)]


@dataclass(frozen=True)
class Starting:
    """A launch whose engines are started.

    Attributes:
        plan: the launch.
        arguments: those of the user, read.
        environ: the environment variables of the launch.
    """

    plan: Plan
    arguments: ServeArguments
    environ: Mapping[str, str]


def answers(asking: Asking, engines: Sequence[Engine], starting: Starting, watching: Watching) -> list[Found]:
    """Start engines one after another and ask each; a failure costs its own engine alone.

    Returns:
        What the report keeps of each (`rules.report`).

    Raises:
        TunerError: no engine answered: the failure of the first.
    """
    found: list[Found] = []
    failures: list[TunerError] = []
    with closing(_asked(asking, engines, starting, watching)) as answered:
        for engine in engines:
            watching.say(f"starting the engine, {engine.name.replace('_', ' ')} (one to several minutes)")
            try:
                found.append({**_entry(engine, "ran", ""), **asking.kept(_raised(next(answered)))})
            except TunerError as failure:
                failures.append(failure)
                found.append({**_entry(engine, "failed", failure.message), **asking.nothing})
    if len(failures) == len(found):
        raise failures[0]
    return found


def thin_model(plan: Plan, arguments: ServeArguments) -> Found | None:
    """A cut model where the real one's weights are not here: whole ones of random numbers would show no more.

    It has as many layers as the order probe ran: all of them where the model's code asks for layers by number.
    """
    if "dummy" not in stand_ins(plan, arguments):
        return None
    model = plan.subject.model
    check_config_size(model.config)
    code = model.folder if plan.subject.trust_remote_code else None
    small = shrink(model.config)
    return {"config": small.config if small.deep is None or _ran_cut(plan) else small.deep, "code": code}


def _ran_cut(plan: Plan) -> bool:
    """Whether the order probe, which comes first, was content with fewer layers than the model has."""
    assumptions = plan.lookup.report.assumptions if plan.lookup.report else ()
    return any(assumption.kind == LAYERS_SHRUNK for assumption in assumptions)


def variables(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """Those of the launch without its secrets; the worker gives each engine caches of its own."""
    return CPU | without_secrets(environ) | plan.launch.env | SETTINGS


def _asked(
    asking: Asking, engines: Sequence[Engine], starting: Starting, watching: Watching
) -> Generator[Answer | TunerError]:
    plan = starting.plan
    more = {"thin": thin_model(plan, starting.arguments)}
    told = [{"flag": engine.flag, "eager": engine.eager} for engine in engines]
    question = WorkerQuery(asking.question, plan.launch.args, watching.limit, watching.memory_limit, more, told)
    given = variables(plan, starting.environ)
    return query_engines(question, plan.subject.environment.python, lambda _control: given)


def _raised(answer: Answer | TunerError) -> Answer:
    if isinstance(answer, TunerError):
        raise answer
    return answer


def _entry(engine: Engine, status: str, detail: str) -> Found:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": engine.name, "status": status, "detail": detail, "made_at": now}
