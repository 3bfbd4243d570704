"""Test support: how the launch worker names secrets, from its own file; nobody imports a worker."""

import runpy
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "tuner/engines/worker/vllm_launch_worker/plain.py"


def concealed(name: str, value: str) -> Any:
    """A variable's value as the worker tells it."""
    return runpy.run_path(str(FILE))["conceal"](name, value)
