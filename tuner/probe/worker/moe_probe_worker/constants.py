"""Whether an expression reads only what was fixed when the model was built.

Then its value is the same in every pass of this instance, and the outcome that
was seen is the only one. Everything else counts as decided at run time.
"""

import ast
import inspect

from moe_probe_worker.functions import CHANGING, Function, changed_globals, sets_attribute
from moe_probe_worker.owners import UNKNOWN, Owners

PURE = frozenset(
    (
        *("len", "isinstance", "issubclass", "hasattr", "getattr", "callable", "type", "repr", "print", "super"),
        *("int", "bool", "str", "float", "tuple", "list", "set", "frozenset", "dict", "range", "islice", "chain"),
        *("enumerate", "zip", "reversed", "sorted", "min", "max", "sum", "any", "all", "abs"),
    )
)
"""Functions whose result depends on their arguments alone."""
FIXED_HOMES = ("vllm.distributed", "vllm.platforms", "vllm.config", "vllm.envs", "vllm.utils", "torch.compiler")
"""Modules whose functions answer for the process: its place among the ranks, platform, configuration."""
FIXED_TENSOR = frozenset(("dtype", "device", "ndim", "is_cuda", "is_meta", "dim", "is_floating_point"))
"""What of a tensor the launch fixes: every pass has it alike."""
PASS_STATE = frozenset(("get_forward_context", "is_forward_context_available"))
"""Functions that answer for the pass under way."""


