"""Two stamps a MoE call: at the layer that the model calls, and in the implementation of the one that was resolved."""

from collections.abc import Callable

from vllm_launch_worker.ring import Ring, operator
from vllm_launch_worker.trace import CALLED, RAN

IMPLEMENTATIONS = ("_forward_impl", "forward_impl", "forward_impl_chunked")
"""What the MoE operator enters once a layer is resolved (fused_moe/runner, 0.16.0 to 0.33.0)."""


def attach(name: str, layer, index: int, ring: Ring) -> None:
    """Stamp every call and run of a layer.

    Args:
        name: it is registered under.
        layer: the object.
        index: its place in registered order, which its records carry.
        ring: where the stamps go.

    Raises:
        RuntimeError: it has no implementation that could be seen entered.
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


def stamped(function: Callable, layer, stamp: Callable, kind: int) -> Callable:
    """The function with a stamp of this layer in front."""

    def stamping(*args, **kwargs):
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else first_tensor(args)
        stamp(hidden, layer.replay_token, layer.replay_layer, kind, hidden.shape[0])
        return function(*args, **kwargs)

    return stamping


def first_tensor(args: tuple):
    """The hidden states come first of the tensors; in some releases the layer stands before them."""
    import torch

    return next(value for value in args if isinstance(value, torch.Tensor))
