"""The parts of the name of the piecewise backend's graph folder: `torch_compile_cache/<10 hex>`.

`VllmBackend.__call__` of vllm/compilation/backends.py, 0.16.0 to 0.32.0, makes the name from the hashes of the
variables, the config, the traced files and the compiler. The traced files are known only after a trace, so the name
itself is not computed here.
"""

import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from shared_worker.vllm_types import CompilationConfig, Module, VllmConfig
from vllm_launch_worker import sources
from vllm_launch_worker.construction import Built


def parts(vllm_config: VllmConfig, built: Built) -> dict[str, Any]:
    """The parts that no other answer holds.

    Returns:
        `compiler_hash`; `modules`: of each compiled module its name, its function, and the function's source `file` and
        `line`; `cache_dir`: the folder that the launch itself names, which vLLM then uses without a hash; `disabled`:
        no graph is read or written; `unknown`: why the parts differ from those that the engine would hash, empty if
        they do not.
    """
    config = vllm_config.compilation_config
    folder: dict[str, Any] = {
        "compiler_hash": "",
        "modules": [described(name, module) for name, module in built.modules.items()],
        "cache_dir": config.cache_dir or "",
        "disabled": False,
        "unknown": built.failure or ("" if built.modules else "Nothing in this launch is compiled."),
    }
    try:
        folder |= {"compiler_hash": compiler_hash(vllm_config), "disabled": disabled(config)}
    except Exception as error:
        traceback.print_exc()
        failure = f"vLLM's compiler does not tell its hash: {type(error).__name__}: {error}"[:400]
        folder["unknown"] = folder["unknown"] or failure
    return folder


def disabled(config: CompilationConfig) -> bool:
    """Whether one of vLLM's own variables or of Inductor's settings keeps vLLM from reading graphs."""
    from vllm.compilation.compiler_interface import is_compile_cache_enabled

    return not is_compile_cache_enabled(config.inductor_compile_config)


def described(name: str, module: Module) -> dict[str, Any]:
    """A compiled module: its name in the model, and the place of its function."""
    function = module.forward
    return {
        "module": name,
        "function": function.__qualname__,
        "file": sources.name_of(function.__code__.co_filename),
        "line": function.__code__.co_firstlineno,
    }


def compiler_hash(vllm_config: VllmConfig) -> str:
    """The hash of vLLM's compiler: the machine and torch, and in newer releases Inductor's settings."""
    from vllm.compilation.backends import make_compiler

    with indexing(vllm_config):
        return cast("str", make_compiler(vllm_config.compilation_config).compute_hash(vllm_config))


def indexing(vllm_config: VllmConfig) -> AbstractContextManager[Any]:
    """The one Inductor setting that vLLM changes around a trace; it does not where it loads a whole function.

    `inductor_config_patches` of vllm/compilation/decorators.py; torch knows the setting from 2.10.
    """
    import torch._inductor.config as inductor
    from vllm import envs

    shapes = getattr(vllm_config.compilation_config, "dynamic_shapes_config", None)
    setting = getattr(shapes, "assume_32_bit_indexing", None)
    loads = getattr(envs, "VLLM_USE_AOT_COMPILE", False)
    if loads or setting is None or not hasattr(inductor, "assume_32bit_indexing"):
        return nullcontext()
    return cast("AbstractContextManager[Any]", inductor.patch(assume_32bit_indexing=setting))
