"""What the workers use of the objects of vLLM and torch, and shapes of plain data.

Neither library is here when types are checked. What an object has in some releases only is read with `getattr`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

Json = dict[str, Any]
"""A JSON object."""
Function = Callable[..., Any]
"""A function of vLLM's or torch's, whose arguments differ between releases."""


class Tensor(Protocol):
    """A `torch.Tensor`."""

    data: "Tensor"
    device: Any
    dtype: Any
    is_meta: bool
    ndim: int
    shape: Any

    def __getitem__(self, index: Any) -> "Tensor": ...

    def __int__(self) -> int: ...

    def __len__(self) -> int: ...

    def copy_(self, source: "Tensor") -> "Tensor": ...

    def cpu(self) -> "Tensor": ...

    def flatten(self) -> "Tensor": ...

    def is_contiguous(self) -> bool: ...

    def is_floating_point(self) -> bool: ...

    def new_zeros(self, size: tuple[int, ...]) -> "Tensor": ...

    def numel(self) -> int: ...

    def repeat(self, *sizes: int) -> "Tensor": ...

    def sum(self) -> "Tensor": ...

    def to(self, target: Any) -> "Tensor": ...

    def view(self, *sizes: int) -> "Tensor": ...

    def zero_(self) -> "Tensor": ...


class Module(Protocol):
    """A `torch.nn.Module`: a model, or a part of one."""

    forward: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def modules(self) -> "Iterator[Module]": ...

    def parameters(self) -> Iterator[Tensor]: ...

    def register_forward_pre_hook(self, hook: Function) -> object: ...


Layers = dict[str, Module]
"""Registered name -> MoE layer, in registered order."""


class CompilationConfig(Protocol):
    """A part of `VllmConfig`."""

    backend: str
    fast_moe_cold_start: bool | None
    mode: Any
    static_forward_context: dict[str, Module]


class ModelConfig(Protocol):
    """A part of `VllmConfig`."""

    architecture: str
    hf_text_config: Any
    max_model_len: int
    uses_mrope: bool


class DeviceConfig(Protocol):
    """A part of `VllmConfig`."""

    device: Any


class SchedulerConfig(Protocol):
    """A part of `VllmConfig`."""

    max_num_batched_tokens: int


class VllmConfig(Protocol):
    """vLLM's whole configuration of an engine."""

    compilation_config: CompilationConfig
    device_config: DeviceConfig
    model_config: ModelConfig
    scheduler_config: SchedulerConfig