class Constants:
    """Answers for the functions of one model.

    Args:
        calls: knows the live values of expressions.
        trace: knows who called whom, and which attributes changed between passes.
    """

    def __init__(self, calls, trace) -> None:
        self.calls, self.trace = calls, trace
        self._busy: set = set()

    def why_not(self, node, function: Function, *, selecting: bool = False) -> str:
        """Empty if the expression is constant, else the part of it that is not, in words.

        Args:
            node: the expression.
            function: where it stands.
            selecting: leave conditions inside out: they are branches of their own, and only
                what they choose between matters.
        """
        kind = type(node).__name__
        answer = getattr(self, f"_{kind.lower()}", None)
        if answer is not None:
            return answer(node, function, selecting)
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return f"`{ast.unparse(node)}`"
        return self._first(ast.iter_child_nodes(node), function, selecting)

    def _first(self, nodes, function: Function, selecting: bool) -> str:
        expressions = (node for node in nodes if isinstance(node, ast.expr | ast.comprehension | ast.keyword))
        return next(filter(None, (self.why_not(node, function, selecting=selecting) for node in expressions)), "")

    def _ifexp(self, node, function: Function, selecting: bool) -> str:
        parts = [node.body, node.orelse] if selecting else [node.test, node.body, node.orelse]
        return self._first(parts, function, selecting)

    def _lambda(self, *_: object) -> str:
        return ""

    def _subscript(self, node, function: Function, selecting: bool) -> str:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape" and ast.unparse(node.slice) == "-1":
            return ""  # a tensor's width
        if any(map(is_tensor, self.calls.values(node, function))):
            return f"`{ast.unparse(node)}`, a tensor"
        return self._first([node.value, node.slice], function, selecting)

    def _attribute(self, node, function: Function, selecting: bool) -> str:
        if node.attr in FIXED_TENSOR:
            return ""
        if node.attr == "training":
            return ""
        above = self.why_not(node.value, function, selecting=selecting)
        if above:
            return above
        if any(map(is_tensor, self.calls.values(node, function))):
            return f"`{ast.unparse(node)}`, a tensor"
        owners = self.calls.values(node.value, function)
        if node.attr in self.trace.mutable or any(self._may_change(owner, node.attr) for owner in owners):
            return f"`{ast.unparse(node)}`, which changes between passes"
        return next(filter(None, (self._computed(owner, node) for owner in owners)), "")

    def _may_change(self, owner, name: str) -> bool:
        """Whether a plain object has a method that sets the attribute; modules are compared after each pass."""
        known = inspect.ismodule(owner) or isinstance(owner, self.trace.owners.module | type) or is_plain(owner)
        return not known and sets_attribute(type(owner), name)

    def _computed(self, owner, node) -> str:
        """What a property reads that is not constant."""
        getter = getattr(inspect.getattr_static(owner, node.attr, None), "fget", None)
        code = getattr(inspect.unwrap(getter) if getter else None, "__code__", None)
        if code is None or is_outside(code):
            return ""
        inner = self.trace.function(code, inspect.unwrap(getter).__globals__)
        self.trace.instances.setdefault(code, [owner])
        found = self._result(inner)
        return f"`{ast.unparse(node)}`, which reads {found}" if found else ""

    def _name(self, node, function: Function, selecting: bool) -> str:
        name = node.id
        key = (function.code, name, selecting)
        if key in self._busy:
            return ""  # a loop adds nothing to what its start says
        self._busy.add(key)
        try:
            if name in function.parameters:
                return self._parameter(name, function, selecting)
            if name in function.code.co_varnames or name in function.code.co_cellvars or self._bound(name, function):
                return self._local(name, function, selecting)
            return self._outer(name, function)
        finally:
            self._busy.discard(key)

    def _bound(self, name: str, function: Function) -> bool:
        return bool(function.stores(name))

    def _outer(self, name: str, function: Function) -> str:
        if name in function.code.co_freevars:
            return f"`{name}` of the function around" if name != "__class__" else ""
        if name in changed_globals(function.code.co_filename):
            return f"`{name}`, which its module changes"
        return f"`{name}`, a tensor" if is_tensor(function.space.get(name)) else ""

    def _parameter(self, name: str, function: Function, selecting: bool) -> str:
        assigned = self._local(name, function, selecting)
        if assigned:
            return assigned
        if name == function.parameters[0] and self.trace.instances.get(function.code):
            return ""
        given = [self._given(name, function, edge, selecting) for edge in self.trace.edges.get(function.code, ())]
        return next(filter(None, given), "") if given else f"`{name}`, an argument"

    def _given(self, name: str, function: Function, edge: tuple, selecting: bool) -> str:
        """What a caller passes for a parameter."""
        caller, offset = edge
        call = caller.call_at(offset) if caller else None
        if call is None:
            return "" if self.trace.left_out(function, name) else f"`{name}`, an input of the pass"
        if any(isinstance(item, ast.Starred) for item in call.args) or any(k.arg is None for k in call.keywords):
            return f"`{name}`, an argument"
        found = argument(name, function, call)
        if found is None:
            return "" if self.trace.left_out(function, name) else f"`{name}`, an argument"
        return self.why_not(found, caller, selecting=selecting)

    def _local(self, name: str, function: Function, selecting: bool) -> str:
        for value, above in function.stores(name):
            if value is None:
                return f"`{name}`, set in a way that is not followed"
            found = self.why_not(value, function, selecting=selecting)
            if not found and not selecting:
                tests = [node.test for node in above if isinstance(node, ast.If | ast.While)]
                found = self._first(tests, function, selecting)
            if found:
                return found
        return ""

    def _call(self, node, function: Function, selecting: bool) -> str:
        target = node.func
        name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
        if name in PASS_STATE | CHANGING:
            return f"`{ast.unparse(node)}`, the state of the pass" if name in PASS_STATE else f"`{ast.unparse(node)}`"
        inputs = [*node.args, *(keyword.value for keyword in node.keywords)]
        if name in FIXED_TENSOR and not inputs:
            return ""
        by_name = isinstance(target, ast.Name) and name in ("getattr", "hasattr")
        if by_name and len(inputs) > 1 and isinstance(inputs[1], ast.Constant):
            return self._by_name(node, inputs, function, selecting)
        values = self.calls.values(target, function)
        if any(home(value).startswith(FIXED_HOMES) for value in values) or (
            isinstance(target, ast.Name) and name in PURE
        ):
            return self._first(inputs, function, selecting)
        if isinstance(target, ast.Attribute) and not self.why_not(target.value, function, selecting=selecting):
            return self._method(node, values, function, selecting)
        return self._returned(node, values)

    def _by_name(self, node, inputs: list, function: Function, selecting: bool) -> str:
        """`getattr` or `hasattr` with a name that is written out."""
        name = str(inputs[1].value)
        if node.func.id == "getattr":
            read = ast.Attribute(inputs[0], name, ast.Load())
            return self._attribute(read, function, selecting) or self._first(inputs[2:], function, selecting)
        if name in self.trace.mutable:
            return f"`{ast.unparse(node)}`, which changes between passes"
        return self._first(inputs, function, selecting)

    def _method(self, node, values: list, function: Function, selecting: bool) -> str:
        """A method of a constant: text, collections and configurations answer alike each time."""
        owners = [getattr(value, "__self__", None) for value in values]
        of_process = isinstance(node.func.value, ast.Call) and not values
        if of_process or (owners and all(owner is not None and is_plain(owner) for owner in owners)):
            return self._first(node.args, function, selecting)
        return self._returned(node, values)

    def _returned(self, node, values: list) -> str:
        """A function of the model's own: constant if all it returns is."""
        for value in values:
            code = getattr(inspect.unwrap(value), "__code__", None)
            if code is None or "/torch/" in code.co_filename:
                return f"`{ast.unparse(node)}`"
            try:
                inner = self.trace.function(code, inspect.unwrap(value).__globals__)
            except Exception:
                return f"`{ast.unparse(node)}`"
            found = self._result(inner)
            if found:
                return f"`{ast.unparse(node)}`, which reads {found}"
        return "" if values else f"`{ast.unparse(node)}`"

    def _result(self, inner: Function) -> str:
        if (inner.code, "return") in self._busy:
            return ""
        self._busy.add((inner.code, "return"))
        try:
            tests = [node.test for node in inner.nodes(ast.If, ast.While)]
            results = [node.value for node in inner.nodes(ast.Return) if node.value is not None]
            return self._first([*tests, *results], inner, False)
        finally:
            self._busy.discard((inner.code, "return"))


def argument(name: str, function: Function, call):
    """The expression that a call passes for a parameter, or None if it passes none."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    names = [one for one in function.parameters if one != "self"]
    at = names.index(name) if name in names else len(call.args)
    return call.args[at] if at < len(call.args) else None


def is_outside(code) -> bool:
    """Whether the code is torch's."""
    return "/torch/" in code.co_filename


def is_tensor(value) -> bool:
    """Whether the value is a tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def is_plain(value) -> bool:
    """Whether methods of the value cannot depend on a pass: text, numbers, collections, configurations."""
    plain = (str, int, float, tuple, list, dict, set, frozenset, type(None))
    return isinstance(value, plain) or type(value).__name__.endswith("Config")


def home(value) -> str:
    """The module that defines the value."""
    if value is UNKNOWN or isinstance(value, Owners):
        return ""
    found = getattr(value, "__module__", None) or ""
    if inspect.ismodule(value):
        found = value.__name__
    return found if isinstance(found, str) else ""
