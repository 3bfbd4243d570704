"""The engine of a launch, started in this process, and in those that it spreads over."""

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
        RuntimeError: the launch has such a class itself, or its processes would differ in what they run.
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
    config, said = images.configured(arguments, thin=request["thin"] is not None, wanted=with_images)
    require_alike(config.parallel_config)
    return config, [said[0], *changed, *said[1:]]


def require_alike(parallel) -> None:
    """See that each process of the launch runs the whole model, or a slice of each layer.

    Raises:
        RuntimeError: it does not.
    """
    if parallel.pipeline_parallel_size > 1:
        raise RuntimeError("the launch has pipeline stages, each with layers of its own, which are not followed here")
    if parallel.data_parallel_size > 1:
        raise RuntimeError("the launch has several data-parallel engines, and one is started here")


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
    }
