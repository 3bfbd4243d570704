"""Whether code reaches the contents of a container only by the attribute that holds it.

Then `stores.py` sees each place that changes the contents. Code that gives the container another name, or gives it to a
function, may change the contents there.
"""

import ast

from vllm_launch_worker.proof.stores import CHANGES, DISPLAYS, READS, called, is_mentioned, mentioned, tree_of

COPIES = frozenset(("all", "any", "bool", "dict", "frozenset", "len", "list", "set", "sorted", "str", "tuple"))
"""Functions that do not change their argument, and whose result is another object."""


def never_leaves(name: str, files: frozenset[str], others: frozenset[str]) -> bool:
    """Whether an attribute holds only containers that have no other name.

    All code that mentions the attribute must store a new container there, or read the container in a way that gives it
    no other name.

    Args:
        name: the attribute.
        files: the files whose functions `stores.py` reads for what they change.
        others: all other files of the process. None of them may mention the attribute.
    """
    if not all(stays_in(name, tree_of(file)) for file in files if is_mentioned(name, file)):
        return False
    return not any(is_mentioned(name, file) for file in others - files)


def stays_in(name: str, tree: ast.Module) -> bool:
    """Whether a file gives no other name to a container in this attribute."""
    nodes = list(ast.walk(tree))
    around = {id(child): node for node in nodes for child in ast.iter_child_nodes(node)}
    bound: set[str] = set()
    for node in nodes:
        bound.update(bound_by_node(node))
    copies = frozenset() if EVERYTHING in bound else COPIES - bound
    for node in nodes:
        if mentioned(node) == name and not (isinstance(node, ast.Attribute) and stays(node, around, copies)):
            return False
        if isinstance(node, ast.MatchClass) and name in node.kwd_attrs:
            return False
    return True


EVERYTHING = "*"
"""What `from MODULE import *` binds."""


def bound_by_node(node: ast.AST) -> list[str]:
    """The names that a syntax node gives another meaning than that of Python."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.alias):
        return [node.asname or node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        return [node.name]
    return [node.id] if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else []


def stays(attribute: ast.Attribute, around: dict[int, ast.AST], copies: frozenset[str]) -> bool:
    """Whether code gives no other name to the container in an attribute.

    Args:
        attribute: the syntax node that reads or stores the attribute.
        around: identity (`id`) of each syntax node of the file -> the node around it.
        copies: those of `COPIES` that the file does not give another meaning.
    """
    user = around[id(attribute)]
    if isinstance(attribute.ctx, ast.Store):
        return stores_new(user)
    if isinstance(user, ast.Call):
        return called(user) in copies and isinstance(user.func, ast.Name)
    if isinstance(user, ast.Attribute):
        return user.attr in READS | CHANGES and is_called(user, around)
    return takes_elements(user, attribute) or is_tested(attribute, around)


def takes_elements(user: ast.AST, container: ast.AST) -> bool:
    """Whether a syntax node takes nothing but elements of a container that is in it."""
    if isinstance(user, (ast.For, ast.comprehension)):
        return user.iter is container
    if isinstance(user, ast.Subscript):
        return user.value is container
    if isinstance(user, ast.keyword):
        return user.arg is None  # f(**x) makes another dictionary
    return isinstance(user, ast.Starred)


def stores_new(assignment: ast.AST) -> bool:
    """Whether an assignment stores a container that it writes out, in one place. An annotation alone stores nothing."""
    if isinstance(assignment, ast.AnnAssign):
        return assignment.value is None or isinstance(assignment.value, DISPLAYS)
    return (
        isinstance(assignment, ast.Assign) and len(assignment.targets) == 1 and isinstance(assignment.value, DISPLAYS)
    )


def is_called(method: ast.Attribute, around: dict[int, ast.AST]) -> bool:
    """Whether code calls a method at once."""
    call = around[id(method)]
    return isinstance(call, ast.Call) and call.func is method


def is_tested(node: ast.AST, around: dict[int, ast.AST]) -> bool:
    """Whether code only asks whether an expression is true, or compares it."""
    user = around[id(node)]
    if isinstance(user, ast.BoolOp):
        return is_tested(user, around)
    if isinstance(user, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        return user.test is node
    return isinstance(user, ast.Compare) or (isinstance(user, ast.UnaryOp) and isinstance(user.op, ast.Not))
