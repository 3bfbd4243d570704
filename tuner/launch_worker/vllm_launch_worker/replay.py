"""The replay probe: the engine of a launch, its MoE calls stamped on the device, real requests, and what ran."""

import os
from collections.abc import Callable
from pathlib import Path

from vllm_launch_worker import images, launch, requests, stamps, thin, trace
from vllm_launch_worker.ring import Ring, use


class Watch:
    """What the host notes of passes while the device writes records.

    Attributes:
        passes: for each pass since the last `clear`, the CUDA graphs replayed and the stamps whose Python ran.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.passes: list[dict] = []

    def begin(self) -> None:
        """A forward context is made: a pass begins."""
        self.ring.begin_pass()
        self.passes.append({"graphs": 0, "before": self.ring.entered})

    def replayed(self) -> None:
        """A CUDA graph is replayed."""
        if self.passes:
            self.passes[-1]["graphs"] += 1

    def clear(self) -> None:
        """Begin anew."""
        self.passes = []
        self.ring.clear()

    def entered(self, number: int) -> int:
        """The stamps of a pass, counted from 1, whose Python ran."""
        after = self.passes[number]["before"] if number < len(self.passes) else self.ring.entered
        return after - self.passes[number - 1]["before"]


def observe(request: dict, control: Path) -> dict:
    """Start the engine of a launch in this process, send requests, and read the trace.

    Args:
        request: `args`, what stands behind `vllm serve`; `flag`, a value for `fast_moe_cold_start`, or None for the
            launch's own; `thin`, a model in place of the launch's (see `thin.write`), or None.
        control: a folder of this process alone.

    Returns:
        `registered`: layer names; `passes`: see `trace.grouped`; `lost`: records that did not fit; `requests`: which
        fit; `engine`: what the launch became; `changed`: what is otherwise than in the launch.

    Raises:
        RuntimeError: the launch spreads over processes, or a layer cannot be watched.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # before vLLM is imported
    config, changed = configured(request, control, with_images=True)
    if config.parallel_config.world_size > 1:
        raise RuntimeError("the launch spreads over several processes, and the replay probe watches one")
    watches: list[Watch] = []
    on_loaded(lambda: watches.append(watched(config)))
    engine = started(config)
    described, lost, refused = sent(engine, config, watches[0])
    return {
        "registered": registered(config),
        "passes": trace.grouped(described),
        "lost": lost,
        "requests": list(plans_for(config)),
        "engine": became(config),
        "changed": [*changed, *refused],
    }


def configured(request: dict, control: Path, *, with_images: bool = False) -> tuple:
    """The VllmConfig of the launch, and what is otherwise than there."""
    arguments = launch.engine_args(request["args"])
    changed = []
    if request["thin"] is not None:
        thin.write(request["thin"], control / "model")
        images.carry(arguments, control / "model")
        changed += thin.put_in_place(arguments, control / "model")
    if request.get("eager"):
        arguments.enforce_eager = True
    if request["flag"] is not None:
        arguments.compilation_config.fast_moe_cold_start = request["flag"]
    config, said = images.configured(arguments, thin=request["thin"] is not None, wanted=with_images)
    return config, [said[0], *changed, *said[1:]]


def plans_for(config) -> dict:
    """The requests that fit this engine."""
    scheduler = config.scheduler_config
    sizes = (config.model_config.max_model_len, scheduler.max_num_batched_tokens, scheduler.max_num_seqs)
    return {**requests.plans(*sizes), **images.plans(config)}


def sent(engine, config, watch: Watch) -> tuple:
    """Send all requests; the passes they caused, how many records were lost, and what was refused, in words."""
    described, lost, refused = [], 0, []
    for name, parts in plans_for(config).items():
        watch.clear()
        try:
            for _ in requests.send(engine, name, parts, config.model_config.get_vocab_size()):
                pass
        except Exception as failure:
            refused.append(images.refused(name, failure))
            break
        records, missed = watch.ring.read()
        lost += missed
        found = trace.passes(records, registered(config))
        described += [{**one, **host_side(watch, number), "request": name} for number, one in sorted(found.items())]
    return described, lost, refused


def started(config):
    """The engine, in this process."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    return LLMEngine.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER, disable_log_stats=True)


def on_loaded(then: Callable[[], None]) -> None:
    """Call this once the first model has its weights, before vLLM profiles, compiles and captures it."""
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    load = BaseModelLoader.load_model

    def loading(*args, **kwargs):
        model = load(*args, **kwargs)
        BaseModelLoader.load_model = load
        then()
        return model

    BaseModelLoader.load_model = loading


def watched(config) -> Watch:
    """Stamp the layers that are registered now, and number the passes."""
    from vllm import forward_context

    layers = config.compilation_config.static_forward_context
    named = {name: layers[name] for name in registered(config)}
    if not named:
        raise RuntimeError("the model registers no MoE layer")
    ring = Ring(next(iter(named.values())).parameters().__next__().device)
    use(ring)
    stamps.attach(named, ring)
    watch = Watch(ring)
    create = forward_context.create_forward_context

    def creating(*args, **kwargs):
        watch.begin()
        return create(*args, **kwargs)

    forward_context.create_forward_context = creating
    notice_replays(watch.replayed)
    return watch


def notice_replays(then: Callable[[], None]) -> None:
    """Call this whenever a CUDA graph is replayed."""
    import torch

    if not torch.cuda.is_available():
        return
    replay = torch.cuda.CUDAGraph.replay

    def replaying(graph):
        then()
        return replay(graph)

    torch.cuda.CUDAGraph.replay = replaying


def registered(config) -> list:
    """The MoE layers in the order in which they were built."""
    return list(config.compilation_config.static_all_moe_layers)


def host_side(watch: Watch, number: int) -> dict:
    """Whether a pass was replayed from captured graphs: some were, and no stamp's Python ran."""
    graphs, entered = watch.passes[number - 1]["graphs"], watch.entered(number)
    return {"graphs": graphs, "entered": entered, "replayed": graphs > 0 and entered == 0}


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
