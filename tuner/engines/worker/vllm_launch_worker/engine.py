"""Configures, starts and ends the engine of a launch. It runs in this process and may start further processes."""

import dataclasses
from pathlib import Path
from typing import Any, cast

from shared_worker.vllm_types import Engine, EngineArgs, VllmConfig
from vllm_launch_worker import images, launch, thin


def make_config(
    request: dict[str, Any], control: Path, extension: str, *, with_images: bool = False
) -> tuple[VllmConfig, list[str]]:
    """Make the config of the engine.

    Args:
        request: `args`: the arguments of `vllm serve`. `flag`: the value for `fast_moe_cold_start`, or None to keep the
            value of the launch. `eager`: whether the engine runs without compiling and without CUDA graphs. `thin`: a
            model that replaces the model of the launch (see `thin.write`), or None.
        control: a folder that only this process uses.
        extension: the class that vLLM adds to each worker, written as `module.Class`.
        with_images: whether the engine accepts images, if the model's processor is on this machine.

    Returns:
        The VllmConfig, and one sentence for each difference from the launch.

    Raises:
        RuntimeError: the launch has a worker extension of its own. vLLM accepts only one.
    """
    arguments = launch.engine_args(request["args"])
    changed: list[str] = []
    if request["thin"] is not None:
        thin.write(request["thin"], control / "model")
        images.carry(arguments, control / "model")
        changed += thin.put_in_place(arguments, control / "model")
    if request["eager"]:
        arguments.enforce_eager = True
    if request["flag"] is not None:
        arguments.compilation_config.fast_moe_cold_start = request["flag"]
    if arguments.worker_extension_cls:
        raise RuntimeError("the launch has a worker extension of its own, and vLLM takes one")
    arguments.worker_extension_cls = extension
    changed += stand_alone(arguments)
    config, notes = images.make_config(arguments, thin=request["thin"] is not None, with_images=with_images)
    return config, [notes[0], *changed, *notes[1:]]


def stand_alone(arguments: EngineArgs) -> list[str]:
    """Reduce a launch with several data-parallel engines or pipeline stages to one engine with one stage.

    Each engine and each stage runs the model's code by itself. The one stage that remains holds all layers.

    Args:
        arguments: AsyncEngineArgs. This function changes them.

    Returns:
        One sentence for each difference from the launch.
    """
    changed = []
    if (engines := arguments.data_parallel_size) > 1:
        for field in dataclasses.fields(arguments):
            if field.name.startswith("data_parallel_"):
                setattr(arguments, field.name, field.default)
        changed.append(f"one engine stands for {engines} data-parallel ones")
    if (stages := arguments.pipeline_parallel_size) > 1:
        arguments.pipeline_parallel_size = 1
        changed.append(f"one stage with all layers stands for {stages} pipeline stages")
    return changed


def start(config: VllmConfig) -> Engine:
    """Start the engine in this process."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    engine = LLMEngine.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER, disable_log_stats=True)
    return cast("Engine", engine)


def end(engine: Engine) -> None:
    """End the engine and its processes, because the next engine needs their memory."""
    engine.engine_core.shutdown()


def final_settings(config: VllmConfig) -> dict[str, Any]:
    """The settings that decide how passes run, read from the config after the engine started.

    Returns:
        `mode`, `backend` and `cudagraph_mode`: how vLLM compiles. `flag`: `fast_moe_cold_start`, None if this release
        does not have it. `enforce_eager`. `processes`: the number of worker processes.
    """
    compilation = config.compilation_config
    return {
        "mode": getattr(compilation.mode, "name", str(compilation.mode)),
        "backend": str(compilation.backend),
        "cudagraph_mode": getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode)),
        "flag": getattr(compilation, "fast_moe_cold_start", None),
        "enforce_eager": config.model_config.enforce_eager,
        "processes": config.parallel_config.world_size,
    }
