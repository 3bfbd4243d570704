"""What functions of a source change after construction: attributes, globals and the contents of containers."""

import ast
import sys
from functools import lru_cache
from pathlib import Path

from vllm_launch_worker.proof.origin import is_standard

CONSTRUCTORS = frozenset(("__init__", "__post_init__", "__new__"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SETTERS = frozenset(("setattr", "delattr", "__setattr__", "__delattr__"))
CHANGES = frozenset(
    ("append", "appendleft", "extend", "insert", "pop", "popleft", "remove", "clear", "sort", "reverse", "update")
) | {"setdefault", "popitem", "add", "discard"}
"""Methods that change a list, a dictionary, a set or a queue."""
ANY = "*"
"""Stands for every name: a name that a function computes."""
INSIDE = "[]"
"""Behind the name of a container of which the contents are changed."""


@lru_cache
def stored_in(files: frozenset) -> frozenset:
    """Names of what functions of these files change; Python's own and torch's are left out."""
    names: set = set()
    for file in files:
        if not file.startswith("<") and "torch" not in module_roots(file) and not is_standard(Path(file)):
            names |= stored_by_file(file)
    return frozenset(names)


@lru_cache
def stored_by_file(file: str) -> frozenset:
    """`stored_in` of one file."""
    return frozenset(stored_names(Path(file).read_text(encoding="utf-8")))


def module_roots(file: str) -> set:
    """Top-level names of the imported modules that come from this file."""
    return {
        name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", "") == file
    }


def stored_names(source: str) -> set:
    """Names of attributes, globals and constant keys that functions outside constructors store, delete or change."""
    names: set = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, FUNCTIONS) and getattr(function, "name", "") not in CONSTRUCTORS:
            for node in ast.walk(function):
                names |= stored_by(node)
    return names


def stored_by(node) -> set:
    """What one syntax node changes."""
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return set(node.names)
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return {node.attr}
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else ""
        return {*contents_of(node.value), *([key] if isinstance(key, str) and key else [])}
    return changed_by_call(node) if isinstance(node, ast.Call) else set()


def changed_by_call(call) -> set:
    """What a call of `setattr`, or of a method of a container, changes."""
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", "")
    if name in SETTERS:
        at = len(call.args) - (1 if name.strip("_").startswith("del") else 2)
        given = call.args[at] if 0 <= at < len(call.args) else None
        return {given.value} if isinstance(given, ast.Constant) else {ANY}
    if name in CHANGES and isinstance(call.func, ast.Attribute):
        return contents_of(call.func.value)
    return set()


def contents_of(node) -> set:
    """The attribute of which an expression is the value or a part; a plain variable is of one function alone."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return {node.attr + INSIDE} if isinstance(node, ast.Attribute) else set()
