"""Engines as a launch would start them: the launch, how they are supervised, and a model in the place of a real one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rules.assumptions import LAYERS_SHRUNK
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.stand_ins import stand_ins
from tuner.launch.plan import Plan
from tuner.model.config_size import check_config_size
from tuner.model.shrink import shrink
from tuner.processes.log_tail import ignored


@dataclass(frozen=True)
class Supervision:
    """How engines are supervised.

    Attributes:
        say: gets a sentence about each engine that begins.
        limit: seconds for each engine, vLLM's import excluded.
        memory_limit: bytes for each engine; None: as much as suits this machine.
        hear: gets the last line of an engine's log, now and then; from any thread.
    """

    say: Callable[[str], None]
    limit: float
    memory_limit: int | None
    hear: Callable[[str], None] = ignored


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


def thin_model(plan: Plan, arguments: ServeArguments) -> dict[str, Any] | None:
    """A smaller model where the real weights are not here: random weights of full size would show no more.

    It has as many layers as the order probe ran, which is all of them where the model's code asks for layers by number.
    """
    if has_weights(plan, arguments):
        return None
    model = plan.subject.model
    check_config_size(model.config)
    small = shrink(model.config)
    is_cut = small.deep is None or ran_with_fewer_layers(plan)
    return {"config": small.config if is_cut else small.deep, "code": code_folder(plan)}


def has_weights(plan: Plan, arguments: ServeArguments) -> bool:
    """Whether the model's own weights are here."""
    return "dummy" not in stand_ins(plan, arguments)


def code_folder(plan: Plan) -> str | None:
    """The folder with the model's own code; None if this code must not run."""
    return plan.subject.model.folder if plan.subject.trust_remote_code else None


def ran_with_fewer_layers(plan: Plan) -> bool:
    """Whether the order probe, which runs first, needed fewer layers than the model has."""
    assumptions = plan.lookup.report.assumptions if plan.lookup.report else ()
    return any(assumption.kind == LAYERS_SHRUNK for assumption in assumptions)
