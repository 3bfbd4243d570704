"""Two stamps for each MoE call: one at the layer that the model calls, one in the code of the layer that vLLM runs."""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import Tensor
from vllm_launch_worker.ring import Ring, operator
from vllm_launch_worker.trace import CALLED, RAN

IMPLEMENTATIONS = ("_forward_impl", "forward_impl", "forward_impl_chunked")
"""The methods that the MoE operator calls after it found the layer (fused_moe/runner, 0.16.0 to 0.33.0)."""


def attach(name: str, layer: Any, index: int, ring: Ring) -> None:
    """Stamp every call and run of a layer.

    Args:
        name: the registered name of the layer.
        layer: the layer.
        index: its place in registered order, counted from 0. Its records hold this number.
        ring: the buffer for the records.

    Raises:
        RuntimeError: the layer does not have any of the methods `IMPLEMENTATIONS`.
    """
    import torch

    stamp = operator()
    number = torch.tensor([index], dtype=torch.int32, device=ring.records.device)
    layer.register_buffer("replay_layer", number, persistent=False)
    layer.register_buffer("replay_token", ring.token, persistent=False)
    layer.forward = with_stamp(layer.forward, layer, stamp, CALLED)
    methods = implementations(layer)
    if not methods:
        raise RuntimeError(f"{type(layer).__name__} {name} has no implementation that could be watched")
    for owner, method in methods:
        setattr(owner, method, with_stamp(getattr(owner, method), layer, stamp, RAN))


def implementations(layer: Any) -> list[tuple[Any, str]]:
    """The methods that compute a layer: the object that has the method, the layer or its runner, and the name."""
    owners = [layer, layer.runner] if hasattr(layer, "runner") else [layer]
    methods: list[tuple[Any, str]] = []
    for owner in owners:
        methods += [(owner, name) for name in IMPLEMENTATIONS if hasattr(owner, name)]
    return methods


def with_stamp(function: Callable[..., Any], layer: Any, stamp: Callable[..., Any], kind: int) -> Callable[..., Any]:
    """A function that writes a stamp for the layer and then calls `function`."""

    def stamp_and_call(*args: Any, **kwargs: Any) -> Any:
        hidden = hidden_states(args, kwargs)
        stamp(hidden, layer.replay_token, layer.replay_layer, kind, hidden.shape[0])
        return function(*args, **kwargs)

    return stamp_and_call


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states among the arguments of a call: the one with that name, else the first tensor.

    In some releases the layer comes before them.
    """
    import torch

    if "hidden_states" in kwargs:
        by_name: Tensor = kwargs["hidden_states"]
        return by_name
    hidden: Tensor = next(value for value in args if isinstance(value, torch.Tensor))
    return hidden
