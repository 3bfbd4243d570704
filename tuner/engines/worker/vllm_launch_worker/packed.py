"""Random quantised weights, in the layout that a checkpoint has before vLLM repacks it for its kernels.

The names and types of parameters are those of vLLM's quantisation methods (model_executor/layers/quantization: fp8,
mxfp4, modelopt, awq, gptq, compressed_tensors; read in 0.32.0). Every bit pattern that is drawn is a finite number.
tuner/model/quantization.py lists the formats that reach this module.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from shared_worker.vllm_types import Module, Tensor

SHARDS = ("w13_", "w2_", "")
"""How names of parameters begin: of the two matrices of experts, and of a linear layer."""
VALUES = ("weight_packed", "qweight", "weight")
"""Names of the packed numbers, without the shard. The names of the other parameters follow."""
SCALES = ("weight_scale", "weight_scale_inv", "scales")
ZEROS = ("qzeros", "weight_zero_point")
MULTIPLIER, DIVISOR = "weight_scale_2", "weight_global_scale"
"""The scale of all scales in NVFP4: modelopt multiplies by it, and compressed-tensors divides."""
INPUT_SCALE, INPUT_DIVISOR = "input_scale", "input_global_scale"
LARGEST_INPUT = 8.0
"""The largest input that static scales allow for. Norms give inputs with a standard deviation of 1."""
LARGEST_FP8, LARGEST_FP4, LARGEST_INT8 = 448.0, 6.0, 127.0
EIGHT_BITS = 32.0
"""The standard deviation of 8-bit numbers. Nearly all of them use all bits of the mantissa, and none is too large."""
CUT = 240.0
"""The largest finite number of the fp8 type that has the fewest (`float8_e4m3fnuz`)."""
FP4 = math.sqrt(68.5 / 8)
"""The standard deviation of the sixteen fp4 numbers: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the same below zero."""
INT4 = math.sqrt(2 * sum(number**2 for number in range(1, 8)) / 15)
"""The standard deviation of the whole numbers from -7 to 7. -8 is left out, so that the mean is 0."""
MIDDLE, GPTQ_MIDDLE = 0x88888888, 0x77777777
"""A 32-bit word of eight zero points. Each of them is 8, the middle of the numbers of four bits. GPTQ stores 7 instead,
because it adds 1 to a stored zero point."""
SPREAD = 0.5
"""Scales lie between 1 - SPREAD and 1 + SPREAD times their mean."""
FP8_SCALE = 64.0
"""The mean of scales that are fp8 numbers themselves."""
EXPONENT_OF_ONE = 127
"""The byte that stands for the power of two 1.0."""
IN_WORD, IN_BYTE = 8, 2
"""How many numbers of four bits a word and a byte hold."""
CHUNK = 1 << 24
"""The largest count of numbers that are drawn at once."""


class Matrix(NamedTuple):
    """The parameters of one quantised matrix, or of one for each expert.

    Attributes:
        name: the name of its layer, a dot, and the shard. It decides the seed.
        values: the packed numbers.
        scales: the scales of groups of them.
        others: the other parameters, by their names without the shard.
    """

    name: str
    values: Tensor
    scales: Tensor
    others: dict[str, Tensor]


def matrices(name: str, layer: Module) -> Iterator[Matrix]:
    """The quantised matrices among a layer's own parameters."""
    parameters = {key: parameter.data for key, parameter in layer.named_parameters(recurse=False)}
    for shard in SHARDS:
        parts = {key[len(shard) :]: tensor for key, tensor in parameters.items() if key.startswith(shard)}
        values = next((parts.pop(key) for key in VALUES if key in parts), None)
        scales = next((parts.pop(key) for key in SCALES if key in parts), None)
        if values is not None and scales is not None:
            yield Matrix(f"{name}.{shard}", values, scales, parts)


def is_quantised(matrix: Matrix) -> bool:
    """Whether the numbers of a matrix have fewer than 16 bits, so that scales belong to them."""
    return bool(matrix.values.element_size() == 1 or not matrix.values.is_floating_point())


def fill(matrix: Matrix, gain: float) -> list[Tensor]:
    """Draw the numbers and the scales of a matrix. The CRC-32 of its name is the seed.

    Args:
        matrix: the matrix.
        gain: the standard deviation of what it stands for, as a multiple of 1/sqrt(inputs).

    Returns:
        The parameters that were filled.
    """
    import torch

    generator = torch.Generator(device=matrix.values.device).manual_seed(zlib.crc32(matrix.name.encode()))
    scale = gain / math.sqrt(inputs(matrix)) / draw_values(matrix.values, generator)
    is_nvfp4 = MULTIPLIER in matrix.others or DIVISOR in matrix.others
    draw_scales(matrix.scales, FP8_SCALE if is_nvfp4 else scale, generator)
    constants = {MULTIPLIER: scale / FP8_SCALE, DIVISOR: FP8_SCALE / scale, **input_scales(matrix)}
    tensors = [matrix.values, matrix.scales]
    for key, tensor in matrix.others.items():
        if key in constants:
            tensor.fill_(constants[key])
            tensors.append(tensor)
        elif key in ZEROS:
            is_gptq = key == "qzeros" and packs_inputs(matrix)
            tensor.fill_(as_signed(GPTQ_MIDDLE if is_gptq else MIDDLE))
            tensors.append(tensor)
    return tensors


