"""Test support: run by a serving environment's Python, it draws weights into layers that vLLM's own methods made.

    PYTHONPATH=tuner/engines/worker:tuner/processes/worker PYTHON tests/support/packed_layers.py

No kernel runs, because most need a GPU or AMX. The parameters are those of vLLM's `create_weights`, each called without
the rest of its method (a `SimpleNamespace` holds what it reads). What was drawn is unpacked by compressed-tensors,
which vLLM requires, and by torch. Writes one JSON object: format -> what each matrix of experts became.
"""

import json
import math
import sys
from types import SimpleNamespace
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from vllm.distributed import parallel_state
from vllm.model_executor.layers.quantization import auto_awq, auto_gptq, fp8, modelopt, mxfp4
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe_w4a4_nvfp4,
    compressed_tensors_moe_wna16,
)

from vllm_launch_worker import weights

EXPERTS, HIDDEN, INNER, GROUP, BLOCK = 4, 512, 256, 32, 128
INPUTS = {"w13_": HIDDEN, "w2_": INNER}
FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]


def methods() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Format -> the class of vLLM's method, and what its `create_weights` reads of itself."""
    words = {"pack_factor": 8, "group_size": GROUP, "is_sym": True, "weight_bits": 4}
    blocks = {"block_quant": True, "weight_block_size": [BLOCK, BLOCK], "moe_block_shape": (BLOCK, BLOCK)}
    tensors = {"block_quant": False, "weight_block_size": None}
    wna16 = compressed_tensors_moe_wna16.CompressedTensorsWNA16MoEMethod
    nvfp4 = compressed_tensors_moe_w4a4_nvfp4.CompressedTensorsW4A4Nvfp4MoEMethod
    return {
        "mxfp4": (mxfp4.GptOssMxfp4MoEMethod, {}),
        "fp8 in blocks": (fp8.Fp8MoEMethod, {**blocks, "weight_scale_name": "weight_scale_inv", "scheme": "dynamic"}),
        "fp8, static": (fp8.Fp8MoEMethod, {**tensors, "weight_scale_name": "weight_scale", "scheme": "static"}),
        "modelopt nvfp4": (modelopt.ModelOptNvFp4FusedMoE, {"use_global_sf": False}),
        "compressed-tensors nvfp4": (nvfp4, {"group_size": 16}),
        "compressed-tensors w4a16": (wna16, {"strategy": "group", "group_size": GROUP, "symmetric": True, **words}),
        "awq": (auto_awq.AutoAWQMoEMethod, {}),
        "gptq": (auto_gptq.AutoGPTQMoEMethod, {}),
    }


def layer_of(method: Any, own: dict[str, Any]) -> Any:
    """A layer with the parameters that a method gives it."""
    group = 16 if "nvfp4" in method.__name__.lower() else GROUP
    config = SimpleNamespace(
        pack_factor=8,
        group_size=group,
        desc_act=False,
        is_checkpoint_nvfp4_serialized=True,
        activation_scheme=own.pop("scheme", "dynamic"),
        quant_type=SimpleNamespace(size_bits=4),
    )
    moe = SimpleNamespace(w13_num_shards=2, is_act_and_mul=True, has_bias=False)
    itself = SimpleNamespace(moe=moe, quant_config=config, input_dtype=None, weight_scale_refine=None, packed_factor=8)
    vars(itself).update(own)
    if hasattr(method, "get_weight_shape"):
        itself.get_weight_shape = lambda *args, **more: method.get_weight_shape(itself, *args, **more)
    layer = torch.nn.Module()
    method.create_weights(
        itself, layer, EXPERTS, HIDDEN, INNER, torch.bfloat16, weight_loader=None, global_num_experts=EXPERTS
    )
    return layer


def unpacked(kind: str, values: Any, scales: Any) -> Any:
    """The numbers of one matrix, outputs by inputs, without a scale of all scales."""
    if kind == "awq":  # the order of eight outputs in a word does not matter to what is measured here
        shifts = torch.arange(0, 32, 4, dtype=torch.int32)
        numbers = ((values.unsqueeze(-1) >> shifts) & 15).flatten(-2).float() - 8
        return (numbers * scales.float().repeat_interleave(GROUP, 0)).t()
    if kind == "gptq":
        numbers = unpack_from_int32(values.t().contiguous(), 4, torch.Size((values.shape[1], len(values) * 8)))
        return numbers.float() * scales.float().t().repeat_interleave(GROUP, 1)
    if values.dtype == torch.int32:
        numbers = unpack_from_int32(values, 4, torch.Size((len(values), values.shape[1] * 8))).float()
    elif values.dtype == torch.uint8:
        table = torch.tensor(FP4)
        numbers = torch.stack([table[(values & 15).long()], table[(values >> 4).long()]], -1).flatten(-2)
    else:
        numbers = values.float()
    if scales.dtype == torch.uint8:
        scales = 2.0 ** (scales.float() - 127)
    if scales.dim() < 2:
        return numbers * scales.float().mean()
    rows, columns = len(numbers) // len(scales), numbers.shape[1] // scales.shape[1]
    return numbers * scales.float().repeat_interleave(rows, 0).repeat_interleave(columns, 1)


def measured(kind: str, layer: Any) -> dict[str, Any]:
    """Of each matrix: its standard deviation as a multiple of 1/sqrt(inputs), and whether all numbers are finite."""
    own = {name: parameter.data for name, parameter in layer.named_parameters()}
    became: dict[str, Any] = {}
    for shard, inputs in INPUTS.items():
        parts = {name[len(shard) :]: tensor for name, tensor in own.items() if name.startswith(shard)}
        values = next(parts[name] for name in ("weight_packed", "qweight", "weight") if name in parts)
        scales = next(parts[name] for name in ("weight_scale", "weight_scale_inv", "scales") if name in parts)
        whole = torch.stack([unpacked(kind, values[expert], scales[expert]) for expert in range(EXPERTS)])
        if "weight_scale_2" in parts:
            whole *= parts["weight_scale_2"].flatten()[0]
        if "weight_global_scale" in parts:
            whole /= parts["weight_global_scale"].flatten()[0]
        others = [tensor.float() for name, tensor in parts.items() if name.startswith("input")]
        became[shard] = {
            "shape": list(whole.shape[1:]),
            "deviation": whole.std().item() * math.sqrt(inputs),
            "mean": whole.mean().item() * math.sqrt(inputs),
            "finite": bool(whole.isfinite().all()) and all(bool(other.isfinite().all()) for other in others),
            "inputs": sorted({round(number, 6) for other in others for number in other.flatten().tolist()}),
            "experts_differ": not torch.equal(values[0].float(), values[1].float()),
        }
    return became


def main() -> None:
    """What the docstring of the module says."""
    parallel_state._TP = SimpleNamespace(world_size=1, rank_in_group=0)  # no engine runs, which would have made it
    answers = {}
    for kind, (method, own) in methods().items():
        model = torch.nn.Module()
        model.experts = layer_of(method, dict(own))
        weights.fill_model(model)
        answers[kind] = measured(kind, model.experts)
        first = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
        weights.fill_model(model)
        same = [torch.equal(first[name].float(), again.data.float()) for name, again in model.named_parameters()]
        answers[kind]["drawn_alike"] = all(same)
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
