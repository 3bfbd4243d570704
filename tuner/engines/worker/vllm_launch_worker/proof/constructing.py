"""Finds functions that run only while a model is built, so that what they store cannot change between passes.

A function is judged by its name. Every mention of the name, in vLLM's files and in all modules that are imported, must
be a plain call, and must be in the constructor of a model or in a function that itself runs only while a model is
built. The constructor of a model is that of a class of the outermost module, or of a class that no code calls: vLLM's
registry finds it by its name.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vllm_launch_worker.proof.origin import is_of_worker, resolved
from vllm_launch_worker.proof.stores import (
    CONSTRUCTORS,
    constructs_again,
    ends_with_its_call,
    is_computed,
    is_dictionary,
    is_kept_in,
    is_mentioned,
    mentioned,
    outermost_functions,
    outliving,
    tree_of,
)

BESIDE_A_DRAFT = frozenset(("set_aux_hidden_state_layers",))
"""Functions of a model that vLLM's runners call only beside a draft (`load_model` in vllm/v1/worker, 0.16.0 to 0.32.0).
A launch with a draft is refused."""
RUNNERS = "/vllm/v1/worker/"
"""The part of a path that all files of vLLM's runners have."""
CHECKS = frozenset(("hasattr", "isinstance", "issubclass"))
"""Functions that do not call what they get."""


@dataclass(frozen=True)
class Mention:
    """A place that mentions a function or a class by its name.

    Attributes:
        name: the name.
        is_call: whether the place calls it and does nothing else with it.
        is_text: whether the place is a text.
        function: the name of the outermost function around the place. Empty for code that may run after this function
            has ended, and for code outside all functions.
        owner: the class around this function. Empty if it is no method.
        file: the file.
    """

    name: str
    is_call: bool
    is_text: bool
    function: str
    owner: str
    file: str


class Constructing:
    """The functions of some files that run only while a model is built.

    Args:
        files: the files whose functions are judged.
        everywhere: all files that may call one of these functions.
        classes: the names of the classes of the outermost module. vLLM makes one object of them.
        traced: the names of the functions that run in a pass.
    """

    def __init__(
        self, files: frozenset[str], everywhere: frozenset[str], classes: frozenset[str], traced: frozenset[str]
    ) -> None:
        files, everywhere = without_links(files), without_links(everywhere)
        self.files, self.everywhere = sorted(files), sorted(files | everywhere)
        self.classes = classes & classes_of(files)
        self.models: dict[str, bool] = {}
        calls_class = any(mention.is_call for file in self.files for mention in mentions_in(file, self.classes))
        computed = any(calls_by_computed_name(tree_of(file)) for file in self.files)
        builds_again = calls_class or constructs_again(frozenset(self.files)) or not CONSTRUCTORS.isdisjoint(traced)
        self.candidates = frozenset() if builds_again or computed else candidates(files) - traced

    def among(self, names: frozenset[str]) -> frozenset[str]:
        """Those of the functions with these names that run only while a model is built."""
        names &= self.candidates
        mentions = self._mentions_of(names)
        holding = {mention.function for mention in mentions} & self.candidates
        likely = self._not_refuted(names | holding, mentions) & reached(mentions)
        everywhere = [mention for file in self.everywhere for mention in mentions_in(file, likely)]
        return names & self._not_refuted(likely, everywhere)

    def _mentions_of(self, names: frozenset[str]) -> list[Mention]:
        """The mentions in the files of these functions, and of the functions that hold these mentions, and so on."""
        mentions: list[Mention] = []
        looked_for: frozenset[str] = frozenset()
        while names - looked_for:
            added = [mention for file in self.files for mention in mentions_in(file, names - looked_for)]
            mentions += added
            looked_for |= names
            names = self.candidates & {mention.function for mention in added}
        return mentions

    def _not_refuted(self, names: frozenset[str], mentions: list[Mention]) -> frozenset[str]:
        """Those of the functions with these names of which every mention is a call while a model is built."""
        while True:
            against = [mention for mention in mentions if not self._is_constructing(mention, names)]
            refuted = names.intersection(mention.name for mention in against)
            if not refuted:
                return names
            names -= refuted

    def _is_constructing(self, mention: Mention, names: frozenset[str]) -> bool:
        """Whether a mention is a call that runs only while a model is built.

        Args:
            mention: the mention.
            names: the functions that are not refuted so far.
        """
        if not mention.is_call:
            return False
        if mention.function != "__init__":
            return mention.function in names
        return (mention.owner in self.classes and mention.file in self.files) or self._is_model(mention.owner)

    def _is_model(self, name: str) -> bool:
        """Whether only vLLM's registry makes objects of a class. It does so before the first pass."""
        if name not in self.models:
            self.models[name] = bool(name) and self._is_never_called(name)
        return self.models[name]

    def _is_never_called(self, name: str) -> bool:
        """Whether no code calls a class or one that extends it, or does anything else with it than to check for it."""
        names = frozenset((name,))
        mentions: list[Mention] = []
        for file in self.everywhere:
            mentions += mentions_in(file, names)
        if any(not mention.is_text for mention in mentions):
            return False
        files = [file for file in self.everywhere if is_mentioned(name, file)]
        return all(self._is_model(kind) for file in files for kind in extending(tree_of(file), name))


def reached(mentions: list[Mention]) -> set[str]:
    """The functions that a constructor calls, directly or by others, and `BESIDE_A_DRAFT`.

    The others never run, or run for another reason. To look for their mentions everywhere would take long.
    """
    names: set[str] = set(BESIDE_A_DRAFT)
    while True:
        called = {mention.name for mention in mentions if mention.function in names | CONSTRUCTORS}
        if called <= names:
            return names
        names |= called


