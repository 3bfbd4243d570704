"""A thin model in place of one whose weights are not on this machine: a cut config.json and random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from shared_worker.plain_config import ensure_config_class
from shared_worker.vllm_types import EngineArgs

LENGTH = 4096
"""Positions, where the launch names no number: the cut config has those of the whole model, which may not fit."""


def write(thin: dict[str, Any], folder: Path) -> None:
    """Write the model's folder.

    Args:
        thin: `config`, the cut config.json; `code`, the folder with the model's own code where it may run, else None.
        folder: is made.
    """
    folder.mkdir()
    config = dict(thin["config"])
    if thin["code"] is None:
        config.pop("auto_map", None)
        ensure_config_class(config)
    else:
        for source in Path(thin["code"]).glob("*.py"):
            shutil.copy(source, folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def put_in_place(engine_args: EngineArgs, folder: Path) -> list[str]:
    """Let the engine serve the thin model.

    Args:
        engine_args: of the launch; changed.
        folder: of the thin model.

    Returns:
        What differs from the launch, in words.
    """
    changed = ["a thin model with random weights stands for the real one"]
    for name in ("model", "tokenizer"):
        setattr(engine_args, name, str(folder))
    for name in ("revision", "tokenizer_revision", "hf_config_path"):
        setattr(engine_args, name, None)
    engine_args.load_format = "dummy"
    if engine_args.max_model_len is None:
        engine_args.max_model_len = LENGTH
        changed.append(f"positions: {LENGTH}")
    return changed
