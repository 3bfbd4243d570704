"""What functions of a source change after construction: attributes, globals and the contents of containers."""

import ast
import sys
from functools import lru_cache
from pathlib import Path

from vllm_launch_worker.proof.origin import is_standard

CONSTRUCTORS = frozenset(("__init__", "__post_init__", "__new__"))
DISPLAYS = (ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.DictComp, ast.Set, ast.SetComp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SETTERS = frozenset(("setattr", "delattr", "__setattr__", "__delattr__"))
CHANGES = frozenset(
    ("append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "remove", "clear", "sort", "reverse")
) | {"rotate", "update", "setdefault", "popitem", "add", "discard", "move_to_end", "__setitem__", "__delitem__"}
"""Methods that change a list, a dictionary, a set or a queue."""
ANY = "*"
"""Stands for every name: a name that a function computes."""
GIVEN = "()"
"""Stands for what a function is given."""
INSIDE = "[]"
"""Behind the name of a container of which the contents are changed."""


@lru_cache
def stored_in(files: frozenset) -> frozenset:
    """Names of what functions of these files change; Python's own and torch's are left out."""
    trees = [tree_of(file) for file in sorted(files) if not file.startswith("<") and is_looked_into(file)]
    changing = {function.name for tree in trees for function in functions_of(tree) if changes_arguments(function)}
    return frozenset(name for tree in trees for name in stored_names(tree, changing))


def is_looked_into(file: str) -> bool:
    """Whether a file is neither torch's nor Python's own."""
    return "torch" not in module_roots(file) and not is_standard(Path(file))


@lru_cache
def tree_of(file: str):
    """The syntax tree of a file."""
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def functions_of(tree) -> list:
    """The functions in a syntax tree, those without a name among them."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def module_roots(file: str) -> set:
    """Top-level names of the imported modules that come from this file."""
    return {
        name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", "") == file
    }


def stored_names(tree, changing: set) -> set:
    """Names of attributes, globals and constant keys that functions outside constructors store, delete or change.

    Args:
        tree: of a file.
        changing: names of functions, in whatever file, that change what they are given.
    """
    names: set = set()
    for function in functions_of(tree):
        if getattr(function, "name", "") not in CONSTRUCTORS:
            nodes = list(ast.walk(function))
            variables = variables_of(nodes)
            for node in nodes:
                names |= stored_by(node, variables) | given_to(node, changing, variables)
    return names


def changes_arguments(function) -> bool:
    """Whether a function with a name changes the contents of what it is given."""
    if isinstance(function, ast.Lambda):
        return False
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    nodes = list(ast.walk(function))
    variables = variables_of(nodes, {argument.arg: {GIVEN} for argument in arguments})
    return any(GIVEN in stored_by(node, variables) for node in nodes)


def given_to(node, changing: set, variables: dict) -> set:
    """What is given to one of the functions that change their arguments."""
    if not isinstance(node, ast.Call) or called(node) not in changing:
        return set()
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    return set().union(*(contents_of(value, variables) for value in values))


def variables_of(nodes: list, given=None) -> dict:
    """Plain variable of a function -> the attributes of which it may be the value or a part.

    Args:
        nodes: of its syntax tree.
        given: the same of its arguments.
    """
    bound = [(names_in(target), value) for node in nodes for target, value in bound_by(node)]
    variables: dict = dict(given or {})
    for names, value in bound * NAMES_IN_A_ROW:
        contents = contents_of(value, variables)
        for name in names if contents else ():
            variables[name] = variables.get(name, set()) | contents
    return variables


def names_in(target) -> list:
    """The plain variables that a target binds."""
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


NAMES_IN_A_ROW = 2
"""Variables through which a value is followed, whatever their order in the source."""


def bound_by(node) -> list:
    """Pairs of a target and the value that a syntax node binds to it, or an element of it."""
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return [(node.target, node.iter)]
    return []


def stored_by(node, variables: dict) -> set:
    """What one syntax node changes.

    Args:
        node: of a function.
        variables: see `variables_of`.
    """
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return set(node.names)
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return {node.attr}
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else ""
        return {*contents_of(node.value, variables), *([key] if isinstance(key, str) and key else [])}
    if isinstance(node, ast.AugAssign) and isinstance(node.value, DISPLAYS):
        return contents_of(node.target, variables)
    return changed_by_call(node, variables) if isinstance(node, ast.Call) else set()


def called(call) -> str:
    """Name of the function or method that a call is of; empty if it has none."""
    return getattr(call.func, "id", None) or getattr(call.func, "attr", "")


def changed_by_call(call, variables: dict) -> set:
    """What a call of `setattr`, or of a method of a container, changes."""
    name = called(call)
    if name in SETTERS:
        at = len(call.args) - (1 if name.strip("_").startswith("del") else 2)
        given = call.args[at] if 0 <= at < len(call.args) else None
        return {given.value} if isinstance(given, ast.Constant) else {ANY}
    if name in CHANGES and isinstance(call.func, ast.Attribute):
        return {ANY} if is_dictionary(call.func.value) else contents_of(call.func.value, variables)
    return set()


def is_dictionary(node) -> bool:
    """Whether an expression is the dictionary of an object, which holds all its attributes."""
    if isinstance(node, ast.Attribute):
        return node.attr == "__dict__"
    return isinstance(node, ast.Call) and called(node) == "vars"


def contents_of(node, variables: dict) -> set:
    """The attributes of which an expression may be the value or a part.

    Args:
        node: the expression.
        variables: the same of plain variables; see `variables_of`.
    """
    if isinstance(node, ast.Attribute):
        return {node.attr + INSIDE}
    if isinstance(node, ast.Name):
        return variables.get(node.id, set())
    return set().union(*(contents_of(part, variables) for part in parts_of(node)))


def parts_of(node) -> list:
    """The expressions of which another may be the value or a part; a call makes a new value unless it is known."""
    if isinstance(node, (ast.Subscript, ast.Starred, ast.NamedExpr)):
        return [node.value]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, (ast.Tuple, ast.List)):
        return node.elts
    return parts_of_call(node) if isinstance(node, ast.Call) else []


def parts_of_call(call) -> list:
    """As `parts_of`, of a call."""
    name = called(call)
    if name == "getattr" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
        return [ast.Attribute(call.args[0], str(call.args[1].value), ast.Load())]
    if name in ELEMENTS and isinstance(call.func, ast.Name):
        return call.args
    return [call.func.value] if name in VIEWS and isinstance(call.func, ast.Attribute) else []


ELEMENTS = frozenset(("enumerate", "zip", "reversed", "iter", "next", "filter"))
"""Functions whose result gives the elements of what they are given, and is no list of its own."""
VIEWS = frozenset(("values", "items", "get", "setdefault", "pop", "popleft", "popitem"))
"""Methods whose result is a part of their container."""
