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

    def copy_(self, source: "Tensor") -> "Tensor":
        """Copy a tensor's values here."""

    def cpu(self) -> "Tensor":
        """The tensor in the host's memory."""

    def flatten(self) -> "Tensor":
        """The tensor with one dimension."""

    def is_contiguous(self) -> bool:
        """Whether it lies in memory without gaps."""

    def is_floating_point(self) -> bool:
        """Whether its numbers are floating-point numbers."""

    def new_zeros(self, size: tuple[int, ...]) -> "Tensor":
        """Zeros of the same type on the same device."""

    def numel(self) -> int:
        """How many numbers it holds."""

    def repeat(self, *sizes: int) -> "Tensor":
        """Copies of the tensor along each dimension."""

    def sum(self) -> "Tensor":
        """The sum of its numbers."""

    def to(self, target: Any) -> "Tensor":
        """The tensor with another type or on another device."""

    def view(self, *sizes: int) -> "Tensor":
        """The same numbers in another shape."""

    def zero_(self) -> "Tensor":
        """Set every number to zero."""


class Module(Protocol):
    """A `torch.nn.Module`: a model, or a part of one."""

    forward: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, with its hooks."""

    def modules(self) -> "Iterator[Module]":
        """The module and all modules inside."""

    def parameters(self) -> Iterator[Tensor]:
        """All weights."""

    def register_forward_pre_hook(self, hook: Function) -> object:
        """Call a function before each `forward`."""


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
