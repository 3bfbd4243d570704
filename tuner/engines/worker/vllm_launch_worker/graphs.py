"""What names the folder of the piecewise backend's graphs: `torch_compile_cache/<10 hex>`.

As `VllmBackend.__call__` of vllm/compilation/backends.py makes it, 0.16.0 to 0.32.0: the hashes of the variables, of
the config, of the traced files and of the compiler. The traced files are known after a trace alone, so no name is told.
"""

import traceback
from contextlib import nullcontext

from vllm_launch_worker import sources


def parts(vllm_config, built) -> dict:
    """What is not told elsewhere of the folder.

    Returns:
        `compiler_hash`; `modules`: the module, its function, and that one's source `file` and `line`, of each that is
        compiled; `cache_dir`: the folder that the launch names itself, which vLLM then uses without a hash; `disabled`:
        no graph is read or written; `unknown`: why the parts are not those that the engine would hash, empty if they
        are.
    """
    config = vllm_config.compilation_config
    found = {
        "compiler_hash": "",
        "modules": [described(name, module) for name, module in built.modules.items()],
        "cache_dir": config.cache_dir or "",
        "disabled": False,
        "unknown": built.failure or ("" if built.modules else "Nothing in this launch is compiled."),
    }
    try:
        found |= {"compiler_hash": compiler_hash(vllm_config), "disabled": disabled(config)}
    except Exception as error:
        traceback.print_exc()
        told = f"vLLM's compiler does not tell its hash: {type(error).__name__}: {error}"[:400]
        found["unknown"] = found["unknown"] or told
    return found


def disabled(config) -> bool:
    """Whether vLLM reads no graphs, by a variable of its own or one of Inductor's settings."""
    from vllm.compilation.compiler_interface import is_compile_cache_enabled

    return not is_compile_cache_enabled(config.inductor_compile_config)


def described(name: str, module) -> dict:
    """A compiled module: its name in the model, and where its function stands."""
    function = module.forward
    return {
        "module": name,
        "function": function.__qualname__,
        "file": sources.name_of(function.__code__.co_filename),
        "line": function.__code__.co_firstlineno,
    }


def compiler_hash(vllm_config) -> str:
    """The hash of vLLM's compiler: the machine and torch, and in newer releases Inductor's settings."""
    from vllm.compilation.backends import make_compiler

    with indexing(vllm_config):
        return make_compiler(vllm_config.compilation_config).compute_hash(vllm_config)


def indexing(vllm_config):
    """The one setting of Inductor's that vLLM changes around a trace, and not where it loads a whole function.

    `inductor_config_patches` of vllm/compilation/decorators.py; torch knows the setting from 2.10.
    """
    import torch._inductor.config as inductor
    from vllm import envs

    shapes = getattr(vllm_config.compilation_config, "dynamic_shapes_config", None)
    wanted = getattr(shapes, "assume_32_bit_indexing", None)
    loads = getattr(envs, "VLLM_USE_AOT_COMPILE", False)
    if loads or wanted is None or not hasattr(inductor, "assume_32bit_indexing"):
        return nullcontext()
    return inductor.patch(assume_32bit_indexing=wanted)
