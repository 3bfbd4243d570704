"""In each process of an engine: stamps the MoE calls of every model that it loads, and reads the records.

vLLM mixes `Rank` into its worker class (`worker_extension_cls`, which is not a factor of any cache's key). The worker
may live in the engine's process, or in a process that was forked or spawned for it. Importing this module sets it up.
"""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker import stamps, trace
from vllm_launch_worker.ring import Ring, use
from vllm_launch_worker.scaled import Scaled


class Rank(Scaled):
    """The methods that an engine may call on its workers by name.

    Weights are those of the output probe, and so are the answers.

    Attributes:
        vllm_config: the launch; vLLM's worker sets it.
    """

    vllm_config: VllmConfig

    def moe_calls_clear(self) -> None:
        """Forget all records."""
        watch().clear()

    def moe_calls(self) -> dict[str, Any]:
        """`registered`: layer names in construction order; `passes`: see `trace.passes`; `lost`: lost records."""
        names = registered(self.vllm_config)
        records, lost = watch().ring.read()
        by_number = trace.passes(records, names)
        passes = [{**by_number[number], **watch().host_side(number)} for number in sorted(by_number)]
        return {"registered": names, "passes": passes, "lost": lost}


class Watch:
    """What the host notes about passes while the device writes records.

    Attributes:
        ring: where the stamps go.
        stamped: names of the stamped layers.
        passes: of each pass since the last `clear`, the replayed CUDA graphs, and the stamps that ran in Python before.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.stamped: set[str] = set()
        self.passes: list[dict[str, int]] = []

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

    def host_side(self, number: int) -> dict[str, Any]:
        """Whether a pass was replayed: a captured graph was, and no stamp's Python ran. Passes count from 1."""
        after = self.passes[number]["before"] if number < len(self.passes) else self.ring.entered
        entered = after - self.passes[number - 1]["before"]
        graphs = self.passes[number - 1]["graphs"]
        return {"graphs": graphs, "entered": entered, "replayed": graphs > 0 and entered == 0}


_watches: list[Watch] = []


def watch() -> Watch:
    """The watch of this process.

    Raises:
        RuntimeError: no loaded model registers a MoE layer.
    """
    if not _watches:
        raise RuntimeError("the model registers no MoE layer")
    return _watches[-1]


def on_loaded(then: Callable[[VllmConfig], None]) -> None:
    """Call a function with the config when a model has its weights, before vLLM profiles, compiles and captures it."""
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    load = BaseModelLoader.load_model

    def loading(self: Any, vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> Any:
        model = load(self, vllm_config, *args, **kwargs)
        then(vllm_config)
        return model

    BaseModelLoader.load_model = loading


def stamp_new(vllm_config: VllmConfig) -> None:
    """Stamp the layers that were registered since the last model; those of a draft come after those of its target."""
    layers, names = vllm_config.compilation_config.static_forward_context, registered(vllm_config)
    if names and not _watches:
        _watches.append(begun(Ring(next(layers[names[0]].parameters()).device)))
    for index, name in enumerate(names):
        if name not in watch().stamped:
            stamps.attach(name, layers[name], index, watch().ring)
            watch().stamped.add(name)


def begun(ring: Ring) -> Watch:
    """A watch that counts each pass and each replayed graph."""
    from vllm import forward_context

    use(ring)
    notes = Watch(ring)
    create = forward_context.create_forward_context

    def creating(*args: Any, **kwargs: Any) -> Any:
        notes.begin()
        return create(*args, **kwargs)

    forward_context.create_forward_context = creating
    notice_replays(notes.replayed)
    return notes


def notice_replays(then: Callable[[], None]) -> None:
    """Call a function whenever a CUDA graph is replayed."""
    import torch

    if not torch.cuda.is_available():
        return
    replay = torch.cuda.CUDAGraph.replay

    def replaying(graph: Any) -> Any:
        then()
        return replay(graph)

    torch.cuda.CUDAGraph.replay = replaying


def registered(vllm_config: VllmConfig) -> list[str]:
    """Names of the MoE layers in the order in which they were built."""
    return list(vllm_config.compilation_config.static_all_moe_layers)


on_loaded(stamp_new)
