"""Which objects lead to a MoE layer, and which calls in the model's code could reach one."""

import ast
import builtins
import inspect
from functools import partial

from moe_probe_worker.functions import Function, NoSource

OUTSIDE = ("/torch/", "/vllm/compilation/", "/vllm/model_executor/layers/fused_moe/", "/moe_probe_worker/", "/triton/")
"""Code that carries a call on but does not decide it: torch, the compile wrapper (compared on its own, see
`compiled`), and the MoE layer itself, whose name is resolved before any of it runs."""
UNKNOWN = object()
"""What a name stands for that was never seen."""
MOST_ITEMS = 512
"""Items of a collection that are looked at."""


class Owners:
    """The modules of one model that are, or hold, a registered MoE layer."""

    def __init__(self, model, layers: dict) -> None:
        import torch

        self.module = torch.nn.Module
        parts = [*layers.values(), *(layer.runner for layer in layers.values() if hasattr(layer, "runner"))]
        found = {id(part) for part in parts}
        holders = [one for one in model.modules() if any(id(part) in found for part in one.modules())]
        self.parts = [*parts, *holders]  # kept alive, since they are known by id
        self.ids = {id(part) for part in self.parts}
        self._add_holders(model)

    def _add_holders(self, model) -> None:
        """Objects of other kinds that modules keep and that keep such a module, such as a helper with the layers."""
        kept = [value for module in model.modules() for value in vars(module).values()]
        plain = [value for value in kept if hasattr(value, "__dict__") and not isinstance(value, self.module | type)]
        holders = [value for value in plain if any(map(self.owns, vars(value).values()))]
        self.parts += holders
        self.ids |= {id(value) for value in holders}

    def owns(self, value) -> bool:
        """Whether a MoE layer can be reached through the value: a module, or a short collection of modules."""
        if isinstance(value, list | tuple):
            return any(id(item) in self.ids for item in value[:MOST_ITEMS])
        if isinstance(value, dict) and len(value) < MOST_ITEMS:
            return any(id(item) in self.ids for item in value.values())
        return id(value) in self.ids


