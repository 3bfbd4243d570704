"""The first call that the launch's model runner makes: what vLLM compiles the model for.

`_dummy_run` of vllm/v1/worker/gpu_model_runner.py (0.16.0 to 0.32.0). The profile run on a GPU has as many tokens as
the largest batch. The warm-up of a CPU worker (cpu_model_runner.py, `warming_up_model`) has 16, or as many as requests;
from 0.32.0 on it is the profile run. Attention metadata is None in both. Dynamo takes any number but 0 and 1 for the
same.
"""

from contextlib import contextmanager

CPU_TOKENS = 16
"""Of the warm-up of a CPU worker, or as many as there may be requests."""


def tokens(vllm_config, device: str) -> int:
    """Tokens of the first call."""
    scheduler = vllm_config.scheduler_config
    if device == "cpu":
        return min(max(CPU_TOKENS, scheduler.max_num_seqs), scheduler.max_num_batched_tokens)
    return scheduler.max_num_batched_tokens


def arguments(model, vllm_config, count: int) -> dict:
    """The keyword arguments of the call, on the meta device."""
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


def takes_embeddings(vllm_config) -> bool:
    """Whether the runner embeds tokens itself: for a model that may get images, or with prompts given as embeddings."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = vllm_config.model_config
    if config.is_multimodal_model and not config.is_encoder_decoder:
        if not config.multimodal_config.limit_per_prompt:
            return True  # the registry would say the same, and needs a tokenizer for it
        return bool(MULTIMODAL_REGISTRY.supports_multimodal_inputs(config))
    return bool(getattr(config, "enable_prompt_embeds", False))


def embedding_size(config) -> int:
    """Width of an embedded token; `get_inputs_embeds_size` where a release has it."""
    size = getattr(config, "get_inputs_embeds_size", None) or config.get_hidden_size
    return size()


def positions(config, count: int):
    """Positions: one row, or several for rotary embeddings that tell images' dimensions apart."""
    import torch

    rows = 3 if config.uses_mrope else int(getattr(config, "uses_xdrope_dim", 0) or 0)
    shape = (rows, count) if rows else (count,)
    return torch.zeros(shape, dtype=torch.int64, device="meta")


def made(function, model, vllm_config, mark=None, count=None):
    """Make the call.

    Args:
        function: the model, or what stands for its `forward`.
        model: the outermost module.
        vllm_config: the launch.
        mark: told the arguments before the call.
        count: tokens, if not as many as the runner's first call has.
    """
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.forward_context import set_forward_context
    from vllm.platforms import current_platform

    count = count or tokens(vllm_config, current_platform.device_type)
    given = arguments(model, vllm_config, count)
    if mark is not None:
        mark(given)
    context = set_forward_context(None, vllm_config, num_tokens=count, **across_replicas(vllm_config, count))
    with torch.inference_mode(), set_current_vllm_config(vllm_config), context:
        return function(**given)


def across_replicas(vllm_config, count: int) -> dict:
    """With data parallelism, what the ranks would have told each other: all run as many tokens."""
    import torch

    ranks = vllm_config.parallel_config.data_parallel_size
    return {"num_tokens_across_dp": torch.full((ranks,), count, dtype=torch.int32)} if ranks > 1 else {}


@contextmanager
def returns_of(module, returned: list):
    """While the block runs, what calls of this module return is added to the list."""
    compiled = type(module)

    def call(self, *args, **kwargs):
        value = compiled.__call__(self, *args, **kwargs)
        returned.append(value)
        return value

    module.__class__ = type(compiled.__name__, (compiled,), {"__call__": call})
    try:
        yield
    finally:
        module.__class__ = compiled
