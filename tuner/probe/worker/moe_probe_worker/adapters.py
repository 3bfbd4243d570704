"""LoRA: the model with vLLM's adapter layers around its own, as the model runner makes it."""

from moe_probe_worker.passes import Passes

RANK = 8
ADAPTER = 1
SETTINGS = {"enable_lora": True, "max_loras": 1, "max_lora_rank": RANK}


class AdapterPasses(Passes):
    """Forward passes before which vLLM's adapter manager is told which token uses which adapter.

    Attributes:
        manager: vLLM's manager.
        adapter: id of the active adapter.
    """

    manager = None
    adapter = 0

    def arguments(self, scenario) -> dict:
        """As without adapters, after vLLM's manager was told of the batch."""
        from vllm.lora.layers import LoRAMapping

        tokens = (self.adapter,) * len(scenario.ids)
        self.manager.set_adapter_mapping(LoRAMapping(tokens, (self.adapter,), is_prefill=True))
        return super().arguments(scenario)


def wrap(model, vllm_config):
    """Put adapter layers around the model's own, as vLLM's model runner does.

    Returns:
        vLLM's manager of them.
    """
    from vllm.lora.model_manager import LRUCacheLoRAModelManager, create_lora_manager

    scheduler = vllm_config.scheduler_config
    return create_lora_manager(
        model,
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        vocab_size=vllm_config.model_config.get_vocab_size(),
        lora_config=vllm_config.lora_config,
        device=vllm_config.device_config.device,
        lora_manager_cls=LRUCacheLoRAModelManager,
        vllm_config=vllm_config,
    )


def activate(manager, model) -> int:
    """Make an adapter of zeros active.

    Returns:
        Its id.
    """
    manager.add_adapter(manager.create_dummy_lora(ADAPTER, RANK, model.embedding_modules))
    manager.activate_adapter(ADAPTER)
    return ADAPTER
