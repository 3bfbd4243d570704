"""Builds the model of a launch on the meta device. Every layer has its full size, but weights use no memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from shared_worker.build_stand_ins import forget_layers
from shared_worker.vllm_types import Module, VllmConfig
from shared_worker.workspace import make_workspace
from vllm_launch_worker.proof.failure import in_words
from vllm_launch_worker.proof.memory import one_device, values_in_memory, without_memory


class StandIns:
    """The stand-ins for parts of vLLM that this machine lacks. The report lists them as assumptions.

    Attributes:
        assumptions: one entry for each stand-in, with `kind` and `detail`.
    """

    def __init__(self) -> None:
        self.assumptions: list[dict[str, str]] = []

    def note(self, kind: str, detail: str) -> None:
        """Add a stand-in to the list, unless the list already has it."""
        assumption = {"kind": kind, "detail": detail}
        if assumption not in self.assumptions:
            self.assumptions.append(assumption)


def build(vllm_config: VllmConfig, stand_ins: StandIns) -> Any:
    """Build the model that vLLM picks for this config on the meta device.

    A CPU lacks expert kernels for some quantisations. If a quantised model cannot be built on a CPU, this function
    builds it again without quantisation.

    Raises:
        Exception: the model cannot be built.
    """
    from vllm.platforms import current_platform

    try:
        return construct(vllm_config, stand_ins)
    except Exception as error:
        if vllm_config.quant_config is None or current_platform.device_type != "cpu":
            raise
        stand_ins.note("quantization_dropped", in_words(error))
    vllm_config.quant_config = None
    forget_layers(vllm_config)
    return construct(vllm_config, stand_ins)


def construct(vllm_config: VllmConfig, stand_ins: StandIns) -> Any:
    """As `build`, but with one attempt only."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    stand_ins.note("meta_device", "every layer in its full width, without memory")
    make_workspace(torch.device("meta"))
    dtype = vllm_config.model_config.dtype
    with ExitStack() as around:
        around.enter_context(attention_of_other_platforms(stand_ins))
        around.enter_context(without_copies())
        around.enter_context(values_in_memory())
        around.enter_context(set_current_vllm_config(vllm_config))
        around.enter_context(set_default_torch_dtype(dtype))
        around.enter_context(torch.device("meta"))
        around.enter_context(one_device())
        model = initialize_model(vllm_config)
        if vllm_config.lora_config is not None:
            model = with_adapters(model, vllm_config)
    finish(model, vllm_config, stand_ins)
    leave_device(model)
    call_operators(model, vllm_config, stand_ins)
    return model.eval()


def with_adapters(model: Module, vllm_config: VllmConfig) -> Any:
    """Wrap the model's layers in LoRA adapter layers, as vLLM's model runner does before the first call.

    Source: `load_lora_model` in vllm/v1/worker/lora_model_runner_mixin.py, 0.16.0 to 0.32.0.
    """
    import torch
    from vllm.lora.model_manager import LRUCacheLoRAModelManager, create_lora_manager

    scheduler = vllm_config.scheduler_config
    manager = create_lora_manager(
        model,
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        vocab_size=vllm_config.model_config.get_vocab_size(),
        lora_config=vllm_config.lora_config,
        device=torch.device("meta"),
        lora_manager_cls=LRUCacheLoRAModelManager,
        vllm_config=vllm_config,
    )
    return manager.model


@contextmanager
def without_copies() -> Iterator[None]:
    """While the block runs, `Module.to` returns a module on the meta device unchanged."""
    import torch

    send = torch.nn.Module.to

    def send_unless_meta(module: Module, *args: Any, **kwargs: Any) -> Any:
        if any(parameter.is_meta for parameter in module.parameters()):
            return module
        return send(module, *args, **kwargs)

    with mock.patch.object(torch.nn.Module, "to", send_unless_meta):
        yield


def leave_device(model: Module) -> None:
    """Move the model's tensors to the meta device: parameters, buffers, and tensors in attributes and lists."""
    import torch

    model.to("meta")
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and not value.is_meta:
                vars(module)[name] = value.to("meta")
            elif isinstance(value, list) and any(isinstance(item, torch.Tensor) for item in value):
                vars(module)[name] = [without_memory(item) for item in value]


