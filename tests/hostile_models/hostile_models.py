"""Models that test the proof of a launch: each branch compiled and around a compiled region, and planted faults.

Put this folder on PYTHONPATH: vLLM finds `register` through the entry point in the `.dist-info` folder beside it. Works
with vLLM 0.19.1. `tests/hostile_models/hostile_truth.py` says what is true of each model.
"""

from hostile_base import inside, outside
from hostile_kinds import KINDS
from hostile_launches import LAUNCHES
from hostile_planted import PLANTED
from torch import nn
from vllm import ModelRegistry


def models() -> dict[str, type[nn.Module]]:
    """Name -> model, without the ending `ForCausalLM`."""
    compiled = {f"{kind.__name__}Inside": inside(kind) for kind in (*KINDS, *LAUNCHES)}
    outer = {f"{kind.__name__}Outside": outside(kind) for kind in (*KINDS, *LAUNCHES)}
    return {**compiled, **outer, **PLANTED}


def register() -> None:
    """Make vLLM accept every model by its class name; the entry point of the group `vllm.general_plugins`."""
    for name, model in models().items():
        ModelRegistry.register_model(f"{name}ForCausalLM", model)
