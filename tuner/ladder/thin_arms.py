"""The smaller model that all arms of a launch serve where the real weights are not here."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.engines import code_folder, has_weights, ran_with_fewer_layers
from tuner.environment.nvml import gpu_memory
from tuner.launch.plan import Plan
from tuner.model.config_size import check_config_size
from tuner.model.quantization import names_quantization
from tuner.model.shrink_to_memory import shrink_to_memory
from tuner.processes.limits import default_memory

ON_GPUS = frozenset({"cuda", "rocm"})
"""Platforms whose engines share the memory of GPUs."""
PART = 0.9
"""The part of a GPU's memory that all arms together may take."""
WEIGHTS = 0.75
"""The part of an arm's share of a GPU that its weights may take. The KV cache and what a pass needs take the rest."""
WEIGHTS_ON_CPU = 0.25
"""The part of a process's memory that the weights of an arm may take on a CPU. vLLM repacks them there, which needs
them twice, and two cores fill a gigabyte in four seconds."""

SMALLER = "smaller model: "
"""Begins each text that says what is smaller."""


class ThinArms(Struct, frozen=True):
    """The model that arms serve.

    Attributes:
        request: what the worker gets (`thin.write`); None for the model itself.
        is_quantised: whether its weights are quantised.
        changed: what is smaller in it than in the real one, in words.
        estimate: bytes that its weights take at most; 0 for the model itself.
    """

    request: Mapping[str, Any] | None
    is_quantised: bool
    changed: tuple[str, ...]
    estimate: int


def thin_arms(plan: Plan, arguments: ServeArguments, limit: int | None, *, keeps_quantization: bool = True) -> ThinArms:
    """The model that arms serve: the real one where its weights are here, else one with fewer layers that fits.

    Args:
        plan: the plan of the launch.
        arguments: the user's arguments, read.
        limit: bytes that the weights of an arm may take; None if the memory is not known.
        keeps_quantization: whether quantised weights are made up where that can be done.
    """
    model = plan.subject.model
    if has_weights(plan, arguments):
        return ThinArms(None, is_quantised=names_quantization(model.config), changed=(), estimate=0)
    check_config_size(model.config)
    has_fewer_layers = ran_with_fewer_layers(plan)
    small = shrink_to_memory(model.config, limit, layers=has_fewer_layers, keeps_quantization=keeps_quantization)
    return ThinArms(
        {"config": small.config, "code": code_folder(plan)},
        is_quantised=small.is_quantised,
        changed=tuple(f"{SMALLER}{assumption['detail']}" for assumption in small.assumptions),
        estimate=small.estimate,
    )


def weight_limit(plan: Plan, arguments: ServeArguments, seats: int, memory_limit: int | None) -> int | None:
    """Bytes that the weights of an arm may take, over all its processes; None if the GPU's memory is not known.

    Args:
        plan: the plan of the launch.
        arguments: the user's arguments, read.
        seats: how many arms run at the same time.
        memory_limit: bytes for each engine on a CPU; None: as much as suits this machine.
    """
    ranks = arguments.serving.tensor_parallel_size
    if plan.subject.environment.platform in ON_GPUS:
        memory = gpu_memory()
        return None if memory is None else int(memory * PART / seats * WEIGHTS) * ranks
    return int((memory_limit or default_memory()) / seats * WEIGHTS_ON_CPU)
