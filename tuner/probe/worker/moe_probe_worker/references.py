"""Finds out whether a model class can build a MoE layer. It reads the imported classes and builds no model.

The search starts at a class. It follows the methods of the class and the names
in their code, through model modules and vLLM's fused-MoE package. It looks for
the code that adds a layer to the list of the counter.

The answer may be yes where no MoE layer is ever built: a name in the code
counts as used, and every method of a class counts as called. So a dense model
that shares a class with a MoE model also counts. The config tells the two apart.
"""

import ast
import functools
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from shared_worker.build_stand_ins import names_in

MODELS = ("vllm.model_executor.models", "vllm.models")
"""Packages of vLLM's own models. The second exists in newer releases only."""
LAYERS = "vllm.model_executor.layers.fused_moe"
LIST = "static_all_moe_layers"
"""The list of layer names that the counter goes through (CompilationConfig, from vLLM 0.15 on).

Only MoE layers are added to it. `FusedMoE.__init__` adds them in 0.19.1, and a function that the MoE runner calls adds
them in 0.32.0.
"""
BY_CONFIG = "init_vllm_registered_model"
"""The vLLM function that builds an inner model from the name of its architecture."""


class Reach:
    """What each registered class can reach. Each function and class is read once.

    Args:
        classes: architecture -> class.
        packages: names of the packages that define the models of plugins.
    """

    def __init__(self, classes: dict[str, type], packages: set[str]) -> None:
        self.classes = classes
        self.packages = (*MODELS, LAYERS, *packages)
        self._neighbours: dict[int, list[Any]] = {}
        self._reachable: dict[str, list[Any]] = {}
        self._inner_names: dict[str, list[str | None]] = {}
        self._in_progress: set[str] = set()

    def moe(self, name: str) -> str:
        """How the class gets MoE layers.

        Args:
            name: a registered architecture whose class could be imported.

        Returns:
            `static`: its own code leads to a MoE layer; `literal`: its code names an inner model that does; `config`:
            the config names the inner model; `none`: none of these.
        """
        if any(mentions(item, LIST) for item in self.reachable(name)):
            return "static"
        inner = self.inner(name)
        self._in_progress.add(name)
        literal = any(map(self._leads_to_layer, inner))
        self._in_progress.discard(name)
        if literal:
            return "literal"
        return "config" if None in inner else "none"

    def _leads_to_layer(self, architecture: str | None) -> bool:
        """Whether an inner model leads to a MoE layer. False for a model whose answer is being worked out now."""
        if architecture not in self.classes or architecture in self._in_progress:
            return False
        return self.moe(architecture) in ("static", "literal")

    def inner(self, name: str) -> list[str | None]:
        """The architectures of the inner models that the class builds. None means that the config names it."""
        if name not in self.classes:
            return []
        if name not in self._inner_names:
            names: list[str | None] = []
            for item in self.reachable(name):
                names += self._inner_of(item)
            self._inner_names[name] = names
        return self._inner_names[name]

    def modules(self, name: str) -> list[str]:
        """Names of the model modules that define the class and its inner models. Empty for an unknown name."""
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

    def reachable(self, name: str) -> list[Any]:
        """The classes and functions that can be reached from the class, nearest first."""
        if name not in self._reachable:
            items, pending = {}, [self.classes[name]]
            while pending:
                item = pending.pop(0)
                if id(item) not in items:
                    items[id(item)] = item
                    pending += self._neighbours_of(item)
            self._reachable[name] = list(items.values())
        return self._reachable[name]

    def _neighbours_of(self, item: Any) -> list[Any]:
        if id(item) not in self._neighbours:
            values = members(item) if isinstance(item, type) else values_named_in(item)
            self._neighbours[id(item)] = list(filter(self._follows, code_in_all(values)))
        return self._neighbours[id(item)]

    def _follows(self, item: Any) -> bool:
        return isinstance(item, type | FunctionType) and self._is_inside(item.__module__)

    def _is_inside(self, module: str) -> bool:
        return any(module == package or module.startswith(package + ".") for package in self.packages)

    def _inner_of(self, item: Any) -> list[str | None]:
        """The architectures of the inner models that a function builds. None means that the config names it."""
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
        """The registered architectures written in the argument, or in the function if the argument is a variable."""
        if node is None:
            return []
        where = tree if isinstance(node, ast.Name) else node
        texts = [part.value for part in ast.walk(where) if isinstance(part, ast.Constant)]
        return [text for text in texts if isinstance(text, str) and text in self.classes]


