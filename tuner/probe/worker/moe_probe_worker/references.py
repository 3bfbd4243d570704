"""Whether a model class leads to a MoE layer, read from live classes; nothing is constructed.

From a class, its methods and what their code names are followed, through model
modules and vLLM's fused-MoE package, to the code that enters a layer into the
list behind the counter. A name that is only mentioned counts as used, and every
method of a class that is reached counts as called, so the answer
over-approximates: a dense model that shares a class with a MoE sibling leads to
MoE layers too. Its config tells them apart.
"""

import ast
import functools
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

MODELS = ("vllm.model_executor.models", "vllm.models")
"""Packages of vLLM's own models; the second from 0.2x on."""
LAYERS = "vllm.model_executor.layers.fused_moe"
LIST = "static_all_moe_layers"
"""The list of layer names that the counter walks (CompilationConfig, vLLM 0.15 on). Only MoE layers enter it: in
`FusedMoE.__init__` in 0.19.1, in a function that the MoE runner calls in 0.32.0."""
BY_CONFIG = "init_vllm_registered_model"
"""vLLM's helper that builds an inner model by the name of its architecture."""


class Reach:
    """Answers for all registered classes; what one function or class names is read once.

    Args:
        classes: architecture -> class.
        packages: where plugins' models are defined.
    """

    def __init__(self, classes: dict[str, type], packages: set[str]) -> None:
        self.classes = classes
        self.packages = (*MODELS, LAYERS, *packages)
        self._named: dict[int, list[Any]] = {}
        self._all: dict[str, list[Any]] = {}
        self._inside: dict[str, list[str | None]] = {}
        self._busy: set[str] = set()

    def moe(self, name: str) -> str:
        """`static`, `literal`, `config` or `none`."""
        if any(mentions(item, LIST) for item in self.reached(name)):
            return "static"
        inner = self.inner(name)
        self._busy.add(name)
        literal = any(map(self._leads_to_layer, inner))
        self._busy.discard(name)
        if literal:
            return "literal"
        return "config" if None in inner else "none"

    def _leads_to_layer(self, architecture: str | None) -> bool:
        """Whether an inner model that the code names leads to a MoE layer; one that is being asked about does not."""
        if architecture not in self.classes or architecture in self._busy:
            return False
        return self.moe(architecture) in ("static", "literal")

    def inner(self, name: str) -> list[str | None]:
        """Names of the inner models that the class builds; None stands for one that the config names."""
        if name not in self.classes:
            return []
        if name not in self._inside:
            names: list[str | None] = []
            for item in self.reached(name):
                names += self._inner(item)
            self._inside[name] = names
        return self._inside[name]

    def modules(self, name: str) -> list[str]:
        """The modules of models that the class is made from, its inner models' included; none for an unknown name."""
        namespaces: dict[str, dict[str, Any]] = {}
        pending: list[str] = []
        for architecture in dict.fromkeys([name, *self.inner(name)]):
            if architecture in self.classes:
                pending += [base.__module__ for base in self.classes[architecture].__mro__]
        while pending:
            module = pending.pop(0)
            if module not in namespaces and self._is_inside(module) and not module.startswith(LAYERS):
                namespaces[module] = vars(sys.modules[module])
                pending += [part.__module__ for part in namespaces[module].values() if is_module(part)]
        return list(namespaces)

    def reached(self, name: str) -> list[Any]:
        """Classes and functions that are reached from the class, nearest first."""
        if name not in self._all:
            items, pending = {}, [self.classes[name]]
            while pending:
                item = pending.pop(0)
                if id(item) not in items:
                    items[id(item)] = item
                    pending += self._next(item)
            self._all[name] = list(items.values())
        return self._all[name]

    def _next(self, item: Any) -> list[Any]:
        if id(item) not in self._named:
            values = members(item) if isinstance(item, type) else named(item)
            self._named[id(item)] = list(filter(self._follows, flat_of_all(values)))
        return self._named[id(item)]

    def _follows(self, item: Any) -> bool:
        return isinstance(item, type | FunctionType) and self._is_inside(item.__module__)

    def _is_inside(self, module: str) -> bool:
        return any(module == package or module.startswith(package + ".") for package in self.packages)

    def _inner(self, item: Any) -> list[str | None]:
        """Names of the inner models that a function builds; None stands for one that the config names."""
        if not mentions(item, BY_CONFIG) or item.__name__ == BY_CONFIG:
            return []
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(item)))
        except (OSError, SyntaxError):
            return [None]
        names: list[str | None] = []
        for call in calls(tree):
            if BY_CONFIG in ast.unparse(call.func):
                for node in architectures(call):
                    names += self._literals(node, tree) or [None]
        return names

    def _literals(self, node: ast.AST | None, tree: ast.AST) -> list[str]:
        """Registered names written in the argument, or, if that is a variable, in the function."""
        if node is None:
            return []
        where = tree if isinstance(node, ast.Name) else node
        texts = [part.value for part in ast.walk(where) if isinstance(part, ast.Constant)]
        return [text for text in texts if isinstance(text, str) and text in self.classes]


