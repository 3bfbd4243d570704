"""Runs inside a serving environment: operations on tensors with and without memory, while a model is built.

Usage: `python proof_memory_cases.py`. Prints one JSON object: case -> where the result is, or `refused`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tuner" / "engines" / "worker"))

import torch

from vllm_launch_worker.proof.memory import one_device

CASES = {
    "product": lambda there, nowhere: there * nowhere,
    "list": lambda there, nowhere: torch.cat([there, nowhere]),
    "keyword": lambda there, nowhere: torch.add(there, other=nowhere),
    "operator_of_many": torch.ops.aten.mul,
    "operator": torch.ops.aten.mul.Tensor,
    "alone": lambda there, _: there * 2,
    "sizes": lambda there, nowhere: there[:3] * nowhere,
    "item": lambda there, nowhere: there.__setitem__(0, nowhere[0]),
    "copy": lambda there, nowhere: there.copy_(nowhere),
    "out": lambda there, nowhere: torch.add(there, nowhere, out=there),
}


def answer(case: str) -> str:
    """Where the result of a case is: `cpu` or `meta`. `refused` if torch refuses it."""
    there, nowhere = torch.ones(4, 4), torch.ones(4, 4, device="meta")
    try:
        with torch.device("meta"), one_device():
            return CASES[case](there, nowhere).device.type
    except RuntimeError:
        return "refused"


print(json.dumps({case: answer(case) for case in CASES}))  # noqa: T201  the answer
