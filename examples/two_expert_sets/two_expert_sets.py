"""A vLLM model that owns two expert sets in every layer and runs one of them.

It stands for the models that corrupt silently under `fast_moe_cold_start`: a network with a text and an image expert
set runs the layers the same way on every text prompt. The two sets of a layer are registered in construction order,
idle set first, so the n-th MoE call of a forward pass is never the n-th registered layer.

Put the folder of this file on PYTHONPATH: vLLM finds `register` through the entry point in the `.dist-info` folder
beside it, in the server and in each process that the server starts. Works with vLLM 0.19.1 and 0.32.0.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm import ModelRegistry
from vllm.config import VllmConfig
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.qwen3_moe import Qwen3MoeDecoderLayer, Qwen3MoeModel, Qwen3MoeSparseMoeBlock
from vllm.model_executor.models.utils import AutoWeightsLoader, maybe_prefix


def register() -> None:
    """Make vLLM accept the architecture; the entry point of the group `vllm.general_plugins`."""
    ModelRegistry.register_model("TwoTowerMoeForCausalLM", TwoTowerMoeForCausalLM)


class TwoTowerDecoderLayer(Qwen3MoeDecoderLayer):
    """A Qwen3-MoE layer with a second expert set, `idle_mlp`, that no forward pass runs."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        # Built first, so that vLLM registers it before the set that runs; a
        # module can own it only once the base class is ready.
        idle = Qwen3MoeSparseMoeBlock(vllm_config, prefix=f"{prefix}.idle_mlp")
        super().__init__(vllm_config, prefix)
        self.idle_mlp = idle


class TwoTowerMoeForCausalLM(nn.Module):
    """Language model over `TwoTowerDecoderLayer`; the checkpoint holds weights for both expert sets."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_text_config
        self.model = Qwen3MoeModel(
            vllm_config=vllm_config,
            prefix=maybe_prefix(prefix, "model"),
            decoder_layer_type=TwoTowerDecoderLayer,
        )
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size, prefix=maybe_prefix(prefix, "lm_head"))
        self.logits_processor = LogitsProcessor(config.vocab_size)

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up the embedding of each token."""
        return self.model.embed_input_ids(input_ids)

    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        """Hidden states of one batch; only the set `mlp` of each layer runs."""
        return self.model(input_ids, positions, *rest, **named)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Scores over the vocabulary."""
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load every tensor of the checkpoint, both expert sets included.

        `idle_mlp` ends in `mlp` on purpose: Qwen3-MoE's loader of vLLM 0.19.1 tells expert
        weights by the text `mlp.experts` in their names.
        """
        return AutoWeightsLoader(self).load_weights(weights)
