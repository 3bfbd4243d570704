"""Which quantised weights can be made up, and how many bytes a number of them takes. Pure.

The worker draws the same formats (tuner/engines/worker/vllm_launch_worker/packed.py).
"""

from collections.abc import Mapping
from typing import Any

from tuner.model.shrink import QUANTIZATIONS, Config, text_nodes

KEY = "quantization_config"
FOUR_BITS, EIGHT_BITS = 0.57, 1.02
"""Bytes of a number with its share of the scales: at most one byte of scale for 16 numbers of four bits, two bytes for
128 of eight."""
_BITS = 4
"""Of a number in files of AWQ and GPTQ that can be drawn."""
_FORMATS = {
    ("float-quantized", "float", 8): EIGHT_BITS,
    ("naive-quantized", "float", 8): EIGHT_BITS,
    ("int-quantized", "int", 8): EIGHT_BITS,
    ("pack-quantized", "int", 4): FOUR_BITS,
    ("nvfp4-pack-quantized", "float", 4): FOUR_BITS,
}
"""Of compressed-tensors: format, type and bits of the weights -> bytes of a number."""
_MODELOPT = {"FP8": EIGHT_BITS, "NVFP4": FOUR_BITS}


def names_quantization(config: Config) -> bool:
    """Whether a part of the config that describes no encoder names a quantisation."""
    return any(node.get(key) for node in text_nodes(config) for key in QUANTIZATIONS)


def drawn_bytes(config: Config) -> float | None:
    """The bytes of a quantised number, if weights of this format can be made up.

    None if they cannot, and for a model that is not quantised.
    """
    quantizations = [node[KEY] for node in text_nodes(config) if node.get(KEY)]
    if any(node.get("compression_config") for node in text_nodes(config)):
        return None
    sizes = [_bytes(part) if isinstance(part, dict) else None for part in quantizations]
    drawable = [size for size in sizes if size is not None]
    return max(drawable) if drawable and len(drawable) == len(sizes) else None


def _bytes(quantization: Mapping[str, Any]) -> float | None:
    """The bytes of a number in one `quantization_config`; None for a format that cannot be drawn."""
    method = str(quantization.get("quant_method", "")).replace("_", "-")
    if method == "fp8":
        return EIGHT_BITS
    if method == "mxfp4":
        return FOUR_BITS
    if method in {"awq", "gptq"}:
        return FOUR_BITS if _is_plain(quantization) else None
    if method == "modelopt":
        return _MODELOPT.get(str(quantization.get("quant_algo")))
    if method == "compressed-tensors":
        return _of_groups(quantization)
    return None


def _is_plain(quantization: Mapping[str, Any]) -> bool:
    """Whether a file of AWQ or GPTQ has numbers of four bits, in order, with zero points of the first format."""
    bits = quantization.get("bits", quantization.get("w_bit"))
    return bits == _BITS and not quantization.get("desc_act") and quantization.get("checkpoint_format") != "gptq_v2"


def _of_groups(quantization: Mapping[str, Any]) -> float | None:
    """As `_bytes`, of compressed-tensors: all groups of layers must be of formats that can be drawn."""
    groups = quantization.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return None
    sizes = [_of_group(group, quantization.get("format")) for group in groups.values()]
    drawable = [size for size in sizes if size is not None]
    return max(drawable) if len(drawable) == len(sizes) else None


def _of_group(group: Any, whole_format: Any) -> float | None:
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict) or weights.get("actorder"):
        return None
    name: Any = (group.get("format") or whole_format, weights.get("type"), weights.get("num_bits"))
    return _FORMATS.get(name)
