"""Finds functions and classes of vLLM that foreign code replaced.

A plugin may add models without changing vLLM. A plugin that replaces a function of vLLM can change things that a trace
does not show, such as how a pass is made or how a MoE call finds its layer.
"""

import functools
import sys
import types
from contextlib import suppress
from typing import Any

from vllm_launch_worker.proof.failure import COMPILED, Failure, failure
from vllm_launch_worker.proof.origin import Origins, is_of_worker

MOST = 5
"""The largest number of functions in the report."""
DEPTH = 4
"""The number of nested wrappers that are followed."""


def patches(origins: Origins) -> list[Failure]:
    """A failure for each function, class and class member in vLLM's modules that is foreign code. At most `MOST`."""
    failures: list[Failure] = []
    visited: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vllm" and module is not None:
            failures += patches_in(name, module, visited, origins)
    return failures[:MOST]


def patches_in(name: str, module: types.ModuleType, visited: set[int], origins: Origins) -> list[Failure]:
    """As `patches`, for one module, without a limit."""
    failures = []
    for attribute, value in list(vars(module).items()):
        for label, member in members_of(attribute, value, visited):
            foreign_files = [file for file in sorted(files_behind(member, DEPTH)) if is_foreign(file, origins)]
            failures += [failure(COMPILED, "patched", function=f"{name}.{label}", file=file) for file in foreign_files]
    return failures


def is_foreign(file: str, origins: Origins) -> bool:
    """Whether a file is foreign code. The files of this worker are not: it replaces a few functions itself."""
    return not is_of_worker(file) and not origins.is_trusted(file)


def members_of(attribute: str, value: Any, visited: set[int]) -> list[tuple[str, Any]]:
    """An attribute of a module, and the members of the class if it is a class. Each value appears only once.

    Args:
        attribute: the name of the attribute.
        value: its value.
        visited: the identities of the values so far. This function adds the new ones.

    Returns:
        Pairs of a name, such as `Class.method`, and a value.
    """
    members = [(attribute, value)]
    if issubclass(type(value), type) and id(value) not in visited:
        members += [(f"{attribute}.{name}", member) for name, member in vars(value).items()]
    fresh = [(label, member) for label, member in members if id(member) not in visited]
    visited.update(id(member) for _, member in fresh)
    return fresh


def files_behind(value: Any, depth: int) -> set[str]:
    """The files of the code that runs when a value is called.

    These are the files of a function, of the functions that it wraps, or of the class of an object. No other attributes
    are read, because some objects import modules when an attribute is read.

    Args:
        value: any value.
        depth: the number of nested wrappers to follow.
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
    """The file of a function's code, and the files of the functions and classes in its closure.

    If the code was made at run time and has no file, the file of the function's module counts.
    """
    file = function.__code__.co_filename
    if file.startswith("<"):
        file = function.__globals__.get("__file__") or file
    files = {file}
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # the cell is empty
            files |= files_behind(cell.cell_contents, depth - 1)
    return files


def home_of(kind: type[Any]) -> set[str]:
    """The Python file of the module in a class's `__module__`. Empty if there is no such file."""
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
"""Python's own wrapper type -> the attributes that hold the functions that it calls."""
