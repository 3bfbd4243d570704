"""Whether a launch lets FlashInfer's autotune run, by its arguments. Pure."""

from collections.abc import Sequence

from tuner.arguments.serve_arguments import ServeArguments
from tuner.arguments.serving import stored_objects
from tuner.arguments.vllm_options import Setting, scan

_KEY = "enable_flashinfer_autotune"
_TRUE = {"true", "1", "yes", "on", "t", "y"}
"""As pydantic reads a text."""


def autotune_wish(arguments: ServeArguments) -> bool | None:
    """What the user says: on, off, or None for nothing.

    Raises:
        TunerError: the kernel config is not a JSON object.
    """
    settings = scan(arguments.effective)[0]
    wish = _by_option(settings)
    if wish is not None:
        return wish
    for config in stored_objects(settings, "kernel_config", expands=True)[-1:]:  # vLLM keeps the last one alone
        for key, value in (config or {}).items():
            if key.replace("-", "_") == _KEY and value is not None:
                return str(value).strip().lower() in _TRUE
    return None


def autotune_is_on(arguments: ServeArguments) -> bool:
    """Whether it runs as far as the arguments say: by default at every optimization level but 0 (0.16.0 to 0.33.0).

    Raises:
        TunerError: the kernel config is not a JSON object.
    """
    wish = autotune_wish(arguments)
    level = (arguments.serving.optimization_level or "").strip().upper().removeprefix("O")
    return level != "0" if wish is None else wish


def _by_option(settings: Sequence[Setting]) -> bool | None:
    wish = None
    for setting in settings:
        if setting.option.field == "flashinfer_autotune":
            wish = not (setting.negated or setting.spelling == "--disable-flashinfer-autotune")
    return wish
