"""Which vLLM release does what about `fast_moe_cold_start`: the facts, one row a release.

Read from each release's Python sources (wheels 0.14.1 to 0.33.0). Pull requests: 32805 brought the counter (0.15.0),
33184 the attribute (0.15.1), 35475 forces the flag off with torch 2.11 or later (0.17.0).
"""

from dataclasses import dataclass
from enum import StrEnum


class FlagForm(StrEnum):
    """How `CompilationConfig` knows the flag."""

    ABSENT = "absent"
    """No such name; a launch that passes it does not start."""
    ATTRIBUTE = "attribute"
    """A class attribute without annotation: consulted, but a launch that passes it does not start."""
    FIELD = "field"
    """A field of type `bool | None`, default None."""


class Counter(StrEnum):
    """When MoE calls are resolved by counting."""

    NEVER = "never"
    """Every call carries its layer's name, or no name is needed."""
    ALWAYS = "always"
    """Counted, and no configuration can change it."""
    FLAG = "flag"
    """Counted if the flag is true."""
    FLAG_OLD_TORCH = "flag, torch below 2.11"
    """Counted if the flag is true and torch is older than 2.11; otherwise the flag is forced to false."""


@dataclass(frozen=True)
class Release:
    """One vLLM release.

    Attributes:
        version: the release, `major.minor.patch`.
        flag: how its `CompilationConfig` knows the flag.
        gpu: the counter on platforms that call MoE layers through a custom operator: CUDA, ROCm, XPU.
        cpu: the counter on platforms that call the Python function: CPU, TPU.
        source: the file, in that release, that decides.
        counts_drafts: whether the counter stays on beside speculative decoding where the launch says nothing.
    """

    version: str
    flag: FlagForm
    gpu: Counter
    cpu: Counter
    source: str
    counts_drafts: bool = False


_LAYER = "vllm/model_executor/layers/fused_moe/layer.py"


def _with_torch_check(version: str) -> Release:
    """A release that forces the flag off with torch 2.11 or later, on every platform, in `VllmConfig.__post_init__`."""
    return Release(version, FlagForm.FIELD, Counter.FLAG_OLD_TORCH, Counter.FLAG_OLD_TORCH, "vllm/config/vllm.py")


RELEASES = (
    Release("0.14.1", FlagForm.ABSENT, Counter.NEVER, Counter.NEVER, "vllm/config/compilation.py"),
    # get_layer_from_name pops a list that each forward pass rebuilds, drafts included.
    Release("0.15.0", FlagForm.ABSENT, Counter.ALWAYS, Counter.NEVER, _LAYER, counts_drafts=True),
    Release("0.15.1", FlagForm.ATTRIBUTE, Counter.ALWAYS, Counter.NEVER, "vllm/config/compilation.py"),
    Release("0.16.0", FlagForm.FIELD, Counter.FLAG, Counter.NEVER, "vllm/config/vllm.py"),
    _with_torch_check("0.17.0"),
    _with_torch_check("0.17.1"),
    _with_torch_check("0.18.0"),
    _with_torch_check("0.18.1"),
    _with_torch_check("0.19.0"),
    _with_torch_check("0.19.1"),
    _with_torch_check("0.20.0"),
    _with_torch_check("0.20.2"),
    _with_torch_check("0.21.0"),
    _with_torch_check("0.22.1"),
    _with_torch_check("0.23.0"),
    _with_torch_check("0.24.0"),
    _with_torch_check("0.25.1"),
    _with_torch_check("0.26.0"),
    _with_torch_check("0.27.1"),
    _with_torch_check("0.28.0"),
    _with_torch_check("0.29.0"),
    _with_torch_check("0.30.0"),
    _with_torch_check("0.31.0"),
    _with_torch_check("0.32.0"),
    _with_torch_check("0.33.0"),
)
"""Every release that was read, oldest first."""

EXCEPTED_SINCE = {"Ernie4_5_VLMoeForConditionalGeneration": "0.17.0"}
"""Architecture -> the first release that itself turns the flag off for it, under vLLM's own implementation
(`MODELS_CONFIG_MAP`, vllm/model_executor/models/config.py). It tells what a launch does that says nothing of the flag,
and decides no verdict."""
