"""Random weights under which experts matter, in the place of vLLM's dummy ones."""

import math
import zlib

ONE, ZERO = 1.0, 0.0
ALONE = {"bias": ZERO, "A": -1.0}
"""Last part of a name -> the value of the whole parameter. `A` is a decay of Mamba layers, which grows without bound
unless it is negative."""
MATRIX = 2
"""Dimensions that a parameter has at least if it mixes its inputs."""
EXPERTS_GAIN = 2.0
"""An expert's gate and the weighting over several experts would otherwise halve what a MoE layer adds."""


def draw_anew() -> list:
    """Let vLLM's dummy loader draw every parameter as `fill` says, the same in every engine.

    vLLM's own are within +-1e-3 (`initialize_single_dummy_weight` in model_loader/weight_utils.py): then a MoE layer
    adds a millionth of what it finds, and answers are the same whichever experts run. `load_weights` of
    model_loader/dummy_loader.py is called before weights are repacked for kernels (0.19.1 and 0.32.0).

    Returns:
        An empty list, to which a sentence is added once a model was drawn anew.
    """
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    said: list = []
    load = DummyModelLoader.load_weights

    def loading(self, model, model_config):
        load(self, model, model_config)
        for name, parameter in model.named_parameters():
            fill(name, parameter.data)
        said[:] = ["dummy weights are drawn so that each layer's output is as large as its input"]

    DummyModelLoader.load_weights = loading
    return said


def fill(name: str, tensor) -> None:
    """Norms and scales are one, biases zero; matrices have a deviation of 1/sqrt(inputs), drawn by the name.

    Packed integers become zero: vLLM leaves them as the memory was, which differs between engines.
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


def draw(tensor, deviation: float, seed: int) -> None:
    """Fill a tensor with normal numbers, slice by slice: types of 8 bits cannot be drawn in place."""
    import torch

    generator = torch.Generator(device=tensor.device).manual_seed(seed)
    for part in tensor:
        drawn = torch.empty(part.shape, dtype=torch.float32, device=tensor.device)
        part.copy_(drawn.normal_(std=deviation, generator=generator))