class Calls:
    """Which calls of the traced functions could reach a MoE layer.

    Args:
        owners: the modules that lead to one.
        trace: what was seen while the passes ran: instances, sites and values of names.
    """

    def __init__(self, owners: Owners, trace) -> None:
        self.owners, self.trace = owners, trace
        self._known: dict = {}
        self._ways: dict = {}
        self._busy: set = set()

    def reaching(self, function: Function) -> list:
        """The calls of the function that could, in the order of the text."""
        if function.code not in self._known:
            self._known[function.code] = []  # a function that calls itself adds nothing
            sites = {id(function.call_at(at)) for at in self.trace.sites.get(function.code, ())}
            calls = function.nodes(ast.Call)
            self._known[function.code] = [call for call in calls if id(call) in sites or self._could(call, function)]
        return self._known[function.code]

    def _could(self, call, function: Function) -> bool:
        if "moe" in ast.unparse(call.func) and "ops" in ast.unparse(call.func):
            return True
        values = self.values(call.func, function)
        if not values:
            return self._unknown(call.func, function)
        return any(self._leads(value, call, function) for value in values)

    def _unknown(self, target, function: Function) -> bool:
        """A method of a result or of a value never seen: what it belongs to decides."""
        if isinstance(target, ast.Attribute):
            if is_super(target.value):
                return self._inherited(target.attr, function)
            return self._is_on_the_way(target.attr) and self._may_own(target.value, function)
        if isinstance(target, ast.Subscript):
            return self._holds(target.value, function)
        return self._may_own(target, function)

    def _is_on_the_way(self, name: str) -> bool:
        """Whether any object that holds a MoE layer has a method or part of this name that leads to one."""
        if name not in self._ways:
            self._ways[name] = False  # a method that calls itself adds nothing
            kinds = {(type(owner), name): owner for owner in self.owners.parts}
            parts = [attribute(owner, name) for owner in kinds.values()]
            self._ways[name] = any(part is not UNKNOWN and self._leads_alone(part) for part in parts)
        return self._ways[name]

    def _leads_alone(self, value) -> bool:
        """Whether calling the value, whatever its arguments, could reach a MoE layer."""
        if isinstance(value, self.owners.module):
            return self.owners.owns(value)
        if isinstance(value, partial):
            return any(map(self._leads_alone, (value.func, *value.args, *value.keywords.values())))
        method = inspect.unwrap(value) if callable(value) else None
        code, bound = getattr(method, "__code__", None), getattr(value, "__self__", None)
        if code is None or any(part in code.co_filename for part in OUTSIDE):
            return False
        return self._inside(method, bound) if self.owners.owns(bound) else self._encloses(method)

    def _encloses(self, method) -> bool:
        """Whether a function without an object of its own holds one that leads to a MoE layer, as closures do."""
        held = [cell.cell_contents for cell in method.__closure__ or () if is_filled(cell)]
        return any(map(self.owners.owns, held)) and self._inside(method, None)

    def _may_own(self, node, function: Function) -> bool:
        """Whether an expression without a known value may stand for a module with a MoE layer."""
        values = self.values(node, function)
        if values:
            return any(map(self.owners.owns, values))
        if isinstance(node, ast.Attribute) and self._is_absent(node, function):
            return node.attr in self.trace.mutable
        if isinstance(node, ast.Name):
            return self._local_may_own(node.id, function)
        if isinstance(node, ast.Call):
            return self._returns_owner(node, function)
        if isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
            return self._may_own(node.value, function)
        parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else getattr(node, "values", [])
        return any(self._may_own(part, function) for part in parts)

    def _is_absent(self, node, function: Function) -> bool:
        """Whether no object that the attribute is read of has it: reading it would raise."""
        owners = self.values(node.value, function)
        return bool(owners) and not any(hasattr(type(one), node.attr) or hasattr(one, node.attr) for one in owners)

    def _local_may_own(self, name: str, function: Function) -> bool:
        inner = function.nested(name)
        if inner is not None:
            return bool(self.reaching(self.trace.function(inner, function.space)))
        seen = self.trace.held_owner(function, name)
        if seen or (function.code, name) in self._busy:
            return bool(seen)
        if any(map(self._leads_alone, self.trace.methods(function, name))):
            return True
        self._busy.add((function.code, name))
        try:
            stores = [value for value, _ in function.stores(name)]
            unknown = seen is None and (not stores or None in stores)
            return unknown or any(self._may_own(value, function) for value in stores if value is not None)
        finally:
            self._busy.discard((function.code, name))

    def _returns_owner(self, call, function: Function) -> bool:
        """A module returns data; a method of an owner, or what is unknown, may return a module."""
        values = self.values(call.func, function)
        if not values:
            return self._may_own(call.func, function)
        if all(isinstance(value, self.owners.module) for value in values):
            return False
        if any(self.owners.owns(getattr(value, "__self__", None)) for value in values):
            return True
        return any(self._may_own(node, function) for node in [*call.args, *(one.value for one in call.keywords)])

    def _inherited(self, name: str, function: Function) -> bool:
        """Whether the method that `super()` finds could reach a MoE layer."""
        for instance in self.trace.instances.get(function.code, []):
            classes = type(instance).__mro__
            own = [at for at, cls in enumerate(classes) if uses(cls.__dict__.get(function.code.co_name), function.code)]
            later = classes[own[0] + 1 :] if own else classes
            method = next((cls.__dict__[name] for cls in later if name in cls.__dict__), None)
            if self.owners.owns(instance) and hasattr(inspect.unwrap(method), "__code__"):
                method = inspect.unwrap(method)
                if not any(part in method.__code__.co_filename for part in OUTSIDE) and self._inside(method, instance):
                    return True
        return False

    def _holds(self, node, function: Function) -> bool:
        values = self.values(node, function)
        return any(map(self.owners.owns, values)) if values else self._unknown(node, function)

    def _leads(self, value, call, function: Function) -> bool:
        if isinstance(value, self.owners.module | partial):
            return self._leads_alone(value)
        if not hasattr(value, "__code__") and callable(value) and inspect.ismethod(value.__call__):
            value = value.__call__  # an object that can be called
        bound, code = getattr(value, "__self__", None), getattr(inspect.unwrap(value), "__code__", None)
        if bound is not None and not inspect.ismodule(bound) and not self.owners.owns(bound):
            return False
        if code is None or isinstance(value, type) or any(part in code.co_filename for part in OUTSIDE):
            return False
        if self.owners.owns(bound):
            return self._inside(inspect.unwrap(value), bound)
        if self._encloses(inspect.unwrap(value)):
            return True
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        return any(self.owners.owns(item) for node in arguments for item in self.values(node, function))

    def _inside(self, method, bound) -> bool:
        try:
            function = self.trace.function(method.__code__, method.__globals__)
        except NoSource:
            return True
        if bound is not None:
            self.trace.instances.setdefault(function.code, [bound])
        return bool(self.reaching(function))

    def values(self, node, function: Function) -> list:
        """The live objects that an expression stands for, one for each instance seen; empty if unknown."""
        if isinstance(node, ast.Name):
            return self._named(node.id, function)
        if isinstance(node, ast.Attribute):
            found = [attribute(value, node.attr) for value in self.values(node.value, function)]
            return [] if any(value is UNKNOWN for value in found) else found
        if isinstance(node, ast.Subscript):
            return [item for value in self.values(node.value, function) for item in members(value)]
        return []

    def _named(self, name: str, function: Function) -> list:
        if function.parameters[:1] == [name]:
            return list(self.trace.instances.get(function.code, []))
        if name in function.code.co_freevars and function.outer is not None:
            return self._named(name, function.outer)
        if name in function.code.co_varnames or name in function.code.co_cellvars:
            return []
        if name in function.space:
            return [function.space[name]]
        return [getattr(builtins, name)] if hasattr(builtins, name) else []


def uses(method, code) -> bool:
    """Whether a function, below its decorators, has this code."""
    return callable(method) and getattr(inspect.unwrap(method), "__code__", None) is code


def is_filled(cell) -> bool:
    """Whether a closure's cell holds a value yet."""
    try:
        cell.cell_contents  # noqa: B018  reading is the question
    except ValueError:
        return False
    return True


def is_super(node) -> bool:
    """Whether the expression is `super()`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def members(value) -> list:
    """The items of a collection of modules."""
    import torch

    if isinstance(value, torch.nn.ModuleList | list | tuple):
        return list(value)
    return list(value.values()) if isinstance(value, torch.nn.ModuleDict | dict) else []


def attribute(value, name: str):
    """The attribute, without running a property's code; UNKNOWN if it is not there or computed."""
    found = inspect.getattr_static(value, name, UNKNOWN)
    if isinstance(found, property):
        return UNKNOWN
    try:
        return getattr(value, name)
    except Exception:
        return UNKNOWN
