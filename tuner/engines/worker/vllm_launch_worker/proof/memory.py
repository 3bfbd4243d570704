"""Tensors that have memory while a model is built on the meta device, and operations on both kinds of tensors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any, cast
from unittest import mock

LAYERS = "vllm.model_executor.layers"
MAPS = "determine_expert_map"
"""The function that makes the expert map of a rank. vLLM reads the values of the map."""
FREQUENCIES = "_compute_inv_freq"
"""The method of rotary embeddings that computes their frequencies. Some classes select from them by their values."""

Function = Callable[..., Any]


@contextmanager
def values_in_memory() -> Iterator[None]:
    """While the block runs, expert maps and frequencies are computed in memory, because vLLM reads their values."""
    with ExitStack() as patches:
        for name, home in list(sys.modules.items()):
            if name.startswith(LAYERS):
                replace_in(home, patches)
        yield


def replace_in(home: Any, patches: ExitStack) -> None:
    """Replace the functions `MAPS` and `FREQUENCIES` of one module, until the patches end."""
    if MAPS in vars(home):
        patches.enter_context(mock.patch.object(home, MAPS, in_memory(vars(home)[MAPS])))
    for kind in list(vars(home).values()):
        if isinstance(kind, type) and kind.__module__ == home.__name__ and FREQUENCIES in vars(kind):
            patches.enter_context(mock.patch.object(kind, FREQUENCIES, in_memory_then_moved(vars(kind)[FREQUENCIES])))


def in_memory(function: Function) -> Function:
    """A function that calls `function` and makes its tensors in the CPU's memory."""
    import torch

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return call


def in_memory_then_moved(function: Function) -> Function:
    """As `in_memory`, but the result is moved to the device on which the caller makes its tensors."""
    import torch

    compute = in_memory(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compute(*args, **kwargs).to(torch.get_default_device())

    return call


def one_device() -> AbstractContextManager[None]:
    """While the block runs, an operation on tensors with and without memory has a result without memory.

    A model class may name the device of a weight. In a server all tensors are on that device. Here the others are on
    the meta device, and torch refuses the operation. The values of its result are unknown in any case, because some of
    its arguments have none. An operation that writes to an argument is still refused: the values there would be wrong.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class OneDevice(TorchFunctionMode):  # type: ignore[misc]  # torch is not here when types are checked
        def __torch_function__(self, function: Function, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            try:
                return function(*args, **kwargs)
            except RuntimeError:
                tensors = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if is_tensor(leaf)]
                mixed = len({tensor.is_meta for tensor in tensors}) > 1
                if not mixed or writes(function, kwargs):
                    raise
            args, kwargs = torch.utils._pytree.tree_map(without_memory, (args, kwargs))
            return function(*args, **kwargs)

    return cast("AbstractContextManager[None]", OneDevice())


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def without_memory(value: Any) -> Any:
    """A tensor, moved to the meta device. Any other value is returned unchanged."""
    return value.to("meta") if is_tensor(value) else value


def writes(function: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation may write to an argument: by its schema or, if it has none, by its name and options.

    In torch, the names of such functions end with an underscore, as `add_`. Python's `+=` calls `__iadd__`.
    """
    schemas = schemas_of(function)
    if schemas:
        return any(schema.is_mutable for schema in schemas)
    name = getattr(function, "__name__", "")
    if kwargs.get("out") is not None or kwargs.get("inplace", False):
        return True
    return name.startswith(WRITERS) or (name.endswith("_") and not name.endswith("__"))


WRITERS = ("__i", "__set", "__del")
"""The names of Python's methods that change an object begin like this. So do some others, such as `__init__`."""


def schemas_of(function: Any) -> list[Any]:
    """The schemas of an operator: one, or one for each overload. Empty for any other function."""
    import torch

    if isinstance(function, torch._ops.OpOverload):
        return [function._schema]
    if isinstance(function, torch._ops.OpOverloadPacket):
        return [getattr(function, name)._schema for name in function.overloads()]
    return []
