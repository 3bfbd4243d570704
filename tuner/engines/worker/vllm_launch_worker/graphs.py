"""The parts of the name of the graph folder: `torch_compile_cache/` and 10 hexadecimal digits.

vLLM's piecewise backend makes the name from the hashes of the variables, the config, the traced files and the compiler
(`VllmBackend.__call__` in vllm/compilation/backends.py, 0.16.0 to 0.32.0). The traced files are known only after a
trace, so this module does not compute the name.
"""

import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from shared_worker.vllm_types import CompilationConfig, Module, VllmConfig
from vllm_launch_worker import sources
from vllm_launch_worker.construction import BuiltModel


def parts(vllm_config: VllmConfig, built_model: BuiltModel) -> dict[str, Any]:
    """The parts of the name that other answers do not hold.

    Returns:
        `compiler_hash`: see `compiler_hash`. `modules`: one entry for each compiled module (see `description`).
        `cache_dir`: the folder that the launch sets, empty if it does not; vLLM uses this folder without a hash.
        `disabled`: whether vLLM does not read and write graphs. `unknown`: why the parts may differ from those of the
        engine, empty if they do not.
    """
    config = vllm_config.compilation_config
    folder: dict[str, Any] = {
        "compiler_hash": "",
        "modules": [description(name, module) for name, module in built_model.modules.items()],
        "cache_dir": config.cache_dir or "",
        "disabled": False,
        "unknown": built_model.failure or ("" if built_model.modules else "Nothing in this launch is compiled."),
    }
    try:
        folder |= {"compiler_hash": compiler_hash(vllm_config), "disabled": is_disabled(config)}
    except Exception as error:
        traceback.print_exc()
        failure = f"vLLM's compiler does not tell its hash: {type(error).__name__}: {error}"[:400]
        folder["unknown"] = folder["unknown"] or failure
    return folder


def is_disabled(config: CompilationConfig) -> bool:
    """Whether a variable of vLLM or a setting of Inductor stops vLLM from reading graphs."""
    from vllm.compilation.compiler_interface import is_compile_cache_enabled

    return not is_compile_cache_enabled(config.inductor_compile_config)


def description(name: str, module: Module) -> dict[str, Any]:
    """A compiled module.

    Returns:
        `module`: its name in the model. `function`: the name of its `forward`. `file` and `line`: where it is defined.
    """
    function = module.forward
    return {
        "module": name,
        "function": function.__qualname__,
        "file": sources.name_of(function.__code__.co_filename),
        "line": function.__code__.co_firstlineno,
    }


def compiler_hash(vllm_config: VllmConfig) -> str:
    """The hash of vLLM's compiler. It covers the machine and torch, and in newer releases Inductor's settings."""
    from vllm.compilation.backends import make_compiler

    with indexing_of_traces(vllm_config):
        return cast("str", make_compiler(vllm_config.compilation_config).compute_hash(vllm_config))


def indexing_of_traces(vllm_config: VllmConfig) -> AbstractContextManager[Any]:
    """While the block runs, Inductor's setting `assume_32bit_indexing` has the value that vLLM sets for a trace.

    Source: `inductor_config_patches` in vllm/compilation/decorators.py. vLLM does not change the setting with
    ahead-of-time artifacts. torch has the setting from 2.10 on.
    """
    import torch._inductor.config as inductor
    from vllm import envs

    shapes = getattr(vllm_config.compilation_config, "dynamic_shapes_config", None)
    setting = getattr(shapes, "assume_32_bit_indexing", None)
    loads = getattr(envs, "VLLM_USE_AOT_COMPILE", False)
    if loads or setting is None or not hasattr(inductor, "assume_32bit_indexing"):
        return nullcontext()
    return cast("AbstractContextManager[Any]", inductor.patch(assume_32bit_indexing=setting))
