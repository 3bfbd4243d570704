"""The source files whose text decides the order of MoE layers."""

import sys
from pathlib import Path

from shared_worker.installed import below_path, digest
from shared_worker.vllm_types import Layers, Module


def source_hashes(model: Module, registered: Layers) -> dict[str, str]:
    """sha256 of each source file behind the model, by path below its `sys.path` entry.

    Counted: the modules that define the classes of the model and of every
    submodule, their base classes, and vLLM's forward context. torch is covered
    by its version, and the standard library cannot name an MoE layer.
    """
    objects = [*model.modules(), *registered.values()]
    objects += [layer.runner for layer in registered.values() if hasattr(layer, "runner")]
    names = {cls.__module__ for item in objects for cls in type(item).__mro__} | {"vllm.forward_context"}
    files = {defining_file(name) for name in names if not is_covered(name.partition(".")[0])}
    return {below_path(file): digest(file) for file in sorted(file for file in files if file is not None)}


def is_covered(package: str) -> bool:
    """Whether a package is torch or part of Python: a version says what is in it."""
    return package == "torch" or package in sys.stdlib_module_names


def defining_file(module: str) -> Path | None:
    """The module's source file, or None."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None
