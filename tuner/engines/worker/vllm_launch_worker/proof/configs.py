"""Whether code may change a config of transformers in a way that its own text does not show.

The base classes of these configs store under names that they compute. They are not looked into, so this module looks
for what makes them do it: a call of `update` or of a constructor, and the store of an attribute that stands for
another one.
"""

import ast
import gc
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from types import MemberDescriptorType
from typing import Any, NamedTuple

from shared_worker.vllm_types import Module
from vllm_launch_worker.proof.stores import (
    ANY,
    DISPLAYS,
    FUNCTIONS,
    Function,
    bound_by,
    called,
    constant_key,
    constructs_again,
    first_line,
    functions_of,
    functions_of_others,
    is_attribute_of,
    is_looked_into,
    is_variable,
    mentioned,
    names_in,
    outermost_functions,
    stored_by_function,
    tree_of,
    trees_of,
)
from vllm_launch_worker.proof.tracing import Guard

NAME = re.compile(r"\w+")
UPDATES = frozenset(("update", "update_from_string"))
"""Methods of a config that store attributes whose names they are given. Dictionaries and sets have the first, too."""
STANDARD = frozenset(("__dict__", "__weakref__"))
"""Descriptors that Python gives to each class."""
ASKS = frozenset(("getattr", "hasattr", "isinstance", "len"))
"""Functions that do not change their arguments."""
COLLECTIONS = frozenset(("dict", "set", "OrderedDict", "defaultdict"))


class Holding(NamedTuple):
    """Names under which code may reach a config.

    Attributes:
        now: the names under which an object or a dictionary holds a config when the model is built.
        later: attributes that functions store, or compute as a property. They may hold a config later.
    """

    now: frozenset[str]
    later: frozenset[str]


class Configs:
    """The configs of transformers that a model holds.

    Args:
        model: the outermost module.
        guards: the guards of the trace of the code around the region.

    Attributes:
        on_paths: attribute -> the config that it holds, on the ways to the values that the guards depend on.
    """

    def __init__(self, model: Module, guards: list[Guard]) -> None:
        self.model = model
        self.on_paths = configs_on_paths(model, guards)

    @property
    def files(self) -> set[str]:
        """The files of the classes of these configs, without those of transformers' base classes.

        A method of such a class may change a config.
        """
        from transformers import PretrainedConfig

        kinds = {base for config in self.on_paths.values() for base in type(config).__mro__}
        own = [kind for kind in kinds if issubclass(kind, PretrainedConfig)]
        files = {getattr(sys.modules.get(kind.__module__), "__file__", None) or "" for kind in own}
        return {file for file in files if file and is_looked_into(file)}

    def changed_by(self, stored: frozenset[str], files: frozenset[str]) -> frozenset[str]:
        """The names that functions change, if they store these.

        Args:
            stored: the names that they store (see `stores.stored_in`).
            files: the files of these functions.
        """
        if not self.on_paths:
            return stored
        if self._may_be_updated(stored, files):
            return stored | self.on_paths.keys()
        others = others_stored_by(type(config) for config in self.on_paths.values())
        while True:
            added = frozenset().union(*(others[name] for name in stored & others.keys()))
            if added <= stored:
                return stored
            stored |= added

    def _may_be_updated(self, stored: frozenset[str], files: frozenset[str]) -> bool:
        """Whether functions of these files may call one of `UPDATES`, or the constructor, of a config that exists.

        An attribute that functions store, or compute as a property, may hold a config later.
        """
        functions = [function for tree in trees_of(files) for function in outermost_functions(tree)]
        others = [function for function, is_of_own_object in functions_of_others(files) if not is_of_own_object]
        holding = Holding(names_holding(configs_below(self.model)), stored | properties_in([*functions, *others]))
        if constructs_again(files) or any(may_update(function, holding) for function in functions):
            return True
        return any(may_update(function, holding, is_new) for function in others)


def configs_on_paths(model: Module, guards: list[Guard]) -> dict[str, Any]:
    """For each attribute by which a value that a guard depends on lies in a config: the config."""
    from transformers import PretrainedConfig

    configs: dict[str, Any] = {}
    for guard in guards:
        value: Any = model
        for part in NAME.findall(guard["name"]):
            value = part_of(value, part)
            if isinstance(value, PretrainedConfig):
                configs[part] = value
    return configs


def part_of(value: Any, name: str) -> Any:
    """The attribute of an object, or the value under a key of a dictionary. The object itself if it has none."""
    if isinstance(value, dict):
        return value.get(name, value)
    return getattr(value, name, value)


def configs_below(model: Module) -> list[Any]:
    """The configs in attributes of a model and of the modules in it, and the configs in these."""
    from transformers import PretrainedConfig

    waiting = [value for module in model.modules() for value in vars(module).values()]
    configs: dict[int, Any] = {}
    while waiting:
        value = waiting.pop()
        if isinstance(value, PretrainedConfig) and id(value) not in configs:
            configs[id(value)] = value
            waiting += vars(value).values()
    return list(configs.values())


def properties_in(functions: list[ast.AST]) -> frozenset[str]:
    """The names of those functions that have a decorator. Such a function may be a property."""
    return frozenset(str(getattr(function, "name", "")) for function in functions if decorators_of(function))


