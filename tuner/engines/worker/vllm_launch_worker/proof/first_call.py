"""Makes the first call of the model, as the model runner of the launch does. vLLM compiles the model in this call.

Source: `_dummy_run` in vllm/v1/worker/gpu_model_runner.py, 0.16.0 to 0.32.0. On a GPU the first call is the profile
run, with as many tokens as the largest batch. On a CPU it is the warm-up (`warming_up_model` in cpu_model_runner.py),
with one token for each request that may run at once, and at least 16. From 0.32.0 on it is the profile run there, too.
The exact number does not matter: Dynamo treats all numbers except 0 and 1 in the same way. The attention metadata is
None in both cases.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shared_worker.vllm_types import ModelConfig, Module, Tensor, VllmConfig

CPU_TOKENS = 16
"""The smallest number of tokens in the warm-up of a CPU worker."""


def tokens(vllm_config: VllmConfig, device: str) -> int:
    """The number of tokens in the first call. `device` is the type of the platform's device, such as `cpu`."""
    scheduler = vllm_config.scheduler_config
    if device == "cpu":
        return min(max(CPU_TOKENS, scheduler.max_num_seqs), scheduler.max_num_batched_tokens)
    return scheduler.max_num_batched_tokens


def arguments(model: Any, vllm_config: VllmConfig, count: int) -> dict[str, Any]:
    """The keyword arguments of the call. Tensors are on the meta device.

    Args:
        model: the outermost module.
        vllm_config: the launch.
        count: the number of tokens.
    """
    import torch
    from vllm.distributed import get_pp_group

    config = vllm_config.model_config
    ids = torch.zeros(count, dtype=torch.int32, device="meta")
    embeds = None
    if takes_embeddings(vllm_config):
        embeds = torch.zeros(count, embedding_size(config), dtype=config.dtype, device="meta")
    received = None
    if not get_pp_group().is_first_rank:
        received = model.make_empty_intermediate_tensors(batch_size=count, dtype=config.dtype, device="meta")
    keeps_ids = embeds is None or bool(getattr(model, "requires_raw_input_tokens", False))
    return {
        "input_ids": ids if keeps_ids else None,
        "positions": positions(config, count),
        "intermediate_tensors": received,
        "inputs_embeds": embeds,
    }


def takes_embeddings(vllm_config: VllmConfig) -> bool:
    """Whether the runner calls the model with embedded tokens.

    It does so for a model that may get images or other media, and if the launch allows prompts that are embeddings.
    """
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = vllm_config.model_config
    if config.is_multimodal_model and not config.is_encoder_decoder:
        if not config.multimodal_config.limit_per_prompt:
            return True  # the registry gives the same answer, but needs a tokenizer
        return bool(MULTIMODAL_REGISTRY.supports_multimodal_inputs(config))
    return bool(getattr(config, "enable_prompt_embeds", False))


def embedding_size(config: ModelConfig) -> int:
    """The width of an embedded token. Some releases lack `get_inputs_embeds_size`; there it is the hidden size."""
    size: Callable[[], int] = getattr(config, "get_inputs_embeds_size", None) or config.get_hidden_size
    return size()


def positions(config: ModelConfig, count: int) -> Tensor:
    """The positions of the tokens, in the shape (count,) or (rows, count).

    There are several rows for rotary embeddings that have a position for each dimension of an image.
    """
    import torch

    rows = 3 if config.uses_mrope else int(getattr(config, "uses_xdrope_dim", 0) or 0)
    shape = (rows, count) if rows else (count,)
    zeros: Tensor = torch.zeros(shape, dtype=torch.int64, device="meta")
    return zeros


def make_call(
    function: Callable[..., Any],
    model: Module,
    vllm_config: VllmConfig,
    mark: Callable[[dict[str, Any]], None] | None = None,
    count: int | None = None,
) -> Any:
    """Make the call.

    Args:
        function: the function to call: the model, or a compiled form of its `forward`.
        model: the outermost module.
        vllm_config: the launch.
        mark: is called with the keyword arguments before the call.
        count: the number of tokens. None: as many as in the runner's first call.

    Returns:
        The result of the call.
    """
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.forward_context import set_forward_context
    from vllm.platforms import current_platform

    count = count or tokens(vllm_config, current_platform.device_type)
    keywords = arguments(model, vllm_config, count)
    if mark is not None:
        mark(keywords)
    context = set_forward_context(None, vllm_config, num_tokens=count, **across_replicas(vllm_config, count))
    with torch.inference_mode(), set_current_vllm_config(vllm_config), context:
        return function(**keywords)


def across_replicas(vllm_config: VllmConfig, count: int) -> dict[str, Any]:
    """The numbers of tokens that data-parallel ranks exchange before a pass, as if all ranks had `count` tokens.

    Returns:
        Keyword arguments for `set_forward_context`. Empty without data parallelism.
    """
    import torch

    ranks = vllm_config.parallel_config.data_parallel_size
    return {"num_tokens_across_dp": torch.full((ranks,), count, dtype=torch.int32)} if ranks > 1 else {}


@contextmanager
def returns_of(module: Module, returned: list[Any]) -> Iterator[None]:
    """While the block runs, the result of each call of `module` is added to the list `returned`."""
    compiled: type[Any] = type(module)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = compiled.__call__(self, *args, **kwargs)
        returned.append(value)
        return value

    module.__class__ = type(compiled.__name__, (compiled,), {"__call__": call})
    try:
        yield
    finally:
        module.__class__ = compiled