def classes_of(files: frozenset[str]) -> frozenset[str]:
    """The names of the classes that these files define."""
    nodes = [node for file in files for node in ast.walk(tree_of(file))]
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef))


def extending(tree: ast.Module, name: str) -> list[str]:
    """The names of the classes of a file that name this class as their base."""
    kinds = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [kind.name for kind in kinds if name in map(mentioned, kind.bases)]


def candidates(files: frozenset[str]) -> frozenset[str]:
    """The names of the functions that only calls by their names can start, and that end before such a call ends.

    Python calls functions with two underscores itself, and a decorator may keep a function for later.
    """
    names: set[str] = set()
    others: set[str] = set()
    for file in files:
        for function in outermost_functions(tree_of(file)):
            is_plain = isinstance(function, ast.FunctionDef) and ends_with_its_call(function)
            (names if is_plain else others).add(getattr(function, "name", ""))
    return frozenset(name for name in names - others if not name.startswith("__"))


def mentions_in(file: str, names: frozenset[str]) -> list[Mention]:
    """The mentions of these names in a file. `BESIDE_A_DRAFT` is left out in the files of vLLM's runners."""
    present = frozenset(name for name in names if is_mentioned(name, file))
    if RUNNERS in file:
        present -= BESIDE_A_DRAFT
    return list(mentions_outside(tree_of(file), file, present)) if present else []


def mentions_outside(node: ast.AST, file: str, names: frozenset[str], owner: str = "") -> Iterator[Mention]:
    """The mentions in a syntax tree that is not inside a function. Bases of classes are left out.

    Args:
        node: the root of the tree.
        file: the file of the tree.
        names: the names.
        owner: the class around it.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        yield from mentions_inside(node, file, names, owner)
        return
    name = mentioned(node)
    if name in names:
        yield Mention(name, is_call=False, is_text=isinstance(node, ast.Constant), function="", owner="", file=file)
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.ClassDef):
        owner, children = node.name, [child for child in children if child not in node.bases]
    for child in children:
        yield from mentions_outside(child, file, names, owner)


def mentions_inside(function: ast.AST, file: str, names: frozenset[str], owner: str) -> Iterator[Mention]:
    """The mentions in a function that is not inside another one. Arguments of `CHECKS` are left out.

    Args:
        function: the function.
        file: its file.
        names: the names.
        owner: the class around it.
    """
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    called = {id(call.func) for call in calls}
    checks = [argument for call in calls if mentioned(call.func) in CHECKS for argument in call.args]
    checked, later = identities_inside(checks), identities_inside(outliving(function))
    for node in ast.walk(function):
        name = mentioned(node)
        if name in names and id(node) not in checked:
            around = "" if id(node) in later else getattr(function, "name", "")
            is_call, is_text = id(node) in called, isinstance(node, ast.Constant)
            yield Mention(name, is_call=is_call, is_text=is_text, function=around, owner=owner, file=file)


def identities_inside(nodes: Sequence[ast.AST]) -> set[int]:
    """The identities (`id`) of these syntax nodes and of all nodes inside them."""
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def calls_by_computed_name(tree: ast.Module) -> bool:
    """Whether a file calls what it finds by a computed name, directly or by a variable, or an object's class."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if any(mentioned(call.func) in ("methodcaller", "eval", "exec", "__class__") for call in calls):
        return True
    if any(is_computed(call.func) or is_class_of(call.func) for call in calls):
        return True
    called_variables = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    around = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    computed = [node for node in ast.walk(tree) if is_computed(node) or is_looked_up(node)]
    return any(may_be_called(node, around, called_variables) for node in computed)


def bound_to(node: ast.AST, around: dict[int, ast.AST]) -> list[ast.expr]:
    """What code binds to a value, directly or by a loop over a list that holds it. Empty if it does something else."""
    user = around[id(node)]
    if is_kept_in(user):
        return user.targets
    loop = around[id(user)] if isinstance(user, ast.List) else None
    if isinstance(loop, (ast.For, ast.comprehension)) and loop.iter is user and isinstance(loop.target, ast.Name):
        return [loop.target]
    return []


def is_looked_up(node: ast.AST) -> bool:
    """Whether an expression is found by its name in a dictionary of all attributes."""
    return isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and is_dictionary(node.value)


def may_be_called(node: ast.AST, around: dict[int, ast.AST], called_variables: set[str]) -> bool:
    """Whether code may call a value, or keep it for a later call.

    Args:
        node: the syntax node of the value.
        around: identity (`id`) of each syntax node of the file -> the node around it.
        called_variables: the variables that the file calls.
    """
    targets = bound_to(node, around)
    if targets:
        return not called_variables.isdisjoint(map(mentioned, targets))
    user = around[id(node)]
    if isinstance(user, ast.Call):
        return mentioned(user.func) not in CHECKS | READERS
    return not isinstance(user, (ast.Attribute, ast.Compare, ast.UnaryOp, ast.If, ast.IfExp, ast.Return, ast.Expr))


READERS = frozenset(("bool", "getattr", "len", "set", "str"))
"""Functions that call no method of what they get by a name that only they know."""


def is_class_of(node: ast.AST) -> bool:
    """Whether an expression is the class of an object, found by `type`."""
    return isinstance(node, ast.Call) and mentioned(node.func) == "type"


def files_of_modules() -> frozenset[str]:
    """The Python files of all modules that are imported, without those of this worker."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return frozenset(file for file in files if file and file.endswith(".py") and not is_of_worker(file))


def without_links(files: frozenset[str]) -> frozenset[str]:
    """The paths without links. A RECORD's paths have none, those of modules may: a file must not count as two."""
    return frozenset(map(resolved, files))
