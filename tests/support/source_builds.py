"""Test support: a vLLM built from source, as short excerpts of the four files that tell what its flag can do."""

from collections.abc import Mapping

from fake_environment import Serving

COMPILATION = """
@config
class CompilationConfig:
    static_all_moe_layers: list[str] = field(default_factory=list, init=False)
    fast_moe_cold_start: bool | None = None
    \"\"\"Optimization for fast MOE cold start.\"\"\"
"""
RESOLUTION = """
class VllmConfig:
    def __post_init__(self):
        from vllm.utils.torch_utils import HAS_OPAQUE_TYPE

        if HAS_OPAQUE_TYPE:
            # On torch >= 2.11 the hoisted OpaqueObject approach supersedes
            # fast_moe_cold_start, so force it off.
            self.compilation_config.fast_moe_cold_start = False
        elif self.compilation_config.fast_moe_cold_start is None:
            self.compilation_config.fast_moe_cold_start = (
                self.speculative_config is None
            )
"""
CONTEXT = """
def create_forward_context(vllm_config):
    if vllm_config.compilation_config.fast_moe_cold_start:
        all_moe_layers = vllm_config.compilation_config.static_all_moe_layers
    else:
        all_moe_layers = None
"""
TORCH = 'HAS_OPAQUE_TYPE = is_torch_equal_or_newer("2.11.0.dev")\n'
FILES = {
    "config/compilation.py": COMPILATION,
    "config/vllm.py": RESOLUTION,
    "forward_context.py": CONTEXT,
    "utils/torch_utils.py": TORCH,
}
"""Excerpts of 0.19.1."""
WITHOUT_RULE = {
    **FILES,
    "config/vllm.py": """
class VllmConfig:
    def __post_init__(self):
        if self.compilation_config.fast_moe_cold_start is None:
            self.compilation_config.fast_moe_cold_start = self.speculative_config is None
""",
}
"""Excerpts of 0.16.0: nothing forces the flag off."""
WITHOUT_FLAG = {
    "config/compilation.py": "class CompilationConfig:\n    mode: int = 0\n",
    "config/vllm.py": "class VllmConfig:\n    def __post_init__(self):\n        pass\n",
    "forward_context.py": "def create_forward_context(vllm_config):\n    return None\n",
}
"""As 0.14.1: neither a flag nor a counter."""
UNASKED = {
    **WITHOUT_FLAG,
    "forward_context.py": "class ForwardContext:\n    remaining_moe_layers: list[str] | None = None\n",
}
"""As 0.15.0: a counter and no flag."""


def write_vllm(serving: Serving, files: Mapping[str, str] = FILES) -> None:
    """Put the importable package there, with these files."""
    serving.write("vllm/__init__.py", "raise RuntimeError('nothing of this vLLM may be run')\n")
    for file, text in files.items():
        serving.write(f"vllm/{file}", text)
