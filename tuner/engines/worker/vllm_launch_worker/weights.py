"""Random weights with which different experts give different results. They replace vLLM's dummy weights."""

import math
import zlib
from typing import Any

from shared_worker.vllm_types import Module, Tensor
from vllm_launch_worker import packed

CONSTANTS = {"bias": 0.0, "A": -1.0}
"""Last part of a parameter's name -> the value of all its numbers. `A` is the decay of Mamba layers. It must be
negative, because otherwise their state grows without bound."""
MATRIX = 2
"""The number of dimensions from which on a parameter counts as a matrix."""
EXPERTS_GAIN = 2.0
"""The factor for the weights of experts. Without it, the gate of an expert and the weighted sum over experts would
halve the output of a MoE layer."""


def draw_anew() -> list[str]:
    """Let vLLM's dummy loader fill every parameter with `fill_model`. The weights are the same in every engine.

    vLLM's own dummy weights lie between -1e-3 and 1e-3 (`initialize_single_dummy_weight` in
    model_loader/weight_utils.py). With them a MoE layer adds a millionth of its input, so the answers do not depend on
    the experts that run. vLLM calls `load_weights` of model_loader/dummy_loader.py before it repacks weights for
    kernels (0.19.1 and 0.32.0).

    Returns:
        An empty list. After a model was filled, it holds a sentence about that.
    """
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    notes: list[str] = []
    load = DummyModelLoader.load_weights

    def load_and_fill(self: Any, model: Module, model_config: Any) -> None:
        load(self, model, model_config)
        fill_model(model)
        notes[:] = ["dummy weights are drawn so that each layer's output is as large as its input"]

    DummyModelLoader.load_weights = load_and_fill
    return notes


def fill_model(model: Module) -> None:
    """Fill each parameter of a model once: quantised matrices with `packed.fill`, all others with `fill`."""
    filled: set[int] = set()  # the addresses of the filled tensors
    for name, layer in model.named_modules():
        for matrix in packed.matrices(name, layer):
            if packed.is_quantised(matrix) and matrix.values.data_ptr() not in filled:
                filled |= {tensor.data_ptr() for tensor in packed.fill(matrix, gain(name))}
    for name, parameter in model.named_parameters():
        if parameter.data.data_ptr() not in filled:
            fill(name, parameter.data)


def gain(name: str) -> float:
    """The standard deviation of a matrix as a multiple of 1/sqrt(inputs)."""
    return EXPERTS_GAIN if "experts" in name else 1.0


def fill(name: str, tensor: Tensor) -> None:
    """Fill a parameter: norms and scales with 1, biases with 0, matrices with normally distributed numbers.

    The standard deviation of a matrix is 1/sqrt(inputs), and twice that for experts. The CRC-32 of its name is the
    seed. Integers become 0. vLLM does not initialize them, so they would differ between engines.
    """
    import torch

    last = name.rpartition(".")[2]
    if not torch.is_floating_point(tensor):
        tensor.zero_()
    elif last in CONSTANTS or last.endswith("bias"):
        tensor.fill_(CONSTANTS.get(last, 0.0))
    elif tensor.dim() < MATRIX or "scale" in last:
        tensor.fill_(1.0)
    else:
        draw(tensor, gain(name) / math.sqrt(tensor.shape[-1]), zlib.crc32(name.encode()))


def draw(tensor: Tensor, deviation: float, seed: int) -> None:
    """Fill a tensor with normally distributed numbers.

    Some rows at a time are drawn as 32-bit floats and then copied, because torch cannot draw 8-bit types.
    """
    import torch

    generator = torch.Generator(device=tensor.device).manual_seed(seed)
    for part in packed.parts(tensor):
        numbers = torch.empty(part.shape, dtype=torch.float32, device=tensor.device)
        part.copy_(numbers.normal_(std=deviation, generator=generator))
