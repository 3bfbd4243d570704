"""Within each process of an engine: the MoE calls of every model that it loads are stamped, and the records read.

vLLM mixes `Rank` into its worker class (`worker_extension_cls`, no factor of any cache's key), whether the worker lives
in the engine's process or in one that was forked or spawned for it; importing this module there is what sets it up.
"""

from collections.abc import Callable

from vllm_launch_worker import stamps, trace
from vllm_launch_worker.ring import Ring, use
from vllm_launch_worker.scaled import Scaled


class Rank(Scaled):
    """What an engine may ask of its workers, by name; weights are those of the output probe, and so are the answers."""

    def moe_calls_clear(self) -> None:
        """Forget what was recorded."""
        watch().clear()

    def moe_calls(self) -> dict:
        """`registered`, layer names as they were built; `passes` in their order, see `trace.passes`; `lost` records."""
        names = registered(self.vllm_config)
        records, lost = watch().ring.read()
        found = trace.passes(records, names)
        passes = [{**one, **watch().host_side(number)} for number, one in sorted(found.items())]
        return {"registered": names, "passes": passes, "lost": lost}


class Watch:
    """What the host notes of passes while the device writes records.

    Attributes:
        ring: where the stamps go.
        stamped: names of the layers that are.
        passes: for each pass since the last `clear`, the CUDA graphs replayed and the stamps whose Python ran before.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.stamped: set = set()
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

    def host_side(self, number: int) -> dict:
        """Whether a pass, counted from 1, was replayed: some captured graph was, and no stamp's Python ran."""
        after = self.passes[number]["before"] if number < len(self.passes) else self.ring.entered
        entered = after - self.passes[number - 1]["before"]
        graphs = self.passes[number - 1]["graphs"]
        return {"graphs": graphs, "entered": entered, "replayed": graphs > 0 and entered == 0}


_watches: list = []


def watch() -> Watch:
    """The watch of this process.

    Raises:
        RuntimeError: no model was loaded that registers a MoE layer.
    """
    if not _watches:
        raise RuntimeError("the model registers no MoE layer")
    return _watches[-1]


def on_loaded(then: Callable) -> None:
    """Call this with its config whenever a model has its weights, before vLLM profiles, compiles and captures it."""
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    load = BaseModelLoader.load_model

    def loading(self, vllm_config, *args, **kwargs):
        model = load(self, vllm_config, *args, **kwargs)
        then(vllm_config)
        return model

    BaseModelLoader.load_model = loading


def stamp_new(vllm_config) -> None:
    """Stamp the layers that were registered since the last model; a draft's come after its target's."""
    layers, names = vllm_config.compilation_config.static_forward_context, registered(vllm_config)
    if names and not _watches:
        _watches.append(begun(Ring(next(layers[names[0]].parameters()).device)))
    for index, name in enumerate(names):
        if name not in watch().stamped:
            stamps.attach(name, layers[name], index, watch().ring)
            watch().stamped.add(name)


def begun(ring: Ring) -> Watch:
    """A watch to which each pass and each replayed graph is told."""
    from vllm import forward_context

    use(ring)
    made = Watch(ring)
    create = forward_context.create_forward_context

    def creating(*args, **kwargs):
        made.begin()
        return create(*args, **kwargs)

    forward_context.create_forward_context = creating
    notice_replays(made.replayed)
    return made


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


def registered(vllm_config) -> list:
    """The MoE layers in the order in which they were built."""
    return list(vllm_config.compilation_config.static_all_moe_layers)


on_loaded(stamp_new)
