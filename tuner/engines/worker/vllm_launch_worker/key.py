"""The names of the folders that a launch looks for its ahead-of-time artifacts in.

As `__call__` of vllm/compilation/decorators.py makes them, 0.16.0 to 0.33.0: sha256 over the text of a list that holds
the factors of `caching.aot_compile_hash_factors` and a key of the compiled function.
"""

import hashlib

from vllm_launch_worker import graphs
from vllm_launch_worker.configs import by_name

NAMES = ("variables", "config", "inductor_system", "torch_sources", "inductor_config", "functorch_config")
"""What `aot_compile_hash_factors` lists, in its order (vllm/compilation/caching.py and compiler_interface.py)."""


def keys(vllm_config, built) -> dict:
    """The folder of each module that is compiled.

    Returns:
        `aot`: a list of `module` (its name in the model), `function`, its source `file` and `line`, and `key` (64
        hexadecimal digits); `parts`: the factors the keys were made of; `unknown`: why there is no key, empty if
        there is; `graphs`: what names the folder of the graphs.
    """
    from vllm import envs

    found = {"aot": [], "parts": {}, "unknown": "", "graphs": graphs.parts(vllm_config, built)}
    if not getattr(envs, "VLLM_USE_AOT_COMPILE", False):
        return found | {"unknown": "This launch uses no ahead-of-time artifacts."}
    if built.failure or not built.modules:
        return found | {"unknown": built.failure or "Nothing in this launch is compiled."}
    from vllm.compilation.caching import aot_compile_hash_factors

    parts = aot_compile_hash_factors(vllm_config)
    aot = [folder(name, module, parts) for name, module in built.modules.items()]
    return found | {"aot": aot, "parts": named(parts)}


def named(parts: list) -> dict:
    """The factors by name; those of Inductor are in the key with mega artifacts alone, which newer releases make."""
    return {name: by_name({name: part})[name] for name, part in zip(NAMES, parts, strict=False)}


def folder(name: str, module, parts: list) -> dict:
    """The folder of one module."""
    from vllm.compilation import decorators

    whole = [*parts, decorators._model_hash_key(module.forward)]
    return {**graphs.described(name, module), "key": hashlib.sha256(str(whole).encode()).hexdigest()}


def compiles(vllm_config) -> dict:
    """How this launch compiles.

    Returns:
        `mode` (vLLM's number) and `backend`; `aot`: artifacts are made ahead of time; `mega`: they hold the compiled
        code, too; `disabled`: no cache is read or written; `loads_own_alone`: what was stored without vLLM's own
        backend cannot be loaded (`finalize_loading` of vllm/compilation/caching.py, which torch's functions lack).
    """
    from vllm import envs
    from vllm.compilation.caching import VllmSerializableFunction

    config = vllm_config.compilation_config
    mode = getattr(config, "mode", None)
    return {
        "mode": None if mode is None else int(mode),
        "backend": config.backend,
        "aot": bool(getattr(envs, "VLLM_USE_AOT_COMPILE", False)),
        "mega": bool(getattr(envs, "VLLM_USE_MEGA_AOT_ARTIFACT", False)),
        "disabled": bool(envs.VLLM_DISABLE_COMPILE_CACHE),
        "loads_own_alone": hasattr(VllmSerializableFunction, "finalize_loading"),
    }
