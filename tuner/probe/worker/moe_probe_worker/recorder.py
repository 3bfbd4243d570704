"""Records which MoE layer was called and which one ran.

Each MoE call is observed at two points, because neither point alone sees every path.
At the *call*, a layer encodes its own name for vLLM's MoE operator
(`_encode_layer_name`, vLLM 0.17 and later). At the *run*, the implementation of
the resolved layer starts. Module hooks see neither point: LoRA wrappers and fused
paths do not use `forward`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from shared_worker.vllm_types import Json, Layers, Module, Tensor, VllmConfig

WEAKEST_FIRST = ("hook", "run", "call_and_run")
"""The methods of observation, from the weakest."""
IMPLEMENTATIONS = ("_forward_impl", "forward_impl", "forward_impl_chunked")


class Watcher(Protocol):
    """What records the MoE calls of a pass: `Recorder`, or `entrances.Notes`."""

    layers: Layers
    stubbed: bool
    counted: bool

    def record(self, forward: Callable[[], object]) -> list[list[Json]]:
        """Run one pass."""


class Recorder:
    """Observes the MoE layers of one model.

    Args:
        layers: registered name -> layer object, in registered order.

    Attributes:
        method: what could be observed: `call_and_run`, `run`, or `hook` if a
            release has neither point; the weakest over all layers.
        counted: whether a pass resolved names through vLLM's counter.
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
            if name in self._running:  # one entry point calls another
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

        Returns:
            For each forward context, its MoE calls in order: `called`, the
            layer the model meant, and `ran`, the layer that was resolved.
        """
        self.events, self.contexts, self._running = [], [], set()
        forward()
        events: list[list[tuple[str, str]]] = [[] for _ in self.contexts]
        for context, kind, name in self.events:
            events[context].append((kind, name))
        return list(map(paired, events))


def paired(events: list[tuple[str, str]]) -> list[Json]:
    """Join each call with the run that follows it; a run without a call counts as its own call."""
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
    """What the implementation would return, in shape: routed output, or (shared, routed)."""
    import torch

    tensors = tensors_of(args, kwargs)
    hidden = tensors[0]
    entry = getattr(owner, "_forward_entry", None) or getattr(owner, "moe_forward", None)
    routed: Tensor = torch.zeros_like(hidden)
    if "shared" not in str(getattr(entry, "__name__", entry)):
        return routed
    # The input of the shared experts is the last tensor that has the model's own width.
    shared = [tensor for tensor in tensors[2:] if tensor.is_floating_point()] or [hidden]
    return torch.zeros_like(shared[-1]), routed


def answer_zero_experts(owner: Any, args: tuple[Any, ...], kwargs: Json) -> None:
    """Leave zeros where a router keeps the part of LongCat's zero experts, which is added after the implementation.

    `ZeroExpertRouter` of vllm/model_executor/layers/fused_moe/router (0.32.0) computes it while it selects experts.
    """
    import torch

    router: Any = getattr(owner, "router", None)
    if hasattr(router, "_zero_expert_output"):
        router._zero_expert_output = torch.zeros_like(tensors_of(args, kwargs)[0])


def tensors_of(args: tuple[Any, ...], kwargs: Json) -> list[Tensor]:
    """The tensors among the arguments, in their order; the hidden states come first."""
    import torch

    return [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]


def registered_layers(vllm_config: VllmConfig) -> Layers:
    """Registered MoE layers by name, in construction order.

    `static_all_moe_layers` where the release keeps it (0.15.1 and later), else
    the MoE layers of `static_forward_context`.
    """
    compilation = vllm_config.compilation_config
    layers = compilation.static_forward_context
    names = getattr(compilation, "static_all_moe_layers", None)
    if names is None:
        names = [name for name, layer in layers.items() if type(layer).__name__ in ("FusedMoE", "MoERunner")]
    return {name: layers[name] for name in names}
