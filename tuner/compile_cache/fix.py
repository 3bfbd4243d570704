"""What to do about a difference, one sentence each. Pure."""

import json
from typing import Any

OPTIONS = ("model_config", "cache_config", "parallel_config", "scheduler_config")
"""Configs whose fields are options of `vllm serve`, by the same name with dashes."""
OPTION_NAMES = {"cache_dtype": "kv-cache-dtype"}
FOLLOWS = ("static_all_moe_layers", "enabled_custom_ops", "disabled_custom_ops", "kv_cache_layout")
"""Fields that vLLM fills itself while it builds the model."""
FLAG = "fast_moe_cold_start"
FOLDER = {
    "env": "Start with the variables in the folder's cache_key_factors.json, or warm again.",
    "config_hash": (
        "Start with the options, model path and vLLM that filled the folder, or warm again: "
        "which of them differs, only a record of `tuner cache warm` tells."
    ),
    "compiler_hash": (
        "Serve with the torch, Triton, GPU and TORCHINDUCTOR_ variables that filled the folder, or warm again: "
        "vLLM keeps their hash alone."
    ),
}
FROM_MODEL = ("model_config.hf_config.", "model_config.hf_text_config.")


def variable_fix(name: str, before: Any, home: bool) -> str:
    """For an environment variable.

    Args:
        name: the variable.
        before: its value while warming.
        home: it differs because HOME or an XDG folder does.
    """
    if home:
        return f"Keep HOME and the XDG folders as while warming, or set {name}={before} for both."
    if name == "VLLM_API_KEY":
        return "Give the key with --api-key in both launches: vLLM hashes this variable up to 0.28.0."
    if before is None:
        return f"Leave {name} unset, as while warming, or warm with it."
    return f"Start with {name}={_text(before)}, as while warming, or warm again."


def config_fix(name: str, before: Any) -> str:
    """For a field of vLLM's config, by its dotted name; `before` is its value while warming."""
    part, _, field = name.partition(".")
    if name == "model_config.model" or name.startswith(FROM_MODEL):
        return _model_fix(name, before)
    if field in FOLLOWS:
        return "vLLM fills this field itself: it follows from another difference, or from how the model is built."
    if field == FLAG:
        return "The verdict decides this value: warm with the launch of `tuner plan`, and change nothing here."
    if part == "compilation_config" and field:
        return f"Set {field} to {_text(before)} in --compilation-config, or warm again."
    if part in OPTIONS and field:
        option = OPTION_NAMES.get(field, field.replace("_", "-"))
        return f"Give --{option} as while warming, when it came to {_text(before)}; or warm again."
    return f"Set {name} as while warming, or warm again."


def _model_fix(name: str, before: Any) -> str:
    if name == "model_config.model":
        return f"Serve the model as {_text(before)}: the path or hub id itself is hashed."
    if name.endswith(".transformers_version"):
        return f"Serve with transformers {_text(before)}, as while warming: its version is in the model's config."
    return "The model's config.json is another one; warm with this one."


def system_fix(name: str, before: Any) -> str:
    """For a version, the machine, or a setting of the compiler's."""
    if name == "gpu":
        return f"Warm on this kind of GPU; the cache was filled on {_text(before)}."
    if name == "platform":
        return f"Warm on this platform; the cache was filled on {_text(before)}."
    if name in {"setting", "inductor"}:
        return "Start with the same TORCHINDUCTOR_ variables, torch and machine as while warming, or warm again."
    return f"Serve with {name} {_text(before)}, as while warming, or warm with this one."


def source_fix(before: Any, after: Any) -> str:
    """For a source file, by its digests."""
    if before is None:
        return "The file is new since the warm-up; warm with it."
    if after is None:
        return "The file is gone since the warm-up; put it back, or warm without it."
    return "The file was changed since the warm-up; put it back, or warm with it."


def folder_fix(part: str) -> str:
    """For a part of which a folder of graphs keeps a hash alone."""
    return FOLDER[part]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
