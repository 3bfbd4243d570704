"""Whether somebody else's code stands in the place of vLLM's own functions.

A plugin may bring models and leave vLLM as it is. One that replaces a function or a method of vLLM's can change what no
trace shows, such as how a pass is made or how a MoE call finds its layer.
"""

import functools
import sys
import types
from contextlib import suppress
from pathlib import Path

from vllm_launch_worker.proof.failure import COMPILED, failure

OWN = str(Path(__file__).parents[1])
"""This package puts a few functions of its own in place while it looks."""
MOST = 5
"""Functions that are told."""
DEPTH = 4
"""Wrappers that are followed, one in the other."""


def patched(origins) -> list:
    """A failure for each function and class in vLLM's modules, and each member of a class, that is somebody else's."""
    failures: list = []
    seen: set = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vllm" and module is not None:
            failures += patched_in(name, module, seen, origins)
    return failures[:MOST]


def patched_in(name: str, module, seen: set, origins) -> list:
    """As `patched`, of one module."""
    failures = []
    for attribute, value in list(vars(module).items()):
        for label, member in members_of(attribute, value, seen):
            strange = [file for file in sorted(files_behind(member, DEPTH)) if is_strange(file, origins)]
            failures += [failure(COMPILED, "patched", function=f"{name}.{label}", file=file) for file in strange]
    return failures


def is_strange(file: str, origins) -> bool:
    """Whether a file is somebody else's, and none of this package."""
    return not file.startswith(OWN) and not origins.is_trusted(file)


def members_of(attribute: str, value, seen: set) -> list:
    """A module's attribute, and what a class itself holds, each once however many modules import it.

    Args:
        attribute: its name.
        value: what it is.
        seen: identities of the values so far; extended.
    """
    members = [(attribute, value)]
    if issubclass(type(value), type) and id(value) not in seen:
        members += [(f"{attribute}.{name}", member) for name, member in vars(value).items()]
    fresh = [(label, member) for label, member in members if id(member) not in seen]
    seen.update(id(member) for _, member in fresh)
    return fresh


def files_behind(value, depth: int) -> set:
    """The files of the code that runs when this is called: of a function, what it wraps, or the class of an object.

    Nothing else of a value is touched: some load when they are asked.
    """
    kind = type(value)
    if depth == 0:
        return set()
    if issubclass(kind, type):
        return home_of(value)
    if kind is types.FunctionType:
        return files_of_function(value, depth)
    inner = [getattr(value, name) for name in WRAPPED.get(kind, ())]
    return home_of(kind).union(*(files_behind(item, depth - 1) for item in inner))


def files_of_function(function, depth: int) -> set:
    """The file of a function's code, or of the module where it was made at run time, and what it encloses."""
    file = function.__code__.co_filename
    files = {function.__globals__.get("__file__") or file if file.startswith("<") else file}
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            files |= files_behind(cell.cell_contents, depth - 1)
    return files


def home_of(kind: type) -> set:
    """The Python file of the module in which a class was written, as the class has it."""
    module = sys.modules.get(vars(kind).get("__module__", ""))
    file = vars(module).get("__file__") if module is not None else None
    return {file} if isinstance(file, str) and file.endswith(".py") else set()


WRAPPED = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    property: ("fget", "fset", "fdel"),
    functools.partial: ("func",),
    functools.cached_property: ("func",),
    type(functools.lru_cache(len)): ("__wrapped__",),
}
"""Python's own wrappers, and the attributes with what they call."""
