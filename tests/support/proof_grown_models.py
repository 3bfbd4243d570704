"""A model whose buffers grow, in a file of its own: no code of this file changes the dictionary of an object."""
# ruff: noqa: ANN001, ANN201, D102  the class is the data

from typing import Any

import torch
from proof_order_cases import WIDTH
from proof_outer_models import MOST_TOKENS, Region
from torch import nn


class GrownFeatures(nn.Module):
    """As Qwen3-VL in 0.32.0: the buffers grow if a batch has more tokens than they have rows."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Region()
        self.width = WIDTH
        self.grown: Any = [torch.zeros(MOST_TOKENS, WIDTH, device="meta") for _ in range(2)]

    def set_grown(self, values) -> None:
        self.grown = values

    def grow(self, count) -> None:
        self.grown = [
            torch.zeros(count, self.width, device=self.grown[0].device, dtype=self.grown[0].dtype) for _ in range(2)
        ]

    def features(self, count):
        if not getattr(self, "grown", None):
            return None
        if count > self.grown[0].size(0):
            self.grow(count)
        return {f"level_{index}": self.grown[index][:count] for index in range(2)}

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):  # noqa: ARG002
        return self.model(input_ids, positions, None, self.features(positions.size(-1)))
