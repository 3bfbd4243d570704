"""Finds the values of attributes with which the code around a region may take another path.

This is possible where the code asks little of an attribute: whether a list or one of its elements is there, whether a
number is equal to a constant, or whether an attribute that is always None is None. Then a few values stand for all,
and the code is traced with each of them.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any

from shared_worker.vllm_types import Module
from vllm_launch_worker.proof.failure import Failure
from vllm_launch_worker.proof.list_uses import Use, asks_of_tensors, lists_like
from vllm_launch_worker.proof.origin import is_of_worker
from vllm_launch_worker.proof.stores import (
    Function,
    as_written,
    first_line,
    functions_of,
    is_computed,
    is_looked_into,
    mentioned,
    stored_elsewhere,
    stores_only_none,
    tree_of,
)
from vllm_launch_worker.proof.tracing import Trace

ABSENT = object()
"""Stands for the value of an attribute that an object does not have."""
DIRECT = re.compile(r"self\.(\w+)(?:\[\d+\])?")
PRESENCE = frozenset(("HASATTR", "SEQUENCE_LENGTH", "TYPE_MATCH", "CONSTANT_MATCH", "TYPE_MATCH[]", "TENSOR_MATCH[]"))
"""Kinds of guards on the presence and the length of a list, and on the types and shapes of its elements (`[]`). A guard
on a constant is one on None."""
COMPARED = frozenset(("HASATTR", "TYPE_MATCH", "EQUALS_MATCH", "CONSTANT_MATCH"))
"""Kinds of guards on the value of a number."""
MOST_COMBINATIONS = 24
"""The largest number of combinations of values that are traced. With more, no value is varied."""

Variations = dict[str, list[Any]]
"""Attribute of the outermost module -> values that stand for all its values."""


def variations(
    model: Module, guards: list[Failure], trace: Trace, files: frozenset[str], everywhere: frozenset[str]
) -> Variations:
    """The attributes that these guards depend on, and that may be varied.

    If traced functions call `len`, or do more with a list than `Use.is_plain` allows, the list is not varied: the path
    may depend on the list's length or type, or on its elements, and the guards do not show this. If they compute the
    name of an attribute, only what is always None is varied: by the only value that it has.

    Args:
        model: the outermost module.
        guards: failures for guards on values that may change between passes.
        trace: the trace of the code around the region.
        files: the files with the functions that may read these values.
        everywhere: all files with functions that may store these values.
    """
    kinds_by_name: dict[str, set[str]] = {}
    for guard in guards:
        kind, _, expression = guard["fields"]["guard"].partition(" ")
        is_on_element = expression.endswith("]")
        kinds = kinds_by_name.setdefault(attribute_of(guard), set())
        kinds.add(f"{kind}[]" if is_on_element else kind)
    varied: Variations = {}
    for name, kinds in kinds_by_name.items():
        if name != as_written(name):
            continue  # code reads and stores it by another name
        if name and getattr(model, name, ABSENT) is None and is_always_none(name, files, everywhere):
            varied[name] = [None]
        elif name and not computes_names(trace):
            varied[name] = values_of(model, name, kinds, trace, files)
    return {name: values for name, values in varied.items() if values}


def is_always_none(name: str, files: frozenset[str], everywhere: frozenset[str]) -> bool:
    """Whether all code that stores an attribute of the outermost module stores None (see `variations`)."""
    return stores_only_none(files, name) and not stored_elsewhere(files, everywhere, name)


def values_of(model: Module, name: str, kinds: set[str], trace: Trace, files: frozenset[str]) -> list[Any]:
    """The values that stand for all values of an attribute. Empty if there are none.

    Args:
        model: the outermost module.
        name: the attribute.
        kinds: the kinds of the guards on it. Those on an element of it end with `[]`.
        trace: the trace of the code around the region.
        files: the files with the functions that may read it.
    """
    if "SEQUENCE_LENGTH" in kinds and kinds <= PRESENCE and "len" not in trace.names:
        uses = uses_of(name, trace)
        rows_decide = any(use.takes_rows for use in uses) and asks_for_rows(model, name, trace)
        return [] if rows_decide else lists_like(getattr(model, name), uses)
    return numbers_like(constants_compared_with(name, files)) if kinds <= COMPARED else []


def computes_names(trace: Trace) -> bool:
    """Whether a traced function computes the name of an attribute that it reads."""
    return any(is_computed(node) for _, function in traced_functions(trace) for node in ast.walk(function))


def traced_functions(trace: Trace) -> Iterator[tuple[str, Function]]:
    """The functions of a trace, each with its file, without those of Python and torch."""
    traced = {(code.co_filename, code.co_firstlineno) for code in trace.codes if is_looked_into(code.co_filename)}
    for file in {file for file, _ in traced}:
        for function in functions_of(tree_of(file)):
            if (file, first_line(function)) in traced:
                yield file, function


def asks_for_rows(model: Module, name: str, trace: Trace) -> bool:
    """Whether a traced function may ask for the number of rows, or the type, of what it makes of rows of a list.

    It may ask for those of an argument of the outermost `forward`, and of an element of the list (see `Use.is_plain`).

    Args:
        model: the outermost module.
        name: the attribute with the list.
        trace: the trace of the code around the region.
    """
    code = model.forward.__code__
    arguments = frozenset(code.co_varnames[: code.co_argcount])
    functions = [function for file, function in traced_functions(trace) if not is_of_worker(file)]
    return any(asks_of_tensors(function, name, arguments) for function in functions)


def uses_of(name: str, trace: Trace) -> list[Use]:
    """The places in traced functions that read an attribute."""
    repeated = {(code.co_filename, code.co_firstlineno) for code in trace.repeated}
    uses: list[Use] = []
    for file, function in traced_functions(trace):
        around = {id(child): node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
        is_repeated = (file, first_line(function)) in repeated
        uses += [Use(node, around, is_repeated) for node in ast.walk(function) if reads(node, name)]
    return uses


def attribute_of(guard: Failure) -> str:
    """The attribute of the outermost module that a guard depends on, directly or by an element. Empty if none."""
    match = DIRECT.fullmatch(guard["fields"]["guard"].partition(" ")[2])
    return match[1] if match else ""


def numbers_like(constants: set[int]) -> list[Any]:
    """Values of an attribute that code only compares with these constants: each of them, another one, and no value."""
    return [ABSENT, *sorted(constants), max(constants) + 1] if constants else []


def constants_compared_with(name: str, files: frozenset[str]) -> set[int]:
    """The constants with which the code compares an attribute, by `==` and `!=`.

    The default of `getattr` is one of them. The result is empty if the code does anything else with the attribute.
    """
    constants: set[int] = set()
    for file in sorted(files):
        tree = tree_of(file)
        compared = {id(operand): operands for operands in comparisons(tree) for operand in operands}
        for node in [node for node in ast.walk(tree) if reads(node, name)]:
            numbers = numbers_beside(node, compared.get(id(node), []))
            if not numbers:
                return set()
            constants |= numbers
    return constants


def numbers_beside(node: ast.AST, operands: list[ast.expr]) -> set[int]:
    """The integer constants with which a comparison compares an attribute.

    Args:
        node: the syntax node that reads the attribute.
        operands: the operands of the comparison. Empty if the attribute is not compared.

    Returns:
        Empty if there is any other operand.
    """
    others = [operand for operand in operands if operand is not node]
    if not others or not all(map(is_number, others + default_of(node))):
        return set()
    return {ast.literal_eval(operand) for operand in others + default_of(node)}


def comparisons(tree: ast.Module) -> Iterator[list[ast.expr]]:
    """The operands of each comparison of a file that uses `==` and `!=` alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and all(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops):
            yield [node.left, *node.comparators]