def is_module(value: Any) -> bool:
    """Whether a value is a class with a `forward`. It does not use `hasattr`, because some classes raise there."""
    return isinstance(value, type) and any("forward" in vars(base) for base in value.__mro__)


def calls(tree: ast.AST) -> list[ast.Call]:
    """Every call in a syntax tree."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def architectures(call: ast.Call) -> list[ast.expr | None]:
    """The value of the argument `architectures` of a call, in a list. [None] if the call has none."""
    values: list[ast.expr | None] = [word.value for word in call.keywords if word.arg == "architectures"]
    return values or [None]


def members(cls: type) -> list[Any]:
    """The bases of a class, and the attributes of the class and its bases."""
    values = [*cls.__mro__[1:]]
    for base in cls.__mro__:
        values += vars(base).values()
    return values


def code_in(value: Any) -> list[Any]:
    """The functions and classes in a value. It looks inside decorators, descriptors and collections."""
    if isinstance(value, staticmethod | classmethod):
        return code_in(value.__func__)
    if isinstance(value, property):
        return code_in_all([part for part in (value.fget, value.fset) if part])
    if isinstance(value, functools.partial | functools.cached_property):
        return code_in(value.func)
    if isinstance(value, dict):
        return code_in_all(code_among(value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return code_in_all(code_among(value))
    return wrapped_functions(value) if callable(value) else []


def code_among(values: Iterable[Any]) -> list[Any]:
    """Those of the values that are functions or classes."""
    return [value for value in list(values) if isinstance(value, type | FunctionType)]


def code_in_all(values: Iterable[Any]) -> list[Any]:
    """The results of `code_in` for all values, in one list."""
    return list(itertools.chain.from_iterable(map(code_in, values)))


def wrapped_functions(value: Any) -> list[Any]:
    """A function and the functions that it wraps, found through `__wrapped__` and closures."""
    functions, pending = {}, [value]
    while pending:
        item = pending.pop()
        if id(item) in functions or not (isinstance(item, type | FunctionType) or hasattr(item, "__wrapped__")):
            continue
        functions[id(item)] = item
        if not isinstance(item, type):
            pending += [item.__wrapped__] if hasattr(item, "__wrapped__") else []
            pending += closure_values(item)
    return list(functions.values())


def closure_values(function: Any) -> list[Any]:
    """The values in the function's closure."""
    values = []
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            values.append(cell.cell_contents)
    return values


def mentions(item: Any, name: str) -> bool:
    """Whether a function's code uses the name."""
    return isinstance(item, FunctionType) and name in names_in(item.__code__)


def values_named_in(function: Any) -> list[Any]:
    """The values of the names in a function's code, and of its default arguments.

    A name is looked up in the function's globals, and in the vLLM modules that the function uses or imports.
    """
    space = function.__globals__
    names = set(names_in(function.__code__)) - only_tested(function)
    values = [space[name] for name in names if name in space]
    modules = [value for value in values if isinstance(value, ModuleType) and value.__name__.startswith("vllm")]
    modules += imported_modules(names, space.get("__package__") or "")
    for module in modules:
        values += [vars(module)[name] for name in names if name in vars(module)]
    return [*values, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def imported_modules(names: set[str], package: str) -> list[ModuleType]:
    """The loaded vLLM modules among some names. A name may be absolute, or relative to the package or its parent."""
    places = ("", package + ".", package.rpartition(".")[0] + ".")
    modules = []
    for name, place in itertools.product(names, places):
        module = sys.modules.get(place + name)
        if module is not None and module.__name__.startswith("vllm"):
            modules.append(module)
    return modules


@functools.cache
def only_tested(function: Any) -> set[str]:
    """Names of MoE layer classes that the function uses only as the second argument of `isinstance`."""
    space = function.__globals__
    layers = {name for name in names_in(function.__code__) if is_layer(space.get(name))}
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
    """Whether a value is a class from vLLM's fused-MoE package."""
    return isinstance(value, type) and value.__module__.startswith(LAYERS)
