"""The replay probe: the engine that a launch would start, its MoE calls watched on the device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rules.releases import FlagStatus
from tuner.arguments import ServeArguments
from tuner.errors import TunerError
from tuner.launch_question import Question, asked
from tuner.plan import Plan
from tuner.probe.answers import Shape, require
from tuner.probe.modest import require_modest
from tuner.probe.shrink import shrink
from tuner.scrub import without_secrets
from tuner.warm import stand_ins

Found = dict[str, Any]
PASS = ("request", "called", "ran", "tokens", "count", "replayed", "entangled")
NOTHING: Found = {"registered": [], "lost": 0, "engine": {}, "changed": [], "passes": []}
ANSWER: Shape = {"registered": list, "passes": list, "lost": int, "engine": dict, "changed": list}
SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB; without it a CPU build reserves half the machine."""


@dataclass(frozen=True)
class Engine:
    """One engine to start.

    Attributes:
        name: `flag_on`, `flag_off` or `as_launched`.
        flag: what `fast_moe_cold_start` is set to; None leaves the launch as it is.
    """

    name: str
    flag: bool | None


@dataclass(frozen=True)
class Watching:
    """How engines are watched.

    Attributes:
        say: told what begins.
        limit: seconds for each engine, vLLM's import included.
        memory_limit: bytes for each; None: as much as suits this machine.
    """

    say: Callable[[str], None]
    limit: float
    memory_limit: int | None


def engines(plan: Plan) -> list[Engine]:
    """Both values of the flag where it can be set, else the launch as it is."""
    if plan.flag.status is FlagStatus.SETTABLE:
        return [Engine("flag_on", True), Engine("flag_off", False)]
    return [Engine("as_launched", None)]


def replayed(plan: Plan, arguments: ServeArguments, environ: Mapping[str, str], watching: Watching) -> list[Found]:
    """Watch each engine of a launch.

    Args:
        plan: the launch.
        arguments: those of the user, read.
        environ: the environment variables of the launch.
        watching: limits, and who is told what begins.

    Returns:
        What the report keeps of them (`rules.report.Replay`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    thin = thin_model(plan, arguments)
    found: list[Found] = []
    failures: list[TunerError] = []
    for engine in engines(plan):
        watching.say(f"starting the engine, {engine.name.replace('_', ' ')} (one to several minutes)")
        more = {"flag": engine.flag, "thin": thin}
        question = Question("replay", plan.launch.args, watching.limit, watching.memory_limit, more)
        try:
            answer = asked(question, plan.subject.environment.python, lambda control: variables(plan, environ, control))
            found.append(_ran(engine, answer))
        except TunerError as failure:
            failures.append(failure)
            found.append({**_entry(engine, "failed", failure.message), **NOTHING})
    if len(failures) == len(found):
        raise failures[0]
    return found


def thin_model(plan: Plan, arguments: ServeArguments) -> dict[str, Any] | None:
    """A cut model where the real one's weights are not here: whole ones of random numbers would show no more."""
    if "dummy" not in stand_ins(plan, arguments):
        return None
    model = plan.subject.model
    require_modest(model.config)
    code = model.folder if plan.subject.trust_remote_code else None
    return {"config": shrink(model.config).config, "code": code}


def variables(plan: Plan, environ: Mapping[str, str], control: Path) -> dict[str, str]:
    """Those of the launch without its secrets, with caches of this probe alone: no server may load a stamped graph."""
    own = {"VLLM_CACHE_ROOT": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TMPDIR": "tmp"}
    folders = {name: str(control / folder) for name, folder in own.items()}
    return CPU | without_secrets(environ) | plan.launch.env | SETTINGS | folders


def _ran(engine: Engine, answer: Mapping[str, Any]) -> Found:
    require("result.json", answer, ANSWER)
    passes = [{name: one.get(name) for name in PASS} for one in answer["passes"] if isinstance(one, dict)]
    kept = {name: answer[name] for name in ("registered", "lost", "engine", "changed")}
    return {**_entry(engine, "ran", ""), **kept, "passes": passes}


def _entry(engine: Engine, status: str, detail: str) -> Found:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": engine.name, "status": status, "detail": detail, "made_at": now}