def reads(node: ast.AST, name: str) -> bool:
    """Whether a syntax node reads the attribute."""
    if isinstance(node, ast.AugAssign):
        return mentioned(node.target) == name
    if isinstance(node, ast.Attribute):
        return node.attr == name and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Call):
        return mentioned(node.func) == "getattr" and len(node.args) > 1 and mentioned(node.args[1]) == name
    return False


def default_of(node: ast.AST) -> list[ast.expr]:
    """The default of a call of `getattr`, as a list. Empty if there is none."""
    return node.args[2:] if isinstance(node, ast.Call) else []


def is_number(node: ast.expr) -> bool:
    """Whether an expression is an integer constant."""
    return isinstance(node, ast.Constant) and type(node.value) is int


def combinations(varied: Variations) -> list[dict[str, Any]]:
    """Every combination of values of these attributes. Empty if there are none, or too many."""
    if not varied:
        return []
    combined = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    return combined if len(combined) <= MOST_COMBINATIONS else []


def sizes_of(varied: Variations) -> dict[str, int]:
    """The number of values of each attribute. More questions lead to more values."""
    return {name: len(values) for name, values in varied.items()}


@contextmanager
def holding(model: Module, values: dict[str, Any]) -> Iterator[None]:
    """While the block runs, attributes of the model have these values. Afterwards they have their old values again."""
    before = {name: getattr(model, name, ABSENT) for name in values}
    with ExitStack() as ends:
        ends.callback(store, model, before)
        store(model, values)
        yield


def store(model: Module, values: dict[str, Any]) -> None:
    """Store these attributes, and delete those whose value is `ABSENT`."""
    for name, value in values.items():
        if value is not ABSENT:
            setattr(model, name, value)
        elif hasattr(model, name):
            delattr(model, name)
