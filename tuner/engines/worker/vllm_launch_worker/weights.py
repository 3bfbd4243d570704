"""Random weights under which experts matter, in place of vLLM's dummy weights."""

import math
import zlib
from typing import Any

from shared_worker.vllm_types import Module, Tensor

ONE, ZERO = 1.0, 0.0
ALONE = {"bias": ZERO, "A": -1.0}
"""Last part of a name -> the value of the whole parameter. `A` is a decay of Mamba layers, which grows without bound
unless it is negative."""
MATRIX = 2
"""A parameter that mixes its inputs has at least this many dimensions."""
EXPERTS_GAIN = 2.0
"""An expert's gate and the weighting over several experts would otherwise halve what a MoE layer adds."""


def draw_anew() -> list[str]:
    """Let vLLM's dummy loader draw every parameter as `fill` does, the same in every engine.

    vLLM's own dummy weights are within +-1e-3 (`initialize_single_dummy_weight` in model_loader/weight_utils.py). With
    them a MoE layer adds a millionth of its input, and answers are the same whichever experts run. vLLM calls
    `load_weights` of model_loader/dummy_loader.py before it repacks weights for kernels (0.19.1 and 0.32.0).

    Returns:
        An empty list, to which a sentence is added once a model was drawn anew.
    """
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    notes: list[str] = []
    load = DummyModelLoader.load_weights

    def loading(self: Any, model: Module, model_config: Any) -> None:
        load(self, model, model_config)
        for name, parameter in model.named_parameters():
            fill(name, parameter.data)
        notes[:] = ["dummy weights are drawn so that each layer's output is as large as its input"]

    DummyModelLoader.load_weights = loading
    return notes


def fill(name: str, tensor: Tensor) -> None:
    """Fill a parameter: norms and scales with one, biases with zero, matrices with normal numbers.

    The deviation of a matrix is 1/sqrt(inputs); its name is the seed. Packed integers become zero: vLLM leaves them as
    the memory was, which differs between engines.
    """
    import torch

    last = name.rpartition(".")[2]
    if not torch.is_floating_point(tensor):
        tensor.zero_()
    elif last in ALONE or last.endswith("bias"):
        tensor.fill_(ALONE.get(last, ZERO))
    elif tensor.dim() < MATRIX or "scale" in last:
        tensor.fill_(ONE)
    else:
        gain = EXPERTS_GAIN if "experts" in name else ONE
        draw(tensor, gain / math.sqrt(tensor.shape[-1]), zlib.crc32(name.encode()))


def draw(tensor: Tensor, deviation: float, seed: int) -> None:
    """Fill a tensor with normal numbers, slice by slice: types of 8 bits cannot be drawn in place."""
    import torch

    generator = torch.Generator(device=tensor.device).manual_seed(seed)
    for part in tensor:
        drawn = torch.empty(part.shape, dtype=torch.float32, device=tensor.device)
        part.copy_(drawn.normal_(std=deviation, generator=generator))
