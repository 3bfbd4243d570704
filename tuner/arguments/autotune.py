"""Whether a launch lets FlashInfer's autotune run, by its arguments. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rules.errors import TunerError
from tuner.arguments.serve_arguments import ServeArguments
from tuner.arguments.serving import stored_objects
from tuner.arguments.vllm_options import Setting, scan

_KEY = "enable_flashinfer_autotune"
_TRUE = {"true", "1", "yes", "on", "t", "y"}
"""As pydantic reads a text."""


def autotune_wish(arguments: ServeArguments) -> bool | None:
    """What the user says: on, off, or None for nothing; a kernel config that vLLM refuses says nothing."""
    settings = scan(arguments.effective)[0]
    wish = _by_option(settings)
    if wish is not None:
        return wish
    for key, value in _kernel_config(settings).items():
        if key.replace("-", "_") == _KEY and value is not None:
            return str(value).strip().lower() in _TRUE
    return None


def measuring_ranks(arguments: ServeArguments) -> int:
    """How many ranks measure together: all of vLLM's world, which spans data-parallel replicas of MoE models."""
    serving = arguments.serving
    return serving.tensor_parallel_size * serving.pipeline_parallel_size * serving.data_parallel_size


def _kernel_config(settings: Sequence[Setting]) -> Mapping[str, Any]:
    """The kernel config that vLLM keeps, which is the last one; empty if there is none, or if it is not an object."""
    try:
        configs = stored_objects(settings, "kernel_config", expands=True)
    except TunerError:
        return {}
    return (configs[-1] if configs else None) or {}


def autotune_is_on(arguments: ServeArguments) -> bool:
    """Whether it runs as far as the arguments say: by default at every optimization level but 0 (0.16.0 to 0.33.0)."""
    wish = autotune_wish(arguments)
    level = (arguments.serving.optimization_level or "").strip().upper().removeprefix("O")
    return level != "0" if wish is None else wish


def _by_option(settings: Sequence[Setting]) -> bool | None:
    wish = None
    for setting in settings:
        if setting.option.field == "flashinfer_autotune":
            wish = not (setting.negated or setting.spelling == "--disable-flashinfer-autotune")
    return wish