def is_module(value: Any) -> bool:
    """Whether a value is a class with a `forward`; the class itself is not asked, which may refuse to answer."""
    return isinstance(value, type) and any("forward" in vars(base) for base in value.__mro__)


def calls(tree: ast.AST) -> list[ast.Call]:
    """Every call in a piece of source."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def architectures(call: ast.Call) -> list[ast.expr | None]:
    """The value of the call's argument of that name; None if it has none."""
    values: list[ast.expr | None] = [word.value for word in call.keywords if word.arg == "architectures"]
    return values or [None]


def members(cls: type) -> list[Any]:
    """What a class and its bases define, and the bases."""
    values = [*cls.__mro__[1:]]
    for base in cls.__mro__:
        values += vars(base).values()
    return values


def flat(value: Any) -> list[Any]:
    """The functions and classes that a value stands for: below decorators and descriptors, in collections."""
    if isinstance(value, staticmethod | classmethod):
        return flat(value.__func__)
    if isinstance(value, property):
        return flat_of_all([part for part in (value.fget, value.fset) if part])
    if isinstance(value, functools.partial | functools.cached_property):
        return flat(value.func)
    if isinstance(value, dict):
        return flat_of_all(code_among(value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return flat_of_all(code_among(value))
    return below(value) if callable(value) else []


def code_among(values: Iterable[Any]) -> list[Any]:
    """The functions and classes among some values."""
    return [value for value in list(values) if isinstance(value, type | FunctionType)]


def flat_of_all(values: Iterable[Any]) -> list[Any]:
    """What `flat` says of each value, in one list."""
    return list(itertools.chain.from_iterable(map(flat, values)))


def below(value: Any) -> list[Any]:
    """A function, and those it wraps, by the convention of functools or in its closure."""
    functions, pending = {}, [value]
    while pending:
        item = pending.pop()
        if id(item) in functions or not (isinstance(item, type | FunctionType) or hasattr(item, "__wrapped__")):
            continue
        functions[id(item)] = item
        if not isinstance(item, type):
            pending += [item.__wrapped__] if hasattr(item, "__wrapped__") else []
            pending += closed_over(item)
    return list(functions.values())


def closed_over(function: Any) -> list[Any]:
    """The values in the function's closure."""
    values = []
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not set yet
            values.append(cell.cell_contents)
    return values


def codes(function: Any) -> list[CodeType]:
    """The function's code and that of the functions inside it."""
    all_codes, pending = [], [function.__code__]
    while pending:
        code = pending.pop()
        all_codes.append(code)
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return all_codes


def mentions(item: Any, name: str) -> bool:
    """Whether a function's code uses the name."""
    return isinstance(item, FunctionType) and name in names_in(item)


def names_in(function: Any) -> set[str]:
    """The names that a function's code uses, and that of the functions inside it."""
    names: set[str] = set()
    for code in codes(function):
        names.update(code.co_names)
    return names


def named(function: Any) -> list[Any]:
    """The values of the names in a function's code: globals, what it imports, attributes of modules; its defaults."""
    space = function.__globals__
    names = names_in(function) - only_tested(function)
    values = [space[name] for name in names if name in space]
    modules = [value for value in values if isinstance(value, ModuleType) and value.__name__.startswith("vllm")]
    modules += imported(names, space.get("__package__") or "")
    for module in modules:
        values += [vars(module)[name] for name in names if name in vars(module)]
    return [*values, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def imported(names: set[str], package: str) -> list[ModuleType]:
    """Loaded modules that a function imports when it runs, absolute or relative to its package."""
    places = ("", package + ".", package.rpartition(".")[0] + ".")
    modules = []
    for name, place in itertools.product(names, places):
        module = sys.modules.get(place + name)
        if module is not None and module.__name__.startswith("vllm"):
            modules.append(module)
    return modules


@functools.cache
def only_tested(function: Any) -> set[str]:
    """Names of MoE layers that the function only compares with, in `isinstance`."""
    space = function.__globals__
    layers = {name for name in names_in(function) if is_layer(space.get(name))}
    if not layers or not mentions(function, "isinstance"):
        return set()
    with suppress(OSError, SyntaxError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        tested: set[int] = set()
        for call in calls(tree):
            if ast.unparse(call.func) == "isinstance":
                tested.update(map(id, ast.walk(call.args[1])))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in tested}
        return layers - used
    return set()


def is_layer(value: Any) -> bool:
    """Whether a value is a class of vLLM's fused-MoE package."""
    return isinstance(value, type) and value.__module__.startswith(LAYERS)
