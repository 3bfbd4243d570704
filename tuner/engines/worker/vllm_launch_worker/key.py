"""The names of the folders in which a launch looks for its ahead-of-time artifacts.

Each name is the sha256 of a list, written as text. The list holds the factors of `caching.aot_compile_hash_factors` and
a key of the compiled function. Source: `__call__` in vllm/compilation/decorators.py, 0.16.0 to 0.33.0.
"""

import hashlib
from typing import Any

from shared_worker.vllm_types import Module, VllmConfig
from vllm_launch_worker import graphs
from vllm_launch_worker.configs import by_name
from vllm_launch_worker.construction import BuiltModel

NAMES = ("variables", "config", "inductor_system", "torch_sources", "inductor_config", "functorch_config")
"""The names of the factors in `aot_compile_hash_factors`, in its order (vllm/compilation/caching.py and
compiler_interface.py)."""


def keys(vllm_config: VllmConfig, built_model: BuiltModel) -> dict[str, Any]:
    """The names of the artifact folders, one for each compiled module.

    Returns:
        `aot`: one entry for each module (see `folder`). `parts`: name -> factor of the keys. `unknown`: why the keys
        are not known, empty if they are. `graphs`: the parts of the name of the graph folder (see `graphs.parts`).
    """
    from vllm import envs

    answer: dict[str, Any] = {"aot": [], "parts": {}, "unknown": "", "graphs": graphs.parts(vllm_config, built_model)}
    if not getattr(envs, "VLLM_USE_AOT_COMPILE", False):
        return answer | {"unknown": "This launch uses no ahead-of-time artifacts."}
    if built_model.failure or not built_model.modules:
        return answer | {"unknown": built_model.failure or "Nothing in this launch is compiled."}
    from vllm.compilation.caching import aot_compile_hash_factors

    parts = aot_compile_hash_factors(vllm_config)
    aot = [folder(name, module, parts) for name, module in built_model.modules.items()]
    return answer | {"aot": aot, "parts": factors_by_name(parts)}


def factors_by_name(parts: list[Any]) -> dict[str, Any]:
    """Name -> factor. Factors of Inductor are present only with mega artifacts, which newer releases make."""
    return by_name(dict(zip(NAMES, parts, strict=False)))


def folder(name: str, module: Module, parts: list[Any]) -> dict[str, Any]:
    """The folder of one module.

    Returns:
        The fields of `graphs.description`, and `key`: the name of the folder, 64 hexadecimal digits.
    """
    from vllm.compilation import decorators

    values = [*parts, decorators._model_hash_key(module.forward)]
    return {**graphs.description(name, module), "key": hashlib.sha256(str(values).encode()).hexdigest()}


def compiles(vllm_config: VllmConfig) -> dict[str, Any]:
    """How this launch compiles.

    Returns:
        `mode`: vLLM's number of the compile mode. `backend`: the name of the backend. `aot`: whether vLLM makes
        ahead-of-time artifacts. `mega`: whether these hold the compiled code, too. `disabled`: whether vLLM does not
        read and write caches. `loads_own_alone`: whether vLLM can load only artifacts of its own backend. This is so if
        it calls `finalize_loading` (vllm/compilation/caching.py), which torch's functions do not have.
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
