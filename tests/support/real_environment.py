"""Test support: the two real serving environments, each with a vLLM of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = {"current": "setup", "flag-live": "setup-flag-live"}
"""Environment -> the make target that creates it."""


def python_of(environment: str) -> Path:
    """The interpreter of an environment; skip where it is not installed."""
    found = ROOT / ".envs" / environment / "bin" / "python"
    if not found.exists():
        pytest.skip(f"No serving environment .envs/{environment}; `make {TARGETS[environment]}` creates it.")
    return found


def checkpoint_of(environment: str, folder: Path, kind: str = "qwen3-moe") -> Path:
    """A thin model with weights, written below a folder by an environment's own transformers."""
    script = ROOT / "examples" / "tiny_checkpoint.py"
    subprocess.run([python_of(environment), script, folder / kind, "--kind", kind], check=True, cwd=folder)
    return folder / kind


def answer_of(environment: str, script: str, *arguments: object) -> Any:
    """What a script of this folder prints as JSON on its last line, run by an environment's Python."""
    command = [python_of(environment), ROOT / "tests" / "support" / script, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])
