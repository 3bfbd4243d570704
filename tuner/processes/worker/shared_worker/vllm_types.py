"""Types for the objects of vLLM and torch, with the attributes that the workers use, and types for plain data.

vLLM and torch are not installed where the types are checked. Attributes that exist only in some releases are not
listed. The workers read them with `getattr`.
"""

from collections.abc import Callable, Iterator, Reversible
from dataclasses import Field
from typing import Any, ClassVar, Protocol

Json = dict[str, Any]
"""A JSON object."""
Function = Callable[..., Any]
"""A function of vLLM or torch. Its arguments differ between releases."""


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

    def __iter__(self) -> "Iterator[Tensor]": ...

    def __len__(self) -> int: ...

    def __add__(self, other: float) -> "Tensor": ...

    def __lshift__(self, other: int) -> "Tensor": ...

    def __lt__(self, other: float) -> "Tensor": ...

    def __mul__(self, other: float) -> "Tensor": ...

    def __or__(self, other: "Tensor") -> "Tensor": ...

    def clamp(self, low: float, high: float) -> "Tensor":
        """The numbers, none below `low` and none above `high`."""

    def copy_(self, source: "Tensor") -> "Tensor":
        """Copy a tensor's values here."""

    def cpu(self) -> "Tensor":
        """The tensor in the host's memory."""

    def data_ptr(self) -> int:
        """The address of the first number."""

    def dim(self) -> int:
        """The number of dimensions."""

    def element_size(self) -> int:
        """The bytes of a number."""

    def expand(self, *sizes: int) -> "Tensor":
        """The tensor in this shape. The numbers of a dimension of size 1 are repeated, without memory."""

    def fill_(self, value: float) -> "Tensor":
        """Set every number to this value."""

    def flatten(self) -> "Tensor":
        """The tensor with one dimension."""

    def is_contiguous(self) -> bool:
        """Whether its numbers lie in memory in order and without gaps."""

    def is_floating_point(self) -> bool:
        """Whether its numbers are floating-point numbers."""

    def item(self) -> Any:
        """Its only number."""

    def round(self) -> "Tensor":
        """The nearest whole numbers."""

    def split(self, rows: int) -> "tuple[Tensor, ...]":
        """Parts with this many rows each. The last part may have fewer."""

    def new_zeros(self, size: tuple[int, ...]) -> "Tensor":
        """Zeros of the same type on the same device."""

    def normal_(self, *, generator: Any) -> "Tensor":
        """Draw normally distributed numbers here, with a standard deviation of 1."""

    def numel(self) -> int:
        """The number of its elements."""

    def random_(self, low: int, high: int, *, generator: Any) -> "Tensor":
        """Draw whole numbers here, from `low` to below `high`."""

    def repeat(self, *sizes: int) -> "Tensor":
        """Copies of the tensor along each dimension."""

    def sum(self) -> "Tensor":
        """The sum of its numbers."""

    def to(self, target: Any) -> "Tensor":
        """The tensor with another type or on another device."""

    def uniform_(self, *, generator: Any) -> "Tensor":
        """Draw numbers from 0 to 1 here."""

    def view(self, *form: Any) -> "Tensor":
        """The same memory with another shape or another type."""

    def zero_(self) -> "Tensor":
        """Set every number to zero."""