def inputs(matrix: Matrix) -> int:
    """The number of inputs of a matrix.

    Its last two dimensions are outputs and inputs. In formats that pack words by rows, they are inputs and outputs.
    """
    import torch

    rows, columns = matrix.values.shape[-2:]
    if matrix.values.dtype == torch.uint8:
        return int(columns * IN_BYTE)
    if matrix.values.dtype != torch.int32:
        return int(columns)
    if packs_inputs(matrix):
        return int(rows * IN_WORD)
    return int(rows) if packs_outputs(matrix) else int(columns * IN_WORD)


def packs_inputs(matrix: Matrix) -> bool:
    """Whether a word holds eight inputs of a column, as in GPTQ."""
    values, scales = matrix.values.shape, matrix.scales.shape
    return bool(values[-1] == scales[-1] and values[-2] != scales[-2])


def packs_outputs(matrix: Matrix) -> bool:
    """Whether a word holds eight outputs of a row, as in AWQ."""
    return bool(matrix.values.shape[-1] * IN_WORD == matrix.scales.shape[-1])


def draw_values(values: Tensor, generator: Any) -> float:
    """Draw packed numbers, and return their standard deviation."""
    import torch

    kinds = {torch.int32: (words, INT4), torch.uint8: (pairs, FP4), torch.int8: (int8, EIGHT_BITS)}
    draw, deviation = kinds.get(values.dtype, (fp8, EIGHT_BITS))
    for part in parts(values):
        part.copy_(draw(part.numel(), generator).view(part.shape))
    return deviation


def parts(tensor: Tensor) -> Iterator[Tensor]:
    """Parts of a tensor along its first dimension. Each has at most `CHUNK` numbers, or is one row."""
    if tensor.numel():
        yield from tensor.split(max(1, CHUNK // tensor[0].numel()))


def words(count: int, generator: Any) -> Tensor:
    """Words of eight numbers of four bits each, from 1 to 15."""
    packed = integers(1, 16, count, generator)
    for _ in range(IN_WORD - 1):
        packed = (packed << 4) | integers(1, 16, count, generator)
    return packed


def pairs(count: int, generator: Any) -> Tensor:
    """Bytes of two numbers of fp4 each. All patterns are numbers."""
    return integers(0, 256, count, generator)


def int8(count: int, generator: Any) -> Tensor:
    """Whole numbers of eight bits."""
    return (normal(count, generator) * EIGHT_BITS).round().clamp(-LARGEST_INT8, LARGEST_INT8)


def fp8(count: int, generator: Any) -> Tensor:
    """Numbers within the range of each type of fp8."""
    return (normal(count, generator) * EIGHT_BITS).clamp(-CUT, CUT)


def draw_scales(scales: Tensor, mean: float, generator: Any) -> None:
    """Draw scales around a mean. Those of one byte are powers of two."""
    import torch

    powers = {torch.uint8, getattr(torch, "float8_e8m0fnu", torch.uint8)}
    if scales.dtype in powers:
        low = math.floor(math.log2(mean))
        # This share of the scales is twice as large as the others, so that their mean square is mean**2.
        doubled = (mean**2 / 4**low - 1) / 3
        is_doubled = uniform(scales, generator) < doubled
        scales.view(torch.uint8).copy_(is_doubled + (EXPONENT_OF_ONE + low))
        return
    scales.copy_(uniform(scales, generator) * (2 * SPREAD * mean) + (1 - SPREAD) * mean)


def input_scales(matrix: Matrix) -> dict[str, float]:
    """Name of each static scale of inputs -> its value. With it `LARGEST_INPUT` becomes the largest number."""
    import torch

    largest = {torch.uint8: LARGEST_FP4 * LARGEST_FP8, torch.int8: LARGEST_INT8}.get(matrix.values.dtype, LARGEST_FP8)
    return {INPUT_SCALE: LARGEST_INPUT / largest, INPUT_DIVISOR: largest / LARGEST_INPUT}


def integers(low: int, high: int, count: int, generator: Any) -> Tensor:
    """Whole numbers from `low` to below `high`."""
    import torch

    numbers: Tensor = torch.empty(count, dtype=torch.int32, device=generator.device)
    return numbers.random_(low, high, generator=generator)


def uniform(like: Tensor, generator: Any) -> Tensor:
    """Numbers from 0 to 1, of the shape of a tensor."""
    import torch

    numbers: Tensor = torch.empty(like.shape, dtype=torch.float32, device=generator.device)
    return numbers.uniform_(generator=generator)


def normal(count: int, generator: Any) -> Tensor:
    """Normally distributed numbers with a standard deviation of 1."""
    import torch

    numbers: Tensor = torch.empty(count, dtype=torch.float32, device=generator.device)
    return numbers.normal_(generator=generator)


def as_signed(word: int) -> int:
    """An unsigned word of 32 bits as a signed one."""
    return word - (1 << 32) if word >= 1 << 31 else word
