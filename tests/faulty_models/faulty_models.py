"""Models that misbehave, made of vLLM's own small Qwen3-MoE classes: for the tests of the probe.

Put this folder on PYTHONPATH: vLLM finds `register` through the entry point in the `.dist-info` folder beside it. Works
with vLLM 0.19.1 and 0.32.0.
"""
# ruff: noqa: ARG002  vLLM and the base class give the signatures

import os
import signal
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm import ModelRegistry
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3_moe import Qwen3MoeModel
from vllm.model_executor.models.utils import maybe_prefix


def register() -> None:
    """Make vLLM accept every model below by its class name; the entry point of the group `vllm.general_plugins`."""
    for model in (PlainForCausalLM, *PlainForCausalLM.__subclasses__()):
        ModelRegistry.register_model(model.__name__, model)


class PlainForCausalLM(nn.Module):
    """A language model over Qwen3-MoE's layers that runs them in order; the others change one thing."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = vllm_config.model_config.hf_text_config
        self.model = Qwen3MoeModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up the embedding of each token."""
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states of one batch."""
        hidden, residual = inputs_embeds, None
        if hidden is None:
            hidden = self.embed_input_ids(input_ids)
        for layer in self.order(list(self.model.layers), input_ids):
            hidden, residual = layer(positions, hidden, residual)
        return self.model.norm(hidden, residual)[0]

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """The layers to run for these tokens, in order."""
        return layers

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Scores over the vocabulary; nobody asks for them."""
        raise NotImplementedError

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """No checkpoint exists."""
        raise NotImplementedError


class HangingForCausalLM(PlainForCausalLM):
    """A forward pass never ends."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Wait for ever."""
        threading.Event().wait()
        return layers


class KilledForCausalLM(PlainForCausalLM):
    """A forward pass ends the process, as the kernel does where memory runs out."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Send the process SIGKILL."""
        os.kill(os.getpid(), signal.SIGKILL)
        return layers


class RaisingForCausalLM(PlainForCausalLM):
    """Every forward pass raises."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Refuse."""
        raise RuntimeError("no pass of this model succeeds")


class UnbuildableForCausalLM(PlainForCausalLM):
    """The constructor raises."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        raise ValueError("this model cannot be built")


class RepeatingForCausalLM(PlainForCausalLM):
    """The first layer runs twice in every pass."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Begin with the first layer twice."""
        return [layers[0], *layers]


class ReversingForCausalLM(PlainForCausalLM):
    """The layers run last to first, in every pass."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Turn the order round."""
        return layers[::-1]


class SkippingForCausalLM(PlainForCausalLM):
    """The first layer is left out where the batch holds the token that the config names `skip_token_id`."""

    def order(self, layers: list[nn.Module], input_ids: torch.Tensor | None) -> list[nn.Module]:
        """Leave the first layer out for that token."""
        found = input_ids is not None and bool((input_ids == self.config.skip_token_id).any())
        return layers[1:] if found else layers