class Module(Protocol):
    """A `torch.nn.Module`: a model, or a part of one."""

    forward: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` and the hooks."""

    def eval(self) -> Any:
        """Switch the module to inference. Returns the module."""

    def get_submodule(self, target: str) -> "Module":
        """A module inside, by its name."""

    def modules(self) -> "Iterator[Module]":
        """The module and all modules inside."""

    def named_modules(self) -> "Iterator[tuple[str, Module]]":
        """The module and all modules inside, with their names."""

    def named_parameters(self, *, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The weights with their names; without `recurse` those of the module itself alone."""

    def parameters(self) -> Iterator[Tensor]:
        """All weights."""

    def register_forward_pre_hook(self, hook: Function) -> object:
        """Call a function before each `forward`."""

    def to(self, device: str) -> Any:
        """Move it to a device."""


class Region(Module, Protocol):
    """A module whose class vLLM's `support_torch_compile` decorates."""

    do_not_compile: bool


class Node(Protocol):
    """A `torch.fx.Node`: one operation of a graph."""

    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    meta: dict[str, Any]
    all_input_nodes: "list[Node]"


class Graph(Protocol):
    """A `torch.fx.Graph`."""

    nodes: Reversible[Node]


class GraphModule(Module, Protocol):
    """A `torch.fx.GraphModule`."""

    graph: Graph


Layers = dict[str, Module]
"""Registered name -> MoE layer, in construction order."""


class CompilationConfig(Protocol):
    """A part of `VllmConfig`."""

    backend: str
    cache_dir: str | None
    cudagraph_mode: Any
    fast_moe_cold_start: bool | None
    inductor_compile_config: dict[str, Any]
    mode: Any
    splitting_ops: list[str] | None
    static_all_moe_layers: list[str]
    static_forward_context: dict[str, Module]
    traced_files: set[str]


class ModelConfig(Protocol):
    """A part of `VllmConfig`."""

    architecture: str
    dtype: Any
    enforce_eager: bool
    hf_config: Any
    hf_text_config: Any
    is_encoder_decoder: bool
    is_multimodal_model: bool
    max_model_len: int
    model: str
    multimodal_config: Any
    skip_tokenizer_init: bool
    trust_remote_code: bool
    uses_mrope: bool

    def get_hidden_size(self) -> int:
        """Width of the hidden states."""

    def get_vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""


class DeviceConfig(Protocol):
    """A part of `VllmConfig`."""

    device: Any


class ParallelConfig(Protocol):
    """A part of `VllmConfig`."""

    data_parallel_rank: int
    data_parallel_size: int
    distributed_executor_backend: str | type | None
    pipeline_parallel_size: int
    rank: int
    tensor_parallel_size: int
    worker_cls: str | type | None
    worker_extension_cls: str | type | None
    world_size: int
    world_size_across_dp: int


class SchedulerConfig(Protocol):
    """A part of `VllmConfig`."""

    enable_chunked_prefill: bool
    max_num_batched_tokens: int
    max_num_seqs: int


class VllmConfig(Protocol):
    """vLLM's complete configuration of an engine."""

    additional_config: Any
    compilation_config: CompilationConfig
    device_config: DeviceConfig
    lora_config: Any
    model_config: ModelConfig
    parallel_config: ParallelConfig
    quant_config: Any
    scheduler_config: SchedulerConfig
    speculative_config: Any

    def compute_hash(self) -> str:
        """The hash of the config, which is a part of the compile cache's keys."""


class EngineArgs(Protocol):
    """vLLM's `AsyncEngineArgs`: the arguments of `vllm serve`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    compilation_config: CompilationConfig
    data_parallel_size: int
    enforce_eager: bool
    limit_mm_per_prompt: dict[str, Any]
    load_format: str
    max_model_len: int | None
    model: str
    pipeline_parallel_size: int
    skip_mm_profiling: bool
    skip_tokenizer_init: bool
    tokenizer: str | None
    worker_extension_cls: str

    def create_engine_config(self, *, usage_context: Any) -> VllmConfig:
        """The config of the launch."""


class RequestOutput(Protocol):
    """vLLM's answer to one request."""

    finished: bool
    outputs: list[Any]
    prompt_logprobs: list[Any] | None
    request_id: str


class Engine(Protocol):
    """vLLM's `LLMEngine`."""

    engine_core: Any

    def add_request(self, request_id: str, prompt: dict[str, Any], params: Any) -> Any:
        """Send a request."""

    def collective_rpc(self, method: str) -> list[Any]:
        """Call a method in every worker process. Returns the answer of each."""

    def has_unfinished_requests(self) -> bool:
        """Whether a request is not fully answered yet."""

    def step(self) -> list[RequestOutput]:
        """Run one pass. Returns its outputs."""
