"""The names of the folders that a launch looks for its ahead-of-time artifacts in.

vllm/compilation/decorators.py, `__call__`, from 0.16.0 (0.14 and 0.15 have it off): sha256 over the text of a list, which is
the factors of `caching.aot_compile_hash_factors` and a key of the compiled function.
"""

import hashlib

from vllm_factors_worker.configs import by_name

NAMES = ("variables", "config", "inductor_system", "torch_sources", "inductor_config", "functorch_config")
"""What `aot_compile_hash_factors` lists, in its order (vllm/compilation/caching.py and compiler_interface.py)."""


def keys(vllm_config, built) -> dict:
    """The folder of each module that is compiled.

    Returns:
        `aot`: a list of `module` (its name in the model), `function`, `key` (64 hexadecimal digits); `parts`: the
        factors the keys were made of; `unknown`: why there is no key, empty if there is.
    """
    from vllm import envs

    if not getattr(envs, "VLLM_USE_AOT_COMPILE", False):
        return {"aot": [], "parts": {}, "unknown": "This launch uses no ahead-of-time artifacts."}
    if built.failure or not built.modules:
        return {"aot": [], "parts": {}, "unknown": built.failure or "Nothing in this launch is compiled."}
    from vllm.compilation.caching import aot_compile_hash_factors

    parts = aot_compile_hash_factors(vllm_config)
    found = [folder(name, module, parts) for name, module in built.modules.items()]
    return {"aot": found, "parts": named(parts), "unknown": ""}


def named(parts: list) -> dict:
    """The factors by name; those of Inductor are in the key with mega artifacts alone, which newer releases make."""
    return {name: by_name({name: part})[name] for name, part in zip(NAMES, parts)}


def folder(name: str, module, parts: list) -> dict:
    """The folder of one module."""
    from vllm.compilation import decorators

    whole = [*parts, decorators._model_hash_key(module.forward)]
    digest = hashlib.sha256(str(whole).encode()).hexdigest()
    return {"module": name, "function": module.forward.__qualname__, "key": digest}


def compiles(vllm_config) -> dict:
    """How this launch compiles: `mode` (vLLM's number), `backend`, and whether artifacts are stored at all."""
    from vllm import envs

    config = vllm_config.compilation_config
    mode = getattr(config, "mode", None)
    return {
        "mode": None if mode is None else int(mode),
        "backend": config.backend,
        "aot": bool(getattr(envs, "VLLM_USE_AOT_COMPILE", False)),
        "mega": bool(getattr(envs, "VLLM_USE_MEGA_AOT_ARTIFACT", False)),
        "disabled": bool(envs.VLLM_DISABLE_COMPILE_CACHE),
    }
