"""Reads source files for what functions change after construction: attributes, globals and contents of containers."""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

from vllm_launch_worker.proof.origin import is_standard

CONSTRUCTORS = frozenset(("__init__", "__post_init__", "__new__"))
DISPLAYS = (ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.DictComp, ast.Set, ast.SetComp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
LATER = (*FUNCTIONS, ast.GeneratorExp)
"""Code inside a function that may run after the function has ended."""
SETTERS = frozenset(("setattr", "delattr", "__setattr__", "__delattr__"))
RUNS_TEXT = frozenset(
    ("FunctionType", "__builtins__", "__import__", "exec", "globals", "import_module", "locate", "resolve_name")
)
"""What reaches code, or functions of Python, by a text."""
STORES_ANY = SETTERS | RUNS_TEXT | {"__delete__", "__dict__", "__set__", "__setstate__", "methodcaller", "setitem"}
STORES_ANY |= {"update_wrapper", "vars"}
"""What stores an attribute by any name, if it is not one of `SETTERS` in a plain call."""
WHOLE = frozenset(("__class__", "__dict__"))
"""Attributes of an object with which code stores all its attributes."""
REPLACES = re.compile(r"register_\w*hook|set_submodule")
"""Methods of a torch module after which its call may run other code."""
RESHAPES = re.compile(r"data|requires_grad_|set_|resize_\w*|as_strided_|(un)?squeeze_|swap(axes|dims)_|t_|transpose_")
"""Attributes and methods of a tensor by which code changes its shape or its type in place."""
MODES = frozenset(("eval", "train"))
"""Methods of a torch module that store `training` in it and in its parts."""
REGISTERS = frozenset(("register_buffer", "register_parameter", "register_module", "add_module"))
"""Methods of a torch module that store an attribute. Their first argument is its name."""
CHANGES = frozenset(
    ("append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "remove", "clear", "sort", "reverse")
) | {
    "rotate",
    "update",
    "update_from_string",
    "setdefault",
    "popitem",
    "add",
    "discard",
    "move_to_end",
    "__setitem__",
    "__delitem__",
}
"""Methods that change a list, a dictionary, a set or a queue."""
MANGLED = re.compile(r"_\w*?[a-zA-Z0-9](?=__\w*(?<!__)$)")
"""What Python puts before the name of an attribute that begins with two underscores: the class around the code."""
ANY = "*"
"""Stands for every name, if a function computes the name."""
ARGUMENT = "()"
"""Stands for an argument of a function."""
INSIDE = "[]"
"""The suffix of a container's name, if the contents of the container change."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Variables = dict[str, set[str]]
"""Local variable of a function -> the attributes whose value, or a part of it, the variable may hold."""


def stored_in(files: frozenset[str], skipped: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names that functions of these files change (see `stored_by_function`).

    Args:
        files: the files. Those of Python and torch are left out.
        skipped: the names of functions that are left out, as constructors are. Constructors are not left out if a
            function of these files may call one for an object that exists.
    """
    names = {ANY} if any(map(renames_setters, trees_of(files))) else set()
    constructors = frozenset() if constructs_again(files) else CONSTRUCTORS
    for function, stored in functions_in(files):
        name = getattr(function, "name", "")
        if name in skipped:
            names |= stored.later
        else:
            names |= stored.elsewhere if name in constructors else stored.all
    return frozenset(names)


@lru_cache
def constructs_again(files: frozenset[str]) -> bool:
    """Whether code of these files may run a constructor on an object that exists.

    A function calls it by its name, and is not itself a constructor. Or a `__new__` returns an object that it keeps:
    Python then runs `__init__` on it.
    """
    trees = trees_of(files)
    return any(may_construct(list(outside_constructors(tree))) or may_return_kept(tree) for tree in trees)


def may_return_kept(tree: ast.AST) -> bool:
    """Whether a `__new__` in a syntax tree returns anything but the result of a call, directly or by a variable."""
    for function in functions_of(tree):
        if getattr(function, "name", "") == "__new__":
            nodes = list(ast.walk(function))
            kept = variables_with_other_values(nodes)
            returned = [node.value for node in nodes if isinstance(node, ast.Return)]
            if any(not is_new_object(value, kept) for value in returned):
                return True
    return False


def variables_with_other_values(nodes: list[ast.AST]) -> set[str]:
    """The variables that these syntax nodes bind to something else than the result of a call."""
    variables: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.arg):
            variables.add(node.arg)
        for target, value in bound_by(node):
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(value, ast.Call):
                variables.update(names_in(target))
    return variables


def is_new_object(value: ast.expr | None, kept: set[str]) -> bool:
    """Whether an expression is a call, or a variable that is not one of these."""
    return isinstance(value, ast.Call) or (isinstance(value, ast.Name) and value.id not in kept)


def trees_of(files: frozenset[str]) -> list[ast.AST]:
    """The syntax trees of these files, in the order of their names. Those of Python and torch are left out."""
    return [tree_of(file) for file in sorted(files) if not file.startswith("<") and is_looked_into(file)]


def renames_setters(tree: ast.AST) -> bool:
    """Whether code outside of functions mentions what stores an attribute by any name, and so may rename it.

    `globals` is left out: code that runs at import stores with it before the model is built.
    """
    storing = storing_any(list(outside_functions(tree)))
    return any(mentioned(node) != "globals" for node in storing)


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a syntax tree that are not in a function."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, LATER):
            yield child
            yield from outside_functions(child)


def outside_constructors(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a syntax tree that are not in a constructor."""
    for child in ast.iter_child_nodes(node):
        if getattr(child, "name", "") not in CONSTRUCTORS:
            yield child
            yield from outside_constructors(child)


def may_construct(nodes: list[ast.AST]) -> bool:
    """Whether one of these syntax nodes calls a constructor by its name, or keeps it outside of a local variable."""
    harmless = kept_uncalled(nodes)
    return any(mentioned(node) in CONSTRUCTORS and id(node) not in harmless for node in nodes)


def kept_uncalled(nodes: list[ast.AST]) -> set[int]:
    """The identities (`id`) of what these syntax nodes keep in local variables that none of them calls.

    If they keep the result of a call, the arguments of this call are among them.
    """
    called_variables = variables_called(nodes)
    uncalled: set[int] = set()
    for node in nodes:
        if is_kept_in(node) and called_variables.isdisjoint(names_in(node)):
            arguments = node.value.args if isinstance(node.value, ast.Call) else []
            uncalled.update(map(id, [node.value, *arguments]))
    return uncalled


def is_kept_in(node: ast.AST) -> TypeGuard[ast.Assign]:
    """Whether a syntax node stores a value in variables, and nowhere else."""
    return isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets)


def as_written(name: str) -> str:
    """The name of an attribute as code writes it, without the class that Python puts before it (see `MANGLED`)."""
    mangled = MANGLED.match(name)
    return name[mangled.end() :] if mangled else name


def stores_only_none(files: frozenset[str], name: str) -> bool:
    """Whether all code of these files that stores an attribute stores the constant None, in a plain assignment.

    The answer is no if code may store the attribute in another way: by a computed name, by a text that holds the name,
    or by what `STORES_ANY` lists.

    Args:
        files: the files.
        name: the attribute.
    """
    for file in files:
        nodes = list(ast.walk(tree_of(file)))
        harmless: set[int] = set()
        for node in nodes:
            harmless.update(map(id, nulled_by(node) + keys_of(node, name) + setters_called_by(node)))
        if any(may_store(node, name) and id(node) not in harmless for node in nodes):
            return False
    return True


def may_store(node: ast.AST, name: str) -> bool:
    """Whether a syntax node may store an attribute, holds its name as a text, or mentions what stores by any name."""
    is_text = isinstance(node, ast.Constant) and node.value == name
    return is_text or mentioned(node) in STORES_ANY or may_store_plainly(node, {name, ANY})


def may_store_plainly(node: ast.AST, names: set[str]) -> bool:
    """Whether a syntax node stores one of these attributes, which it names."""
    return not stored_by(node, {}).isdisjoint(names)


def setters_called_by(node: ast.AST) -> list[ast.expr]:
    """The called function, if a call is one of `SETTERS`: the call itself tells the name. Else an empty list."""
    return [node.func] if isinstance(node, ast.Call) and called(node) in SETTERS else []


def storing_any(nodes: list[ast.AST]) -> list[ast.AST]:
    """Those of these syntax nodes that may store an attribute by a name that they do not tell.

    Such a node mentions one of `STORES_ANY`, runs a text as code, or calls a method by a computed name.
    """
    called_variables = variables_called(nodes)
    harmless: set[int] = set()
    storing: list[ast.AST] = []
    for node in nodes:
        harmless.update(map(id, setters_called_by(node) + dictionaries_read_by(node)))
        for target, value in bound_by(node):
            if not called_variables.isdisjoint(names_in(target)):
                storing += [inner for inner in ast.walk(value) if is_computed(inner)]
    return storing + [node for node in nodes if id(node) not in harmless and may_store_any(node)]


def variables_called(nodes: list[ast.AST]) -> set[str]:
    """The variables that these syntax nodes call."""
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


def may_store_any(node: ast.AST) -> bool:
    """Whether a syntax node mentions one of `STORES_ANY`, runs a text as code, or calls what has a computed name."""
    if isinstance(node, ast.Call):
        return is_computed(node.func)
    return is_eval(node) or mentioned(node) in STORES_ANY


def is_eval(node: ast.AST) -> bool:
    """Whether a syntax node is Python's function `eval`, which a method of torch's modules shares the name with."""
    if isinstance(node, ast.Attribute):
        return node.attr == "eval" and is_variable(node.value, "builtins")
    return isinstance(node, ast.Name) and node.id == "eval"


def dictionaries_read_by(node: ast.AST) -> list[ast.expr]:
    """The `__dict__` or `vars` of an object of which a syntax node reads attributes, or names one, as a list."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        container = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
        container = node.func.value
    elif isinstance(node, ast.Compare):
        container = node.comparators[-1]
    elif isinstance(node, ast.keyword) and node.arg is None:  # f(**vars(x)) makes another dictionary of them
        container = node.value
    else:
        return []
    if isinstance(container, ast.Call) and called(container) == "vars":
        return [container.func]
    return [container] if is_dictionary(container) else []


READS = frozenset(("copy", "get", "items", "keys", "values"))
"""Methods of a dictionary that do not change it."""


def stored_elsewhere(files: frozenset[str], others: frozenset[str], name: str) -> bool:
    """Whether a function of other files stores another value than None in this attribute of an object that it is given.

    A method stores in its own object. This is another object, if the files do not name the class of the method.

    Args:
        files: the files with the classes of the object.
        others: the other files.
        name: the attribute.
    """
    for file in sorted(file for file in others - files if is_mentioned(name, file)):
        for owner, function in owned_functions(tree_of(file)):
            is_named = not owner or any(is_mentioned(owner, judged) for judged in files)
            own = first_argument(function)
            if stores_otherwise(function, name, own if own == "self" and not is_named else ""):
                return True
    return False


@lru_cache
def stored_by_others(files: frozenset[str]) -> frozenset[str]:
    """The names that functions of other files change for these (see `functions_of_others`).

    Names that such a function computes are left out, and what a method stores in its own object, unless these files
    name the class of the method.
    """
    names: set[str] = set()
    for function, is_of_own_object in functions_of_others(files):
        stored = stored_by_function(function, set())
        names |= stored.elsewhere if is_of_own_object else stored.all
    return frozenset(names - {ANY})


@lru_cache
def functions_of_others(files: frozenset[str]) -> list[tuple[ast.AST, bool]]:
    """The functions of other files that these files import, and mention outside of constructors.

    Each comes with whether it is a method that is called for its own object alone.

    Args:
        files: the files. Those of Python and torch are left out.
    """
    mentions = mentions_outside_constructors(files)
    functions: list[tuple[ast.AST, bool]] = []
    for file in sorted(imported_by(files)):
        for owner, function in owned_functions(tree_of(file)):
            name = getattr(function, "name", "")
            is_constructor = name in CONSTRUCTORS
            if (owner if is_constructor else name) in mentions:
                functions.append((function, is_constructor or bool(owner and owner not in mentions)))
    return functions


def mentions_outside_constructors(files: frozenset[str]) -> set[str]:
    """What functions of these files mention, and bindings outside of functions.

    Of a constructor, only what runs after it has ended counts.
    """
    mentions: set[str] = set()
    for tree in trees_of(files):
        for part in (*outermost_functions(tree), *bindings_outside(tree)):
            running = outliving(part) if getattr(part, "name", "") in CONSTRUCTORS else [part]
            for code in running:
                mentions.update(map(mentioned, ast.walk(code)))
    return mentions


def bindings_outside(tree: ast.AST) -> Iterator[ast.AST]:
    """The assignments and imports outside of functions in a syntax tree. They may give a function another name."""
    for node in outside_functions(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom)):
            yield node


def imported_by(files: frozenset[str]) -> set[str]:
    """The files that define what the modules of these files import, without these files themselves.

    Those of Python and torch are left out.
    """
    imported: set[str] = set()
    for module in [module for module in list(sys.modules.values()) if getattr(module, "__file__", None) in files]:
        homes = {getattr(value, "__module__", None) for value in vars(module).values()}
        homes |= {value.__name__ for value in vars(module).values() if isinstance(value, ModuleType)}
        homes |= homes_in_functions(module)
        imported |= {file_of_module(str(home)) for home in homes}
    return {file for file in imported - files if file.endswith(".py") and is_looked_into(file)}


def file_of_module(name: str) -> str:
    """The file of a module, which need not be imported yet. Empty if there is none."""
    module, parent = sys.modules.get(name), name.rpartition(".")[0]
    if module is None and (not parent or hasattr(sys.modules.get(parent), "__path__")):
        return getattr(find_spec(name), "origin", None) or ""
    return getattr(module, "__file__", None) or ""


def homes_in_functions(module: ModuleType) -> set[str]:
    """The names of the modules from which the code of a module imports."""
    homes: set[str] = set()
    for node in ast.walk(tree_of(str(module.__file__))):
        if isinstance(node, ast.Import):
            homes.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = resolve_name("." * node.level + (node.module or ""), module.__package__)
            homes.update([home, *(f"{home}.{alias.name}" for alias in node.names)])
    return homes


def stores_otherwise(function: ast.AST, name: str, own: str) -> bool:
    """Whether a function stores another value than None in an attribute of an object that is not the variable `own`."""
    nodes = list(ast.walk(function))
    nulled = {id(target) for node in nodes for target in nulled_by(node)}
    storing = [node for node in nodes if may_store_plainly(node, {name}) and id(node) not in nulled]
    return any(not own or not is_of_own(node, own) for node in storing)


def owned_functions(tree: ast.AST, owner: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The functions in a syntax tree that are not inside another function, each with the class around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, LATER):
            yield owner, node
        else:
            yield from owned_functions(node, node.name if isinstance(node, ast.ClassDef) else owner)


def nulled_by(node: ast.AST) -> list[ast.expr]:
    """What an assignment stores None in. Empty for other syntax nodes."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)):
        return []
    is_none = isinstance(node.value, ast.Constant) and node.value.value is None
    targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
    return targets if is_none else []


def keys_of(node: ast.AST, name: str) -> list[ast.expr]:
    """The keys under which a dictionary that code writes out holds this attribute of `self`. Empty for other nodes."""
    if not isinstance(node, ast.Dict):
        return []
    pairs = zip(node.keys, node.values, strict=True)
    return [key for key, value in pairs if key is not None and ast.unparse(value) == f"self.{name}"]


def functions_storing(files: frozenset[str], names: frozenset[str]) -> frozenset[str]:
    """The names of the functions of these files that change one of these names, or a name that they compute."""
    wanted = names | {name + INSIDE for name in names} | {ANY}
    return frozenset(getattr(function, "name", "") for function, stored in functions_in(files) if stored.all & wanted)


class Stored(NamedTuple):
    """The names of attributes, globals and constant keys that a function stores, deletes or changes.

    Attributes:
        all: those that the function changes, with all code inside it.
        later: those that code inside it may change after the function has ended.
        elsewhere: `later`, and those that the function may change of an object that is not its first argument.
    """

    all: frozenset[str]
    later: frozenset[str]
    elsewhere: frozenset[str]


@lru_cache
def functions_in(files: frozenset[str]) -> list[tuple[ast.AST, Stored]]:
    """The functions of these files that are not inside another function, each with the names that it changes."""
    trees = trees_of(files)
    changing: set[str] = set()
    for tree in trees:
        for function in functions_of(tree):
            if not isinstance(function, ast.Lambda) and changes_arguments(function):
                changing.add(function.name)
    functions = [function for tree in trees for function in outermost_functions(tree)]
    return [(function, stored_by_function(function, changing)) for function in functions]


def stored_by_function(function: ast.AST, changing: set[str]) -> Stored:
    """The names that a function changes.

    Args:
        function: a function that is not inside another function.
        changing: the names of functions, in any file, that change their arguments.
    """
    nodes = list(ast.walk(function))
    variables = variables_of(nodes)  # a function inside another uses the variables of both
    wide = set(map(id, storing_any(nodes)))

    def stored(nodes: list[ast.AST]) -> frozenset[str]:
        names = {ANY} if any(id(node) in wide for node in nodes) else set()
        return frozenset(names).union(
            *(stored_by(node, variables) | passed_by(node, changing, variables) for node in nodes)
        )

    later = [node for inner in outliving(function) for node in ast.walk(inner)]
    own = first_argument(function)
    elsewhere = [node for node in nodes if not is_of_own(node, own)]
    return Stored(stored(nodes), stored(later), stored(later) | stored(elsewhere))


def first_argument(function: ast.AST) -> str:
    """The name of a function's first argument, which a constructor gets the new object in. Empty if there is none.

    Empty, too, if the function binds the name to another object, and for `__new__`, which gets the class.
    """
    if getattr(function, "name", "") == "__new__":
        return ""
    signature = getattr(function, "args", None)
    names = [argument.arg for argument in [*signature.posonlyargs, *signature.args]] if signature else []
    own = names[0] if names else ""
    return "" if own in names_in(function) else own


OWNER_NAME_VALUE = 3
"""Arguments of `object.__setattr__(owner, name, value)`; the method of an object gets the name and the value alone."""


def is_of_own(node: ast.AST, own: str) -> bool:
    """Whether what a syntax node changes is an attribute of the first argument, or the contents of one.

    To store one of `WHOLE` may also change other objects: they may share it.
    """
    if isinstance(node, ast.AugAssign):
        return is_attribute_of(node.target, own)
    if isinstance(node, ast.Attribute) and node.attr in CHANGES:
        node = node.value
    if not isinstance(node, ast.Call):
        return is_attribute_of(node, own) and not stores_whole(node)
    if called(node) in SETTERS:
        names_owner = isinstance(node.func, ast.Name) or len(node.args) == OWNER_NAME_VALUE
        return names_owner and bool(node.args) and is_variable(node.args[0], own)
    container = getattr(node.func, "value", node.func)
    if called(node) in REGISTERS:
        return is_variable(container, own)
    if isinstance(container, ast.Call) and called(container) == "vars" and container.args:
        return is_variable(container.args[0], own)
    return is_attribute_of(container, own)


def stores_whole(node: ast.AST) -> bool:
    """Whether code stores one of `WHOLE`."""
    return isinstance(node, ast.Attribute) and node.attr in WHOLE and not isinstance(node.ctx, ast.Load)


def is_attribute_of(node: ast.AST, variable: str) -> bool:
    """Whether an expression is an attribute of a variable, or an element of such an attribute."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and is_variable(node.value, variable)


def is_variable(node: ast.AST, name: str) -> bool:
    """Whether an expression is the variable with this name."""
    return isinstance(node, ast.Name) and node.id == name


def is_looked_into(file: str) -> bool:
    """Whether a file does not belong to torch or to Python, and does not hold a base class of transformers' configs.

    The methods of these base classes change a config, as those of torch's modules change a module. They run if code
    that is looked into calls them. `configs.py` looks for such calls.
    """
    return not is_of_configs(file) and "torch" not in module_roots(file) and not is_standard(Path(file))


def is_of_configs(file: str) -> bool:
    """Whether a file holds a base class of transformers' configs."""
    return not CONFIGS.isdisjoint(modules_of(file))


@cache
def tree_of(file: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(text_of(file))


@cache
def text_of(file: str) -> str:
    """The text of a file. Empty if it cannot be read as text."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def is_mentioned(name: str, file: str) -> bool:
    """Whether the text of a file holds a name as a word."""
    text = text_of(file)
    return name in text and re.search(rf"\b{name}\b", text) is not None


def functions_of(tree: ast.AST) -> list[Function]:
    """The functions in a syntax tree, including lambdas."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def first_line(function: Function) -> int:
    """The line on which a function begins, with its decorators. Python keeps it in `co_firstlineno`."""
    decorators: list[ast.expr] = getattr(function, "decorator_list", [])
    return min([function.lineno, *(decorator.lineno for decorator in decorators)])


CONFIGS = frozenset(("transformers.configuration_utils", "transformers.integrations.heterogeneity.configuration_utils"))
"""The modules with the base classes of transformers' configs. Their methods compute the names of attributes."""


def module_roots(file: str) -> set[str]:
    """The top-level names of the imported modules whose code is this file."""
    return roots(modules_of(file))


def roots(modules: set[str]) -> set[str]:
    """The top-level names of modules."""
    return {name.partition(".")[0] for name in modules}


def modules_of(file: str) -> set[str]:
    """The names of the imported modules whose code is this file."""
    return modules_by_file(tuple(sys.modules)).get(file, set())


@lru_cache(maxsize=1)
def modules_by_file(imported: tuple[str, ...]) -> dict[str, set[str]]:
    """The names of the imported modules, by the files of their code.

    Args:
        imported: the names in `sys.modules`. While these stay the same, so does the result.
    """
    names: dict[str, set[str]] = {}
    for name in imported:
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str):
            names.setdefault(file, set()).add(name)
    return names


def outermost_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """The functions in a syntax tree that are not inside another function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, LATER):
            yield node
        else:
            yield from outermost_functions(node)


def outliving(function: ast.AST) -> list[ast.AST]:
    """The code inside a function that may run after the function has ended.

    A function inside it ends before, if the code only calls it, and only from code that ends before. A method of a
    class inside it does not: an object of the class may be kept.
    """
    inner = [node for node in ast.walk(function) if isinstance(node, LATER) and node is not function]
    plain = {node.name: node for node in ending_with_their_calls(function, inner)}
    later: list[ast.AST] = [node for node in inner if plain.get(getattr(node, "name", "")) is not node]
    mentions = names_kept(function)
    while True:
        started = mentions.union(*(map(mentioned, ast.walk(node)) for node in later))
        added = [plain[name] for name in plain if name in started and plain[name] not in later]
        if not added:
            return later
        later += added


def ending_with_their_calls(function: ast.AST, inner: Sequence[ast.AST]) -> list[ast.FunctionDef]:
    """Those of the functions inside a function that end with their call, without methods of classes inside it."""
    methods = methods_inside(function)
    plain = [node for node in inner if isinstance(node, ast.FunctionDef) and ends_with_its_call(node)]
    return [node for node in plain if id(node) not in methods]


def methods_inside(function: ast.AST) -> set[int]:
    """The identities (`id`) of the syntax nodes in classes that a function defines."""
    kinds = [node for node in ast.walk(function) if isinstance(node, ast.ClassDef)]
    return {id(inner) for kind in kinds for inner in ast.walk(kind)}


def names_kept(function: ast.AST) -> set[str]:
    """The names that a function mentions other than to call them."""
    nodes = list(ast.walk(function))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {mentioned(node) for node in nodes if id(node) not in called}


def ends_with_its_call(function: ast.FunctionDef) -> bool:
    """Whether a function is not a generator, and has no decorator except for those of `PLAIN_DECORATORS`."""
    if any(not is_plain_decorator(decorator) for decorator in function.decorator_list):
        return False
    return not any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in ast.walk(function))


PLAIN_DECORATORS = frozenset(("staticmethod", "classmethod"))
"""Python's own decorators that do not keep the function for later."""


def is_plain_decorator(decorator: ast.expr) -> bool:
    """Whether a decorator is one of `PLAIN_DECORATORS`."""
    return isinstance(decorator, ast.Name) and decorator.id in PLAIN_DECORATORS


GETTERS = frozenset(("__getattr__", "__getattribute__"))
"""Methods of an object, and functions of a module, that give the attribute whose name is their last argument."""


def is_computed(node: ast.AST) -> bool:
    """Whether an expression is an attribute whose name the code computes."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Call):
        return mentioned(node.func.func) == "attrgetter"
    if mentioned(node.func) in GETTERS:
        return not all(isinstance(argument, ast.Constant) for argument in node.args)
    return mentioned(node.func) == "getattr" and len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)


def mentioned(node: ast.AST) -> str:
    """What a syntax node may mention: a name, an attribute, a text, or an import under another name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.alias):
        return node.name if node.asname else ""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def changes_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function changes the contents of its arguments."""
    signature = function.args
    arguments = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
    nodes = list(ast.walk(function))
    variables = variables_of(nodes, {argument.arg: {ARGUMENT} for argument in arguments})
    return any(ARGUMENT in stored_by(node, variables) for node in nodes)


def passed_by(node: ast.AST, changing: set[str], variables: Variables) -> set[str]:
    """The containers that a call passes to a function that changes its arguments. Empty for other nodes.

    Args:
        node: a syntax node.
        changing: the names of functions that change their arguments.
        variables: see `variables_of`.
    """
    if not isinstance(node, ast.Call) or called(node) not in changing:
        return set()
    return contents_of_all([*node.args, *(keyword.value for keyword in node.keywords)], variables)


def variables_of(nodes: list[ast.AST], arguments: Variables | None = None) -> Variables:
    """For each local variable of a function, the attributes whose value, or a part of it, the variable may hold.

    Args:
        nodes: the syntax nodes of the function.
        arguments: the same for the arguments of the function.
    """
    bound: list[tuple[list[str], ast.expr]] = []
    for node in nodes:
        bound += [(names_in(target), value) for target, value in bound_by(node)]
    variables: Variables = dict(arguments or {})
    for names, value in bound * NAMES_IN_A_ROW:
        contents = contents_of(value, variables)
        for name in names if contents else ():
            variables[name] = variables.get(name, set()) | contents
    return variables


def names_in(target: ast.AST) -> list[str]:
    """The local variables that a target binds."""
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


NAMES_IN_A_ROW = 2
"""The number of variables in a row through which a value is followed, in any order of the assignments."""


def bound_by(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """The pairs of a target and a value that a syntax node binds. The target gets the value or an element of it."""
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return [(node.target, node.iter)]
    if isinstance(node, ast.withitem) and node.optional_vars is not None:
        return [(node.optional_vars, node.context_expr)]
    if isinstance(node, ast.Match):
        return [(captured, node.subject) for captured in captured_by(node)]
    return []


def captured_by(match: ast.Match) -> list[ast.expr]:
    """The variables that the patterns of a `match` bind, as targets."""
    patterns = [node for case in match.cases for node in ast.walk(case.pattern)]
    names = [getattr(node, "name", None) or getattr(node, "rest", None) for node in patterns]
    return [ast.Name(name, ast.Store()) for name in names if name]


def stored_by(node: ast.AST, variables: Variables) -> set[str]:
    """The names that one syntax node changes.

    Args:
        node: a syntax node of a function.
        variables: see `variables_of`.
    """
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return set(node.names)
    if isinstance(node, ast.Attribute):
        return stored_by_attribute(node, variables)
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return contents_of(node.value, variables) | constant_key(node)
    if isinstance(node, ast.AugAssign) and isinstance(node.value, DISPLAYS):
        return contents_of(node.target, variables)
    return changed_by_call(node, variables) if isinstance(node, ast.Call) else set()


def stored_by_attribute(node: ast.Attribute, variables: Variables) -> set[str]:
    """The names that code changes with an attribute: it stores or deletes the attribute, or calls it as a method."""
    if RESHAPES.fullmatch(node.attr) and is_changing(node):
        return {name.removesuffix(INSIDE) for name in contents_of(node.value, variables)}
    if isinstance(node.ctx, ast.Load):
        return changed_by_method(node, variables)
    return {ANY} if node.attr in WHOLE else {as_written(node.attr)}


def constant_key(node: ast.Subscript) -> set[str]:
    """The key of a subscript, as a set, if the key is a string that is not empty. Else an empty set."""
    key = node.slice.value if isinstance(node.slice, ast.Constant) else ""
    return {key} if isinstance(key, str) and key else set()


def called(call: ast.Call) -> str:
    """The name of the called function or method. Empty if the called expression does not have a name."""
    return str(getattr(call.func, "id", "") or getattr(call.func, "attr", ""))


def is_changing(node: ast.Attribute) -> bool:
    """Whether an attribute that `RESHAPES` lists is stored, or is a method, which code may call."""
    return not isinstance(node.ctx, ast.Load) or node.attr != "data"


def changed_by_call(call: ast.Call, variables: Variables) -> set[str]:
    """The names that a call of `setattr`, or of a method of a container, changes."""
    name = called(call)
    if name in SETTERS:
        return attribute_set_by(call)
    if name in REGISTERS:
        return text_or_any(argument_of(call, "name"))
    if isinstance(call.func, ast.Attribute) and name in CHANGES and mentioned(call.func.value) in CONTAINERS:
        return contents_of_all(call.args[:1], variables)
    if name == "getattr" and len(call.args) > 1 and mentioned(call.args[1]) in CHANGES:
        return contents_of(call.args[0], variables)
    return set()


def changed_by_method(method: ast.Attribute, variables: Variables) -> set[str]:
    """The names that a method changes, when it is called: at once, or later by another name."""
    if method.attr in MODES:
        return {"training"}
    if method.attr not in CHANGES:
        return {ANY} if REPLACES.fullmatch(method.attr) else set()
    return {ANY} if is_dictionary(method.value) else contents_of(method.value, variables)


CONTAINERS = frozenset(("dict", "list", "set", "deque", "OrderedDict", "defaultdict"))
"""Classes whose methods code may call with the container as their first argument."""


def attribute_set_by(call: ast.Call) -> set[Any]:
    """The attribute that a call of one of `SETTERS` stores or deletes. `ANY` if the name is computed."""
    at = len(call.args) - (1 if called(call).strip("_").startswith("del") else 2)
    if not 0 <= at < len(call.args):
        return {ANY}
    return text_or_any(call.args[at])


def argument_of(call: ast.Call, name: str) -> ast.expr | None:
    """The first argument of a call, which may also be given by its name."""
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def text_or_any(attribute: ast.expr | None) -> set[Any]:
    """The name of an attribute, as a set. `ANY` if it is not a constant."""
    return {attribute.value} if isinstance(attribute, ast.Constant) and attribute.value not in WHOLE else {ANY}


def is_dictionary(node: ast.AST) -> bool:
    """Whether an expression is the `__dict__` of an object, which holds all its attributes."""
    if isinstance(node, ast.Attribute):
        return node.attr == "__dict__"
    return isinstance(node, ast.Call) and called(node) == "vars"


def contents_of(node: ast.AST, variables: Variables) -> set[str]:
    """The attributes whose value, or a part of it, an expression may be, each with `INSIDE` behind its name.

    The result may also hold `ARGUMENT`.

    Args:
        node: the expression.
        variables: the same for local variables (see `variables_of`).
    """
    if isinstance(node, ast.Attribute):
        return {node.attr + INSIDE}
    if isinstance(node, ast.Name):
        return variables.get(node.id, set())
    return contents_of_all(parts_of(node), variables)


def contents_of_all(nodes: Sequence[ast.AST], variables: Variables) -> set[str]:
    """As `contents_of`, for several expressions."""
    return set().union(*(contents_of(node, variables) for node in nodes))


def parts_of(node: ast.AST) -> Sequence[ast.expr]:
    """The expressions whose value, or a part of it, another expression may be.

    A call makes a new value, except for the calls that `parts_of_call` lists.
    """
    if isinstance(node, (ast.Subscript, ast.Starred, ast.NamedExpr)):
        return [node.value]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, (ast.Tuple, ast.List)):
        return node.elts
    return parts_of_call(node) if isinstance(node, ast.Call) else []


def parts_of_call(call: ast.Call) -> Sequence[ast.expr]:
    """As `parts_of`, for a call."""
    name = called(call)
    if name == "getattr" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
        return [ast.Attribute(call.args[0], str(call.args[1].value), ast.Load())]
    if name in ELEMENTS and isinstance(call.func, ast.Name):
        return call.args
    return [call.func.value] if name in VIEWS and isinstance(call.func, ast.Attribute) else []


ELEMENTS = frozenset(("enumerate", "zip", "reversed", "iter", "next", "filter"))
"""Functions whose result yields the elements of their arguments."""
VIEWS = frozenset(("values", "items", "get", "setdefault", "pop", "popleft", "popitem"))
"""Methods whose result is a part of their container, or a view of it."""
