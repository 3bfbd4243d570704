"""Whether somebody else's code stands in place of vLLM's own functions.

A plugin may bring models and leave vLLM as it is. A plugin that replaces a function or a method of vLLM can change what
no trace shows, such as how a pass is made or how a MoE call finds its layer.
"""

import functools
import sys
import types
from contextlib import suppress
from typing import Any

from vllm_launch_worker.proof.failure import COMPILED, Failure, failure
from vllm_launch_worker.proof.origin import Origins, is_of_worker

MOST = 5
"""Functions that are reported at most."""
DEPTH = 4
"""Nested wrappers that are followed."""


def patched(origins: Origins) -> list[Failure]:
    """A failure for each function and class in vLLM's modules, and each member of a class, that is somebody else's."""
    failures: list[Failure] = []
    visited: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vllm" and module is not None:
            failures += patched_in(name, module, visited, origins)
    return failures[:MOST]


def patched_in(name: str, module: types.ModuleType, visited: set[int], origins: Origins) -> list[Failure]:
    """As `patched`, of one module."""
    failures = []
    for attribute, value in list(vars(module).items()):
        for label, member in members_of(attribute, value, visited):
            strange = [file for file in sorted(files_behind(member, DEPTH)) if is_strange(file, origins)]
            failures += [failure(COMPILED, "patched", function=f"{name}.{label}", file=file) for file in strange]
    return failures


def is_strange(file: str, origins: Origins) -> bool:
    """Whether a file is somebody else's; this worker puts a few functions of its own in place while it looks."""
    return not is_of_worker(file) and not origins.is_trusted(file)


def members_of(attribute: str, value: Any, visited: set[int]) -> list[tuple[str, Any]]:
    """A module's attribute, and what a class itself holds; each once, however many modules import it.

    Args:
        attribute: its name.
        value: its value.
        visited: identities of the values so far; extended.
    """
    members = [(attribute, value)]
    if issubclass(type(value), type) and id(value) not in visited:
        members += [(f"{attribute}.{name}", member) for name, member in vars(value).items()]
    fresh = [(label, member) for label, member in members if id(member) not in visited]
    visited.update(id(member) for _, member in fresh)
    return fresh


def files_behind(value: Any, depth: int) -> set[str]:
    """The files of the code that runs when this is called: of a function, what it wraps, or the class of an object.

    Nothing else of a value is touched: some values load modules when an attribute is read.
    """
    kind: type[Any] = type(value)
    if depth == 0:
        return set()
    if issubclass(kind, type):
        return home_of(value)
    if kind is types.FunctionType:
        return files_of_function(value, depth)
    files = home_of(kind)
    for name in WRAPPED.get(kind, ()):
        files |= files_behind(getattr(value, name), depth - 1)
    return files


def files_of_function(function: types.FunctionType, depth: int) -> set[str]:
    """The file of a function's code, or of the module that made it at run time, and the files of what it encloses."""
    file = function.__code__.co_filename
    if file.startswith("<"):
        file = function.__globals__.get("__file__") or file
    files = {file}
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            files |= files_behind(cell.cell_contents, depth - 1)
    return files


def home_of(kind: type[Any]) -> set[str]:
    """The Python file of the module that a class names as its own; empty if there is none."""
    module = sys.modules.get(vars(kind).get("__module__", ""))
    file = vars(module).get("__file__") if module is not None else None
    return {file} if isinstance(file, str) and file.endswith(".py") else set()


WRAPPED: dict[type[Any], tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    property: ("fget", "fset", "fdel"),
    functools.partial: ("func",),
    functools.cached_property: ("func",),
    type(functools.lru_cache(len)): ("__wrapped__",),
}
"""Python's own wrappers, and the attributes with what they call."""