@contextmanager
def attention_of_other_platforms(stand_ins: StandIns) -> Iterator[None]:
    """While the block runs, vLLM uses a backend of `attention.py` if this platform has none for a layer.

    In a trace, vLLM's attention layers are operators. The backend decides only which kernel runs, so it does not
    change the trace.
    """
    from vllm.platforms import current_platform

    kind = type(current_platform)
    choose = kind.get_attn_backend_cls.__func__

    def choose_or_stand_in(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return choose(cls, *args, **kwargs)
        except NotImplementedError as error:
            stand_ins.note("attention_backend", in_words(error))
            is_sparse = any(getattr(value, "use_sparse", False) for value in [*args, *kwargs.values()])
            return SPARSE if is_sparse else LATENT

    with mock.patch.object(kind, "get_attn_backend_cls", classmethod(choose_or_stand_in)):
        yield


LATENT = "vllm_launch_worker.proof.attention.Latent"
SPARSE = "vllm_launch_worker.proof.attention.Sparse"
"""The paths of the two classes in `attention.py`, in the form in which vLLM expects a backend."""


def finish(model: Module, vllm_config: VllmConfig, stand_ins: StandIns) -> None:
    """Call vLLM's `process_weights_after_loading` for every layer except experts.

    The arithmetic of experts is not traced, so experts do not need this step. If the step fails for a linear layer on a
    GPU, the layer multiplies by a new weight (`stand_in_for_linear`).

    Raises:
        Exception: the step failed for a linear layer on a CPU. `build` then builds the model without quantisation.
    """
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.fused_moe import FusedMoEMethodBase
    from vllm.model_executor.layers.linear import LinearMethodBase, UnquantizedLinearMethod
    from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
    from vllm.platforms import current_platform

    with set_current_vllm_config(vllm_config):
        for module in model.modules():
            method = getattr(module, "quant_method", None)
            if not isinstance(method, QuantizeMethodBase) or isinstance(method, FusedMoEMethodBase):
                continue
            if isinstance(method, UnquantizedLinearMethod):
                plain_linear(module)
                continue
            try:
                method.process_weights_after_loading(module)
            except Exception as error:
                stand_ins.note("weights_not_processed", f"{type(method).__name__}: {in_words(error)}"[:200])
                if not isinstance(method, LinearMethodBase):
                    continue
                if current_platform.device_type == "cpu":
                    raise  # see `build`
                stand_in_for_linear(module)


def plain_linear(module: Any) -> None:
    """Let a linear layer call `torch.nn.functional.linear`. A CPU build of vLLM reads its kernel from `cpu_linear`."""
    import torch

    module.cpu_linear = torch.nn.functional.linear


def stand_in_for_linear(module: Any) -> None:
    """Let a linear layer multiply by a new weight of shape (outputs, inputs).

    The layer's own arithmetic needs values that the failed step would have made.
    """
    import torch

    rows = getattr(module, "output_size_per_partition", module.output_size)
    columns = getattr(module, "input_size_per_partition", module.input_size)
    weight = torch.empty(rows, columns, dtype=module.params_dtype, device="meta")

    def multiply(_layer: Any, x: Any, bias: Any = None) -> Any:
        return torch.nn.functional.linear(x, weight, bias)

    module.quant_method.apply = multiply


def call_operators(model: Any, vllm_config: VllmConfig, stand_ins: StandIns) -> None:
    """Let MoE and attention layers call vLLM's operators on every platform, as they do on a GPU.

    A CPU build calls Python functions instead (0.17.0 to 0.32.0: `_select_forward` in fused_moe/runner, and
    `use_direct_call` of attention layers). Without this change the trace would hold the arithmetic of the experts, not
    the call of the layer.
    """
    import torch

    compilation = vllm_config.compilation_config
    for module in model.modules():
        if getattr(module, "use_direct_call", False):
            module.use_direct_call = False
    for name in compilation.static_all_moe_layers:
        layer = compilation.static_forward_context[name]
        runner = getattr(layer, "runner", layer)
        for attribute in ("moe_forward", "_forward_entry"):
            function = getattr(runner, attribute, None)
            name_of_function = getattr(function, "__name__", "")
            if name_of_function in ("_moe_forward", "_moe_forward_shared"):
                operator = name_of_function.removeprefix("_")
                stand_ins.note("operator_called", operator)
                setattr(runner, attribute, getattr(torch.ops.vllm, operator))
