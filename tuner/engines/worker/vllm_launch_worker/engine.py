"""The engine of a launch, started in this process, and in those that it spreads over."""

import dataclasses
from pathlib import Path

from vllm_launch_worker import images, launch, thin


def configured(request: dict, control: Path, extension: str, *, with_images: bool = False) -> tuple:
    """The VllmConfig of the launch, and what is otherwise than there, in words.

    Args:
        request: `args`, what stands behind `vllm serve`; `flag`, a value for `fast_moe_cold_start`, or None for the
            launch's own; `eager`: without compiling and CUDA graphs; `thin`, a model in place of the launch's (see
            `thin.write`), or None.
        control: a folder of this process alone.
        extension: the class that each of its workers gets, `module.Class`.
        with_images: let the engine take images where the model's processor is here.

    Raises:
        RuntimeError: the launch has such a class itself.
    """
    arguments = launch.engine_args(request["args"])
    changed = []
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
    config, said = images.configured(arguments, thin=request["thin"] is not None, wanted=with_images)
    return config, [said[0], *changed, *said[1:]]


def stand_alone(arguments) -> list:
    """Start one engine, of one stage, where the launch has several: each runs the model's code by itself.

    Args:
        arguments: AsyncEngineArgs, changed.

    Returns:
        What is otherwise than in the launch, in words.
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


def started(config):
    """The engine, in this process."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    return LLMEngine.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER, disable_log_stats=True)


def ended(engine) -> None:
    """End the engine and its processes: the next one needs their memory."""
    engine.engine_core.shutdown()


def became(config) -> dict:
    """What of the launch decides how passes run."""
    compilation = config.compilation_config
    return {
        "mode": getattr(compilation.mode, "name", str(compilation.mode)),
        "backend": str(compilation.backend),
        "cudagraph_mode": getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode)),
        "flag": getattr(compilation, "fast_moe_cold_start", None),
        "enforce_eager": config.model_config.enforce_eager,
        "processes": config.parallel_config.world_size,
    }
