"""A thin model has a cut config.json and random weights. It replaces a model whose weights are not on this machine."""

import json
import shutil
from pathlib import Path
from typing import Any

from shared_worker.plain_config import ensure_config_class
from shared_worker.vllm_types import EngineArgs

LENGTH = 4096
"""The value of `max_model_len` if the launch does not set it. The value of the whole model may need too much memory."""


def write(thin: dict[str, Any], folder: Path) -> None:
    """Write the folder of the thin model.

    Args:
        thin: `config`: the cut config.json. `code`: the folder with the model's own code, or None if this code must not
            run.
        folder: the folder. This function makes it.
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
        engine_args: the AsyncEngineArgs of the launch. This function changes them.
        folder: the folder of the thin model.

    Returns:
        One sentence for each difference from the launch.
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
