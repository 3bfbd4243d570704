"""A function of the model's code as text: its syntax tree, and which instruction belongs to which part of it."""

import ast
import dis
import inspect
import linecache
from functools import cache
from pathlib import Path

JUMPS = ("JUMP", "NOP", "CACHE", "RESUME", "EXTENDED_ARG", "NOT_TAKEN")
"""Starts of the names of instructions that decide nothing by themselves; compilers give them positions of others."""
CHANGING = frozenset(
    (
        *("pop", "popitem", "append", "remove", "clear", "setdefault", "update"),
        *("add", "discard", "extend", "insert", "sort", "reverse"),
    )
)
"""Methods of collections that change them."""
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Function:
    """One function whose code was executed or could be.

    Attributes:
        code: its code object.
        node: its syntax tree.
        space: the globals of its module.
        path, name: for the report.
        parents: syntax node -> the node around it, within this function.
        outer: the function around it, if that is known.
    """

    def __init__(self, code, space: dict, outer=None) -> None:
        self.code, self.space, self.outer = code, space, outer
        self.path, self.name = Path(code.co_filename), getattr(code, "co_qualname", code.co_name)
        self.node = definition(code)
        self.parents = {id(child): parent for parent in inside(self.node) for child in ast.iter_child_nodes(parent)}
        self.parameters = list(code.co_varnames[: argument_count(code)])

    def nodes(self, *kinds) -> list:
        """The nodes of these kinds in this function's own scope, in the order of the text."""
        found = [node for node in inside(self.node) if isinstance(node, kinds)]
        return sorted(found, key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)))

    def nested(self, name: str):
        """The code of the function of this name that is defined inside this one, or None."""
        return next((one for one in self.code.co_consts if inspect.iscode(one) and one.co_name == name), None)

    def above(self, node) -> list:
        """The nodes around one, nearest first."""
        found = []
        while id(node) in self.parents:
            node = self.parents[id(node)]
            found.append(node)
        return found

    def offsets(self, *nodes, jumps: bool = False) -> set:
        """Offsets of the instructions that belong to these nodes, with or without those that only jump."""
        places = [span(node) for node in nodes]
        found = instructions(self.code, jumps)
        return {at for at, place in found if any(within(place, outer) for outer in places)}

    def around(self, node) -> set:
        """Offsets of the instructions whose own part of the text holds this node and more."""
        inner = span(node)
        found = instructions(self.code, True)
        return {at for at, place in found if place[0][1] is not None and place != inner and within(inner, place)}

    def next_statement(self, node):
        """The statement after this one in the same body, or None."""
        around = self.parents.get(id(node))
        for body in ("body", "orelse", "finalbody"):
            items = getattr(around, body, None)
            if isinstance(items, list) and node in items[:-1]:
                return items[items.index(node) + 1]
        return None

    def call_at(self, offset: int):
        """The innermost call that a frame is in, or None; Python 3.11 may point past the instruction, at its cache."""
        places = [place for at, place in instructions(self.code) if at <= offset]
        place = places[-1] if places else None
        calls = [call for call in self.nodes(ast.Call) if place and within(place, span(call))]
        return max(calls, key=lambda call: span(call)[0], default=None)

    def stores(self, name: str) -> list:
        """(value, nodes around it) of each place that gives the name a value; value None if it cannot be told."""
        return [(value, self.above(node)) for node in self.nodes(*STORES) for value in stored(node, name)]


STORES = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.withitem)


def stored(node, name: str) -> list:
    """The expression that this statement stores in the name: one, or none."""
    if isinstance(node, ast.withitem):
        return [None] if node.optional_vars is not None and name in names(node.optional_vars) else []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.iter if isinstance(node, ast.For | ast.AsyncFor) else node.value
    return [value] if value is not None and any(name in names(target) for target in targets) else []


def names(target) -> set:
    """The plain names that an assignment to this target binds."""
    if isinstance(target, ast.Name):
        return {target.id}
    if isinstance(target, ast.Tuple | ast.List):
        return set().union(*map(names, target.elts))
    return names(target.value) if isinstance(target, ast.Starred) else set()


class NoSource(Exception):  # noqa: N818  an outcome, not an error of ours
    """The text of a function on the way to a MoE layer is not there, or is not the text of this function."""


@cache
def tree(file: str):
    """The syntax tree of a file."""
    text = "".join(linecache.getlines(file))
    if not text:
        raise NoSource(f"no source text of {file}")
    return ast.parse(text)


@cache
def changed_globals(file: str) -> set:
    """Names that functions of the file declare global or change in place; equal names of other scopes count too."""
    nodes = list(ast.walk(tree(file)))
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    return declared | {one.id for node in nodes for one in changed_in_place(node) if isinstance(one, ast.Name)}


def changed_in_place(node) -> list:
    """The expression whose items or attributes the node changes: one, or none."""
    if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return [node.value]
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return [node.func.value] if is_method and node.func.attr in CHANGING else []


def sets_attribute(cls: type, name: str) -> bool:
    """Whether a method of the class sets the attribute after construction."""
    methods = [inspect.unwrap(one) for base in cls.__mro__ for one in vars(base).values() if inspect.isfunction(one)]
    later = [one.__code__ for one in methods if one.__name__ not in ("__init__", "__post_init__", "__new__")]
    return any(
        step.opname == "STORE_ATTR" and step.argval == name for code in later for step in dis.get_instructions(code)
    )


def definition(code):
    """The node that defines the code object.

    Raises:
        NoSource: no definition of that name begins in that line.
    """
    for node in ast.walk(tree(code.co_filename)):
        if isinstance(node, SCOPES) and getattr(node, "name", "<lambda>") == code.co_name:
            first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
            if first == code.co_firstlineno:
                return node
    raise NoSource(f"no source text of {code.co_name} at {code.co_filename}:{code.co_firstlineno}")


def argument_count(code) -> int:
    """How many of the code's variables are parameters."""
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_argcount + code.co_kwonlyargcount + stars


def inside(scope):
    """The nodes of a scope without those of the functions and classes defined in it."""
    body = [scope.body] if isinstance(scope, ast.Lambda) else list(scope.body)
    waiting = [scope, *body]
    while waiting:
        node = waiting.pop()
        yield node
        if node is not scope and not isinstance(node, SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def span(node) -> tuple:
    """((first line, column), (last line, column)) of a node; columns in bytes, as instructions have them."""
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def within(inner: tuple, outer: tuple) -> bool:
    """Whether one span lies in another; spans of lines without columns count by lines."""
    if inner[0][1] is None:
        return outer[0][0] <= inner[0][0] <= outer[1][0]
    return outer[0] <= inner[0] and inner[1] <= outer[1]


@cache
def instructions(code, jumps: bool = False) -> list:
    """(offset, span) of each instruction, with or without those that only jump; columns are None before Python 3.11."""
    lines = {offset: line for start, end, line in code.co_lines() for offset in range(start, end, 2)}
    exact = list(code.co_positions()) if hasattr(code, "co_positions") else []
    found = []
    for instruction in dis.get_instructions(code):
        at = instruction.offset
        if not jumps and instruction.opname.startswith(JUMPS):
            continue
        if exact and None not in exact[at // 2]:
            line, last, column, end = exact[at // 2]
            found.append((at, ((line, column), (last, end))))
        elif not exact and lines.get(at):
            found.append((at, ((lines[at], None), (lines[at], None))))
    return found