def decorators_of(function: ast.AST) -> list[ast.expr]:
    """The decorators of a function. A lambda has none."""
    return getattr(function, "decorator_list", [])


def names_holding(values: list[Any]) -> frozenset[str]:
    """The names under which any object or dictionary of this process holds one of these values."""
    wanted = set(map(id, values))
    names: set[str] = set()
    for holder in gc.get_referrers(*values):
        parts = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        names.update(name for name, value in list(parts.items()) if isinstance(name, str) and id(value) in wanted)
        names.update(slots_of(holder))
    return frozenset(names)


def slots_of(holder: Any) -> set[str]:
    """The names in `__slots__` of an object's classes. The object holds their values without a dictionary."""
    slots: set[str] = set()
    for kind in type(holder).__mro__:
        slots.update(name for name, value in vars(kind).items() if isinstance(value, MemberDescriptorType))
    return slots


def others_stored_by(kinds: Iterable[type]) -> dict[str, frozenset[str]]:
    """Attribute of these configs that stands for others -> the attributes that change when code stores it.

    These are the keys of an `attribute_map`, and the descriptors of the base classes, which are not looked into.
    """
    others: dict[str, frozenset[str]] = {}
    for base in {base for kind in kinds for base in kind.__mro__}:
        for name, value in vars(base).items():
            if hasattr(value, "__set__") and name not in STANDARD:
                others[name] = others.get(name, frozenset()) | stored_by_descriptor(value)
        for name, other in getattr(base, "attribute_map", {}).items():
            others[name] = others.get(name, frozenset()) | {other}
    return others


def stored_by_descriptor(descriptor: Any) -> frozenset[str]:
    """The attributes that the setter of a property stores. `ANY` if its code is not there, or may change more."""
    if isinstance(descriptor, property) and descriptor.fset is None:
        return frozenset()
    code = getattr(getattr(descriptor, "fset", None), "__code__", None)
    if code is None:
        return frozenset((ANY,))
    names: set[str] = set()
    functions = functions_of(tree_of(code.co_filename))
    setters = [function for function in functions if first_line(function) == code.co_firstlineno]
    for setter in setters:
        names |= {ANY} if calls_of_own(setter) else stored_by_function(setter, set()).all
    return frozenset(names) if setters else frozenset((ANY,))


def calls_of_own(function: Function) -> bool:
    """Whether a function calls a method of its object, or gives the object to another function than `ASKS`."""
    own = function.args.args[0].arg
    for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
        if is_attribute_of(call.func, own):
            return True
        if called(call) not in ASKS and any(is_variable(argument, own) for argument in call.args):
            return True
    return False


def may_update(function: ast.AST, holding: Holding, gives_no_config: Callable[..., bool] | None = None) -> bool:
    """Whether a function may call one of `UPDATES` of a config: it names one, other than to call it of a collection.

    Args:
        function: the function.
        holding: the names under which an object or a dictionary may hold a config.
        gives_no_config: whether an expression makes what it gives, so that this is no config. Left out:
            `is_collection`.
    """
    nodes = list(ast.walk(function))
    collections = collections_in(nodes, gives_no_config or is_collection) | with_keys(nodes)
    methods = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    harmless = {id(method) for method in methods if is_no_config(method.value, collections, holding)}
    mentions = [node for node in nodes if mentioned(node) in UPDATES and not isinstance(node, ast.Name)]
    return any(id(node) not in harmless for node in mentions)


def is_no_config(node: ast.AST, collections: set[str], holding: Holding) -> bool:
    """Whether an expression is a collection, or lies in an attribute or under a key that holds no config."""
    if isinstance(node, ast.Name):
        return node.id in collections
    if isinstance(node, ast.Attribute):
        return node.attr not in holding.now | holding.later
    if isinstance(node, ast.Subscript):
        return constant_key(node).isdisjoint(holding.now) and bool(constant_key(node))
    return is_collection(node)


def with_keys(nodes: list[ast.AST]) -> set[str]:
    """The variables of which a function stores or takes what lies under a key. A config has no keys."""
    return {node.value.id for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)}


def collections_in(nodes: list[ast.AST], gives_no_config: Callable[..., bool]) -> set[str]:
    """The variables of a function that hold nothing but dictionaries, sets and lists that it makes.

    Args:
        nodes: the syntax nodes of the function.
        gives_no_config: see `may_update`.
    """
    own: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        bound = [(names_in(target), value) for target, value in bound_by(node)]
        for names, value in bound:
            is_loop = not isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr))
            (others if is_loop or not gives_no_config(value) else own).update(names)
        if isinstance(node, FUNCTIONS):
            own.update([node.args.kwarg.arg] if node.args.kwarg else [])
            others.update(arguments_of(node))
    return own - others


def arguments_of(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[str]:
    """The names of the arguments of a function, without those that hold several arguments."""
    signature = function.args
    for argument in [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]:
        yield argument.arg


def is_new(node: ast.AST | None) -> bool:
    """Whether an expression makes a collection, or calls a function that is no method.

    A function of another file is given a config by its caller, and does not get one by such a call.
    """
    return is_collection(node) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name))


def is_collection(node: ast.AST | None) -> bool:
    """Whether an expression makes a dictionary, a set or a list."""
    return isinstance(node, DISPLAYS) or (isinstance(node, ast.Call) and called(node) in COLLECTIONS)
