"""Whether code may change a config of transformers in a way that its own text does not show.

The base classes of these configs store under names that they compute. They are not looked into, so this module looks
for what makes them do it: a call of `update` or of a constructor, and the store of an attribute that stands for
another one.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

from shared_worker.vllm_types import Module
from vllm_launch_worker.proof.stores import (
    DISPLAYS,
    FUNCTIONS,
    bound_by,
    called,
    constructs_again,
    is_looked_into,
    mentioned,
    names_in,
    outermost_functions,
    tree_of,
)
from vllm_launch_worker.proof.tracing import Guard

NAME = re.compile(r"\w+")
UPDATES = frozenset(("update", "update_from_string"))
"""Methods of a config that store attributes whose names they are given. Dictionaries and sets have the first, too."""
COLLECTIONS = frozenset(("dict", "set", "OrderedDict", "defaultdict"))


def holders(model: Module, guards: list[Guard]) -> frozenset[str]:
    """The attributes by which the values that guards depend on lie in a config of transformers.

    Args:
        model: the outermost module.
        guards: the guards of the trace of the code around the region.
    """
    from transformers import PretrainedConfig

    names: set[str] = set()
    for guard in guards:
        value: Any = model
        for part in NAME.findall(guard["name"]):
            value = part_of(value, part)
            if isinstance(value, PretrainedConfig):
                names.add(part)
    return frozenset(names)


def part_of(value: Any, name: str) -> Any:
    """The attribute of an object, or the value under a key of a dictionary. The object itself if it has none."""
    if isinstance(value, dict):
        return value.get(name, value)
    return getattr(value, name, value)


def may_change(model: Module, files: frozenset[str], stored: frozenset[str]) -> bool:
    """Whether functions may change a config in a way that the names in `stored` do not show.

    Args:
        model: the outermost module.
        files: the files of these functions.
        stored: the names that they store (see `stores.stored_in`).
    """
    trees = [tree_of(file) for file in files if not file.startswith("<") and is_looked_into(file)]
    functions = [function for tree in trees for function in outermost_functions(tree)]
    if constructs_again(files) or not stored.isdisjoint(names_for_others()):
        return True
    holding = attributes_with_configs(model)
    return any(may_update(function, holding) for function in functions)


def attributes_with_configs(model: Module) -> frozenset[str]:
    """The attributes of a model, and of the modules in it, that hold configs."""
    from transformers import PretrainedConfig

    values = [pair for module in model.modules() for pair in vars(module).items()]
    return frozenset(name for name, value in values if isinstance(value, PretrainedConfig))


def may_update(function: ast.AST, holding: frozenset[str]) -> bool:
    """Whether a function may call one of `UPDATES` of a config: it names one, other than to call it of a collection.

    Args:
        function: the function.
        holding: the attributes that hold configs.
    """
    nodes = list(ast.walk(function))
    collections = collections_in(nodes) | with_keys(nodes)
    methods = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    harmless = {id(method) for method in methods if is_no_config(method.value, collections, holding)}
    mentions = [node for node in nodes if mentioned(node) in UPDATES and not isinstance(node, ast.Name)]
    return any(id(node) not in harmless for node in mentions)


def is_no_config(node: ast.AST, collections: set[str], holding: frozenset[str]) -> bool:
    """Whether an expression is a collection, lies under a key of one, or is an attribute that holds no config."""
    if isinstance(node, ast.Name):
        return node.id in collections
    if isinstance(node, ast.Attribute):
        return node.attr not in holding
    return is_collection(node) or isinstance(node, ast.Subscript)


def with_keys(nodes: list[ast.AST]) -> set[str]:
    """The variables of which a function stores or takes what lies under a key. A config has no keys."""
    return {node.value.id for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)}


def collections_in(nodes: list[ast.AST]) -> set[str]:
    """The variables of a function that hold nothing but dictionaries, sets and lists that it makes."""
    made: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        bound = [(names_in(target), value) for target, value in bound_by(node)]
        for names, value in bound:
            is_loop = not isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr))
            (others if is_loop or not is_collection(value) else made).update(names)
        if isinstance(node, FUNCTIONS):
            made.update([node.args.kwarg.arg] if node.args.kwarg else [])
            others.update(arguments_of(node))
    return made - others


def arguments_of(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[str]:
    """The names of the arguments of a function, without those that hold several arguments."""
    signature = function.args
    for argument in [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]:
        yield argument.arg


def is_collection(node: ast.AST | None) -> bool:
    """Whether an expression makes a dictionary, a set or a list."""
    return isinstance(node, DISPLAYS) or (isinstance(node, ast.Call) and called(node) in COLLECTIONS)


def names_for_others() -> frozenset[str]:
    """The attributes of configs that stand for others: to store them changes an attribute of another name."""
    from transformers import PretrainedConfig

    names: set[str] = set()
    kinds: list[type] = [PretrainedConfig]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        for base in kind.__mro__:
            names.update(name for name, value in vars(base).items() if hasattr(value, "__set__"))
        names.update(getattr(kind, "attribute_map", {}))
    return frozenset(names - {"__dict__", "__weakref__"})
