"""The source files whose text decides the order of MoE layers."""

import sys
from operator import attrgetter
from pathlib import Path

from shared_worker.installed import below_path, digest
from shared_worker.vllm_types import Layers, Module


def source_hashes(model: Module, registered: Layers) -> dict[str, str]:
    """sha256 of each source file behind the model, by path below its `sys.path` entry.

    Counted: the modules that define the classes of the model and of every
    submodule, their base classes, and vLLM's forward context. torch is covered
    by its version, and the standard library cannot name an MoE layer.
    """
    objects: list[object] = [*model.modules()]
    for layer in registered.values():
        objects += [layer, getattr(layer, "runner", layer)]
    names = {"vllm.forward_context"}
    for kind in set(map(type, objects)):
        names.update(map(attrgetter("__module__"), kind.__mro__))
    files = {}
    for file in filter(None, map(defining_file, names)):
        files[file] = below_path(file)
    return {files[file]: digest(file) for file in sorted(files)}


def is_covered(package: str) -> bool:
    """Whether a package is torch or part of Python: a version says what is in it."""
    return package == "torch" or package in sys.stdlib_module_names


def defining_file(module: str) -> Path | None:
    """The module's source file; None without one, and for a module of torch or of Python."""
    if is_covered(module.partition(".")[0]):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None
