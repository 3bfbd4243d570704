"""Models that vLLM compiles, and what compiling does to the order of their MoE layers, known by construction.

Each model's decorated part runs the layers of vLLM's own small Qwen3-MoE and changes one thing; it is decorated anew,
because vLLM's decorator compiles the `forward` of the very class it is put on. Put this folder on PYTHONPATH: vLLM
finds `register` through the entry point in the `.dist-info` folder beside it. Works with vLLM 0.19.1 and 0.32.0.
"""
# ruff: noqa: ARG002, D101, D102  the shape of each branch is what is tested

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm import ModelRegistry
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3_moe import Qwen3MoeDecoderLayer
from vllm.model_executor.models.utils import maybe_prefix

SKIPPED = 1
"""The layer that the models below leave out."""


def register() -> None:
    """Make vLLM accept every model below by its class name; the entry point of the group `vllm.general_plugins`."""
    for part in (*Layers.__subclasses__(), NotDecorated, NeverCalled):
        name = f"{part.__name__}ForCausalLM"
        body = {"part": part, "around": part is NeverCalled}
        ModelRegistry.register_model(name, type(name, (Outer,), body))


class Layers(nn.Module):
    """Embedding and layers in order, without the outer model; what a subclass adds is decorated there."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = vllm_config.model_config.hf_text_config
        self.embed_tokens = nn.Embedding(self.config.vocab_size, self.config.hidden_size)
        self.layers = nn.ModuleList(
            Qwen3MoeDecoderLayer(vllm_config=vllm_config, prefix=maybe_prefix(prefix, f"layers.{index}"))
            for index in range(self.config.num_hidden_layers)
        )
        self.counted = 0

    def run(self, ids: Any, positions: torch.Tensor, embeds: Any) -> torch.Tensor:
        """Every layer in order, but for those that `skips` leaves out."""
        hidden = self.embed_tokens(ids) if embeds is None else embeds
        residual = None
        for index, layer in enumerate(self.layers):
            if not self.skips(index, hidden, positions, ids):
                hidden, residual = layer(positions, hidden, residual)
        return hidden + residual

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        """Whether this layer is left out of this pass."""
        return False


class NotDecorated(Layers):
    """What vLLM does not compile."""

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class Plain(Layers):
    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class ConstantBranch(Layers):
    """Leaves a layer out in every pass: wrong for a counter, and the same when compiled."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        return index == SKIPPED and self.config.num_experts > 1

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class DecodeSkip(Layers):
    """The number of tokens is never 1 where vLLM traces, so the compiled model never leaves the layer out."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        return index == SKIPPED and hidden.shape[0] == 1

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class LargeBatchSkip(Layers):
    """Leaves the layer out of the batch that vLLM traces, so the compiled model leaves it out of every one."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        return index == SKIPPED and hidden.shape[0] > 1000

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class RareBatchSkip(Layers):
    """A batch of one size alone, which vLLM never traces."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        return index == SKIPPED and hidden.shape[0] == 200

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class Alternating(Layers):
    """Leaves the layer out of every other pass; the compiled model does as it did in the first."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        if index == 0:
            self.counted = 1 - self.counted
        return index == SKIPPED and self.counted == 0

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class FirstPassSkip(Layers):
    """Leaves the layer out until it has run once: only a model that was never called before is traced that way."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        self.counted += index == 0
        return index == SKIPPED and self.counted == 1

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class TokenSkip(Layers):
    """Depends on the values of a tensor, which cannot be decided while tracing."""

    def skips(self, index: int, hidden: torch.Tensor, positions: torch.Tensor, ids: Any) -> bool:
        return index == SKIPPED and ids is not None and bool((ids == 3).any())

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


@support_torch_compile
class NeverCalled(Layers):
    """Decorated, but the outer model goes round its `forward`, as the models of `tests/zoo` do."""

    def forward(
        self, input_ids: torch.Tensor | None, positions: torch.Tensor, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.run(input_ids, positions, inputs_embeds)


class Outer(nn.Module):
    """The model that vLLM constructs: it holds the part and calls it.

    Attributes:
        part: its class.
        around: whether to call the part's method and not the part.
    """

    part: type = Plain
    around = False

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.model = self.part(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        called = self.model.run if self.around else self.model
        return called(input_ids, positions, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        raise NotImplementedError
