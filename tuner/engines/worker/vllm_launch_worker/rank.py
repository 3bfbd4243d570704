"""Stamps the MoE calls of every model that a process of an engine loads, and reads the records.

Each process of an engine imports this module, and the import installs the stamps. vLLM adds `Rank` to the bases of its
worker class (`worker_extension_cls`). This setting does not change the key of a cache. The worker may run in the
engine's process, or in a forked or spawned process.
"""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker import stamps, trace
from vllm_launch_worker.dummy_weights import DummyWeights
from vllm_launch_worker.ring import Ring, use


class Rank(DummyWeights):
    """The methods that an engine may call on its workers by name.

    The weights are the same as in an arm of `tuner tune`, so the answers are the same, too.

    Attributes:
        vllm_config: the launch. vLLM's worker sets this attribute.
    """

    vllm_config: VllmConfig

    def moe_calls_clear(self) -> None:
        """Delete all records."""
        watch().clear()

    def moe_calls(self) -> dict[str, Any]:
        """The records of this process.

        Returns:
            `registered`: the names of the MoE layers, in construction order. `passes`: see `trace.passes` and
            `Watch.host_side`. `lost`: the number of lost records.

        Raises:
            RuntimeError: the model does not register a MoE layer, or a record is incomplete.
        """
        names = registered(self.vllm_config)
        records, lost = watch().ring.read()
        by_number = trace.passes(records, names)
        passes = [{**by_number[number], **watch().host_side(number)} for number in sorted(by_number)]
        return {"registered": names, "passes": passes, "lost": lost}


class Watch:
    """What the host records about passes, while the device writes the stamps.

    Attributes:
        ring: the buffer for the stamps.
        stamped: the names of the stamped layers.
        passes: one entry for each pass since the last `clear`. `graphs`: the number of CUDA graphs that it replayed.
            `before`: the number of stamps that ran in Python before the pass.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.stamped_names: set[str] = set()
        self.passes: list[dict[str, int]] = []

    def begin(self) -> None:
        """Record that a pass starts. vLLM makes a forward context for each pass."""
        self.ring.begin_pass()
        self.passes.append({"graphs": 0, "before": self.ring.python_stamps})

    def note_replay(self) -> None:
        """Record that a CUDA graph is replayed."""
        if self.passes:
            self.passes[-1]["graphs"] += 1

    def clear(self) -> None:
        """Delete all records, also those on the device."""
        self.passes = []
        self.ring.clear()

    def host_side(self, number: int) -> dict[str, Any]:
        """What the host recorded about one pass.

        Args:
            number: the number of the pass, counted from 1.

        Returns:
            `graphs`: the number of CUDA graphs that it replayed. `entered`: the number of stamps that ran in Python.
            `replayed`: whether it replayed a graph and no stamp ran in Python.
        """
        before, graphs = self.passes[number - 1]["before"], self.passes[number - 1]["graphs"]
        after = self.passes[number]["before"] if number < len(self.passes) else self.ring.python_stamps
        stamps_of_pass = after - before
        return {"graphs": graphs, "entered": stamps_of_pass, "replayed": graphs > 0 and stamps_of_pass == 0}


_watches: list[Watch] = []


def watch() -> Watch:
    """The watch of this process.

    Raises:
        RuntimeError: the loaded models do not register a MoE layer.
    """
    if not _watches:
        raise RuntimeError("the model registers no MoE layer")
    return _watches[-1]


def on_loaded(callback: Callable[[VllmConfig], None]) -> None:
    """Call a function with the config after vLLM loaded the weights of a model, and before it compiles the model."""
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    load = BaseModelLoader.load_model

    def load_and_call(self: Any, vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> Any:
        model = load(self, vllm_config, *args, **kwargs)
        callback(vllm_config)
        return model

    BaseModelLoader.load_model = load_and_call


def stamp_new(vllm_config: VllmConfig) -> None:
    """Stamp the layers that are not stamped yet. vLLM loads a draft model after its target model."""
    layers, names = vllm_config.compilation_config.static_forward_context, registered(vllm_config)
    if names and not _watches:
        _watches.append(make_watch(Ring(next(layers[names[0]].parameters()).device)))
    for index, name in enumerate(names):
        if name not in watch().stamped_names:
            stamps.attach(name, layers[name], index, watch().ring)
            watch().stamped_names.add(name)


def make_watch(ring: Ring) -> Watch:
    """Make a watch that records each pass and each replayed CUDA graph."""
    from vllm import forward_context

    use(ring)
    notes = Watch(ring)
    create = forward_context.create_forward_context

    def note_and_create(*args: Any, **kwargs: Any) -> Any:
        notes.begin()
        return create(*args, **kwargs)

    forward_context.create_forward_context = note_and_create
    notice_replays(notes.note_replay)
    return notes


def notice_replays(callback: Callable[[], None]) -> None:
    """Call a function each time a CUDA graph is replayed."""
    import torch

    if not torch.cuda.is_available():
        return
    replay = torch.cuda.CUDAGraph.replay

    def note_and_replay(graph: Any) -> Any:
        callback()
        return replay(graph)

    torch.cuda.CUDAGraph.replay = note_and_replay


def registered(vllm_config: VllmConfig) -> list[str]:
    """The names of the MoE layers, in construction order."""
    return list(vllm_config.compilation_config.static_all_moe_layers)


on_loaded(stamp_new)
