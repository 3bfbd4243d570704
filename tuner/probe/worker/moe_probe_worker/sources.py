"""Hashes the source files that decide the order of MoE layers."""

import sys
from operator import attrgetter
from pathlib import Path

from shared_worker.installed import below_path, digest
from shared_worker.vllm_types import Layers, Module


def source_hashes(model: Module, registered: Layers) -> dict[str, str]:
    """The sha256 of each source file behind the model.

    These are the files of the classes of the model, its submodules and its MoE layers, of their base classes, and of
    vLLM's forward context. torch is left out because the verdict key has its version. The standard library is left
    out because it cannot name a MoE layer.

    Args:
        model: the model.
        registered: its MoE layers by name.

    Returns:
        Path relative to the entry of `sys.path` -> sha256 in hexadecimal digits. Sorted by the whole path.
    """
    objects: list[object] = [*model.modules()]
    for layer in registered.values():
        objects += [layer, getattr(layer, "runner", layer)]
    names = {"vllm.forward_context"}
    for kind in set(map(type, objects)):
        names.update(map(attrgetter("__module__"), kind.__mro__))
    files = {file for file in map(defining_file, names) if file is not None}
    return {below_path(file): digest(file) for file in sorted(files)}


def is_covered(package: str) -> bool:
    """Whether a package is torch or part of Python's standard library. These are not hashed."""
    return package == "torch" or package in sys.stdlib_module_names


def defining_file(module: str) -> Path | None:
    """The source file of a loaded module. None if it has none, or belongs to torch or Python."""
    if is_covered(module.partition(".")[0]):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None
