"""Records which MoE layer was called and which one ran.

Each MoE call is observed at two points, because neither point sees every path.
The *call*: a layer encodes its own name for vLLM's MoE operator
(`_encode_layer_name`, vLLM 0.17 and later). The *run*: the implementation of the
layer that vLLM resolved starts. Module hooks cannot observe these points: LoRA
wrappers and fused paths do not use `forward`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from shared_worker.vllm_types import Json, Layers, Module, Tensor, VllmConfig

WEAKEST_FIRST = ("hook", "run", "call_and_run")
"""The methods of observation, weakest first."""
IMPLEMENTATIONS = ("_forward_impl", "forward_impl", "forward_impl_chunked")
"""Names that vLLM's releases give to the implementation of a MoE layer."""


class Watcher(Protocol):
    """An object that records the MoE calls of a pass: `Recorder` or `entrances.Notes`."""

    layers: Layers
    stubbed: bool
    counted: bool

    def record(self, forward: Callable[[], object]) -> list[list[Json]]:
        """Run one pass. Returns the MoE calls of each forward context."""


class Recorder:
    """Observes the MoE layers of one model.

    Args:
        layers: registered name -> layer object, in registered order.

    Attributes:
        method: the points that can be observed in all layers: `call_and_run`, `run`, or `hook` (a module hook, if a
            layer has neither point).
        counted: whether vLLM's counter resolved a name in any pass.
        stubbed: while true, implementations are recorded but not executed.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.events: list[tuple[int, str, str]] = []
        self.contexts: list[object] = []
        self.stubbed = False
        self.counted = False
        self._running: set[str] = set()
        self.method = self._attach()

    def _attach(self) -> str:
        methods = set()
        for name, layer in self.layers.items():
            methods.add(self._attach_layer(name, layer))
        return min(methods, key=WEAKEST_FIRST.index, default=WEAKEST_FIRST[-1])

    def _attach_layer(self, name: str, layer: Module) -> str:
        owners = [layer, layer.runner] if hasattr(layer, "runner") else [layer]
        sees_runs = sees_calls = False
        for owner in owners:
            for point in IMPLEMENTATIONS:
                sees_runs |= self._wrap_run(name, owner, point)
            sees_calls |= self._wrap_call(name, owner)
        if sees_runs:
            return "call_and_run" if sees_calls else "run"
        layer.register_forward_pre_hook(lambda *_: self._note("run", name))
        return "hook"

    def _wrap_call(self, name: str, owner: Any) -> bool:
        encode = getattr(owner, "_encode_layer_name", None)
        if encode is None:
            return False

        def call() -> Any:
            self._note("call", name)
            return encode()

        owner._encode_layer_name = call
        return True

    def _wrap_run(self, name: str, owner: Any, point: str) -> bool:
        implementation = getattr(owner, point, None)
        if implementation is None:
            return False

        def run(*args: Any, **kwargs: Any) -> Any:
            if name in self._running:  # one implementation called another one of the same layer
                return implementation(*args, **kwargs)
            self._note("run", name)
            if self.stubbed:
                answer_zero_experts(owner, args, kwargs)
                return shaped_like_output(owner, args, kwargs)
            self._running.add(name)
            try:
                return implementation(*args, **kwargs)
            finally:
                self._running.discard(name)

        setattr(owner, point, run)
        return True

    def _note(self, kind: str, name: str) -> None:
        from vllm.forward_context import get_forward_context

        context = get_forward_context()
        if not self.contexts or self.contexts[-1] is not context:
            self.contexts.append(context)
        self.counted = self.counted or getattr(context, "moe_layer_index", 0) > 0
        self.events.append((len(self.contexts) - 1, kind, name))

    def record(self, forward: Callable[[], object]) -> list[list[Json]]:
        """Run one pass.

        Args:
            forward: runs it.

        Returns:
            For each forward context its MoE calls in order. `called`: the layer that the model called; `ran`: the
            layer that vLLM resolved.

        Raises:
            Exception: what the pass raised.
        """
        self.events, self.contexts, self._running = [], [], set()
        forward()
        events: list[list[tuple[str, str]]] = [[] for _ in self.contexts]
        for context, kind, name in self.events:
            events[context].append((kind, name))
        return list(map(pair, events))


def pair(events: list[tuple[str, str]]) -> list[Json]:
    """Join each call with the run after it. If a run has no call, the layer that ran also counts as called."""
    calls: list[Json] = []
    for kind, name in events:
        if kind == "call":
            calls.append({"called": name, "ran": None})
        elif calls and calls[-1]["ran"] is None:
            calls[-1]["ran"] = name
        else:
            calls.append({"called": name, "ran": name})
    return calls


def shaped_like_output(owner: Any, args: tuple[Any, ...], kwargs: Json) -> Tensor | tuple[Tensor, Tensor]:
    """Zeros in the shape of the implementation's output: the routed output, or (shared, routed)."""
    import torch

    tensors = tensors_of(args, kwargs)
    hidden = tensors[0]
    entry = getattr(owner, "_forward_entry", None) or getattr(owner, "moe_forward", None)
    routed: Tensor = torch.zeros_like(hidden)
    if "shared" not in str(getattr(entry, "__name__", entry)):
        return routed
    # The last floating tensor is the input of the shared experts. Its width is the hidden size of the model.
    shared = [tensor for tensor in tensors[2:] if tensor.is_floating_point()] or [hidden]
    return torch.zeros_like(shared[-1]), routed


def answer_zero_experts(owner: Any, args: tuple[Any, ...], kwargs: Json) -> None:
    """Store zeros as the output of LongCat's zero experts, which vLLM adds after the implementation.

    `ZeroExpertRouter` in vllm/model_executor/layers/fused_moe/router (0.32.0) stores that output when it selects
    experts. That does not happen if the implementation is skipped.
    """
    import torch

    router: Any = getattr(owner, "router", None)
    if hasattr(router, "_zero_expert_output"):
        router._zero_expert_output = torch.zeros_like(tensors_of(args, kwargs)[0])


def tensors_of(args: tuple[Any, ...], kwargs: Json) -> list[Tensor]:
    """The tensors among the arguments, in their order. The first one is the hidden states."""
    import torch

    return [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]


def registered_layers(vllm_config: VllmConfig) -> Layers:
    """Registered MoE layers by name, in construction order.

    They come from `static_all_moe_layers` if the release has that list (0.15.1 and later). Otherwise they are the MoE
    layers in `static_forward_context`.
    """
    compilation = vllm_config.compilation_config
    layers = compilation.static_forward_context
    names = getattr(compilation, "static_all_moe_layers", None)
    if names is None:
        names = [name for name, layer in layers.items() if type(layer).__name__ in ("FusedMoE", "MoERunner")]
    return {name: layers[name] for name in names}
