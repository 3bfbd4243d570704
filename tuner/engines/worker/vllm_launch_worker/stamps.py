"""Two stamps for each MoE call: at the layer that the model calls, and in the implementation of the resolved layer."""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import Tensor
from vllm_launch_worker.ring import Ring, operator
from vllm_launch_worker.trace import CALLED, RAN

IMPLEMENTATIONS = ("_forward_impl", "forward_impl", "forward_impl_chunked")
"""Methods that the MoE operator enters once a layer is resolved (fused_moe/runner, 0.16.0 to 0.33.0)."""


def attach(name: str, layer: Any, index: int, ring: Ring) -> None:
    """Stamp every call and run of a layer.

    Args:
        name: the registered name.
        layer: the layer itself.
        index: its place in registered order; its records hold it.
        ring: the buffer for the records.

    Raises:
        RuntimeError: the layer has none of the known implementations.
    """
    import torch

    stamp = operator()
    number = torch.tensor([index], dtype=torch.int32, device=ring.records.device)
    layer.register_buffer("replay_layer", number, persistent=False)
    layer.register_buffer("replay_token", ring.token, persistent=False)
    layer.forward = stamped(layer.forward, layer, stamp, CALLED)
    owners = [layer] + ([layer.runner] if hasattr(layer, "runner") else [])
    points = [(owner, point) for owner in owners for point in IMPLEMENTATIONS if hasattr(owner, point)]
    if not points:
        raise RuntimeError(f"{type(layer).__name__} {name} has no implementation that could be watched")
    for owner, point in points:
        setattr(owner, point, stamped(getattr(owner, point), layer, stamp, RAN))


def stamped(function: Callable[..., Any], layer: Any, stamp: Callable[..., Any], kind: int) -> Callable[..., Any]:
    """The function with a stamp of this layer in front."""

    def stamping(*args: Any, **kwargs: Any) -> Any:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else first_tensor(args)
        stamp(hidden, layer.replay_token, layer.replay_layer, kind, hidden.shape[0])
        return function(*args, **kwargs)

    return stamping


def first_tensor(args: tuple[Any, ...]) -> Tensor:
    """The hidden states: the first of the tensors. In some releases the layer stands before them."""
    import torch

    hidden: Tensor = next(value for value in args if isinstance(value, torch.Tensor))
    return hidden
