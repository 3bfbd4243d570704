"""What the files of a vLLM say of `fast_moe_cold_start`: read from their syntax trees; none of their code runs."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from rules.releases import FLAG_KEY, TORCH_BOUND, Counting, FlagFacts, FlagForm
from tuner.untrusted.files import read_plain

COMPILATION = "config/compilation.py"
"""Declares the flag (0.15.1 to 0.33.0)."""
RESOLUTION = "config/vllm.py"
"""Resolves it, in `VllmConfig.__post_init__` (0.16.0 to 0.33.0)."""
CONTEXT = "forward_context.py"
"""Consults it, and lists the MoE layers of a pass (0.15.0 to 0.33.0)."""
TORCH = "utils/torch_utils.py"
"""Says from which torch on the flag is forced off (0.17.0 to 0.33.0)."""
MAX_SOURCE = 4 * 2**20
"""Bytes; the largest of these files has 158 KB in 0.32.0."""

_LAYERS = "moe_layers"
"""Part of each name that holds the layers to count: `remaining_moe_layers` (0.15.0), `static_all_moe_layers`."""
_NEW_TORCH = "HAS_OPAQUE_TYPE"
_TORCH_CHECK = "is_torch_equal_or_newer"


class _Guard(Struct, frozen=True):
    """A condition under which a statement runs: that `test` holds, or that it does not."""

    test: ast.expr
    holds: bool


_Guards = tuple[_Guard, ...]


def read_flag_facts(package: Path) -> FlagFacts:
    """The facts of the vLLM whose package is this folder; a fact is unknown if its files are unreadable or unclear."""
    compilation, context = _tree(package / COMPILATION), _tree(package / CONTEXT)
    if compilation is None:
        return FlagFacts()
    return FlagFacts(
        form=flag_form(compilation),
        counting=None if context is None else counting(compilation, context),
        forced_off_from=_forced_off_from(package, compilation),
    )


def mentions_flag(package: Path) -> bool | None:
    """Whether the file that declares the flag contains its name anywhere; None if it cannot be read."""
    source = _source(package / COMPILATION)
    return None if source is None else FLAG_KEY.encode() in source


def flag_form(compilation: ast.Module) -> FlagForm | None:
    """How `CompilationConfig` knows the flag; None if its file names the flag in a way that no release does."""
    declarations = _declarations(compilation)
    if not declarations:
        return None if _mentions(compilation) else FlagForm.ABSENT
    if len(declarations) > 1:
        return None
    return FlagForm.FIELD if _is_field(declarations[0]) else FlagForm.ATTRIBUTE


def counting(compilation: ast.Module, context: ast.Module) -> Counting | None:
    """When MoE calls are counted; None if the files name MoE layers in a way that no release does."""
    mentions = _mentions(context)
    if mentions:
        tests = sum(isinstance(node, ast.If) and _is_flag(node.test) for node in ast.walk(context))
        return Counting.FLAG if tests == mentions == 1 else None
    if _lists_layers(context):
        return Counting.ALWAYS
    return None if _lists_layers(compilation) else Counting.NEVER


def forced_off_by_torch(resolution: ast.Module) -> bool | None:
    """Whether `VllmConfig.__post_init__` forces the flag to false with a new torch; None if that is not clear.

    Two assignments are clear: `False` under `if HAS_OPAQUE_TYPE`, and a default under `is None`. Any other mention of
    the flag could also decide it.
    """
    forcing, mentions_of_defaults = 0, 0
    for statement, guards in _guarded(_method(resolution, "VllmConfig", "__post_init__"), ()):
        if not _assigns(statement):
            continue
        if _forces_off(statement, guards):
            forcing += 1
        elif guards and _is_unset(guards[-1]):
            mentions_of_defaults += 2  # the test for None, and the assignment
    if _mentions(resolution) != forcing + mentions_of_defaults:
        return None
    if forcing and not _imports_check(resolution):
        return None
    return bool(forcing)


def torch_bound(torch: ast.Module) -> str | None:
    """The lowest torch for which `HAS_OPAQUE_TYPE` is true; None if it is defined in another way."""
    stores = [node for node in ast.walk(torch) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    if sum(node.id == _NEW_TORCH for node in stores) != 1:
        return None
    for statement in torch.body:
        if isinstance(statement, ast.Assign) and _names(statement) == [_NEW_TORCH]:
            return _compared_with(statement.value)
    return None


def _forced_off_from(package: Path, compilation: ast.Module) -> str | None:
    """The first torch that forces the flag off, empty if none does; None if another place may decide it too."""
    resolution = _tree(package / RESOLUTION)
    if resolution is None or _mentions(compilation) > len(_declarations(compilation)):
        return None
    forced = forced_off_by_torch(resolution)
    if not forced:
        return None if forced is None else ""
    torch = _tree(package / TORCH)
    return None if torch is None else torch_bound(torch)


def _source(path: Path) -> bytes | None:
    """A file's bytes; None if it cannot be read or is larger than any source file of vLLM."""
    try:
        data = read_plain(path, MAX_SOURCE + 1)
    except OSError:
        return None
    return data if len(data) <= MAX_SOURCE else None


def _tree(path: Path) -> ast.Module | None:
    """A file's syntax tree; None if it cannot be read, or if this interpreter cannot parse it."""
    source = _source(path)
    if source is None:
        return None
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what hostile sources raise
        return None


def _mentions(tree: ast.Module) -> int:
    """How often code names the flag; comments and longer texts do not count."""
    return sum(_names_flag(node) for node in ast.walk(tree))


def _names_flag(node: ast.AST) -> bool:
    """Whether a node is the flag's name: an attribute, a variable, an argument, or a text, as for `setattr`."""
    for field in ("attr", "id", "arg", "value"):
        name = getattr(node, field, None)
        if isinstance(name, str) and name == FLAG_KEY:
            return True
    return False


def _lists_layers(tree: ast.Module) -> bool:
    """Whether code has a name for the MoE layers of a pass."""
    for node in ast.walk(tree):
        for field in ("attr", "id", "arg"):
            name = getattr(node, field, None)
            if isinstance(name, str) and _LAYERS in name:
                return True
    return False


def _class_body(tree: ast.Module, name: str) -> Sequence[ast.stmt]:
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return statement.body
    return ()


def _method(tree: ast.Module, owner: str, name: str) -> Sequence[ast.stmt]:
    for statement in _class_body(tree, owner):
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return statement.body
    return ()


def _declarations(compilation: ast.Module) -> list[ast.stmt]:
    return [statement for statement in _class_body(compilation, "CompilationConfig") if FLAG_KEY in _names(statement)]


def _names(statement: ast.stmt) -> list[str]:
    """The variables that an assignment binds."""
    targets: Sequence[ast.expr] = ()
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = (statement.target,)
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_field(declaration: ast.stmt) -> bool:
    """Whether a declaration of a dataclass is a field that a caller may set."""
    if not isinstance(declaration, ast.AnnAssign) or "ClassVar" in ast.unparse(declaration.annotation):
        return False
    value = declaration.value
    if not isinstance(value, ast.Call):
        return True
    return not any(keyword.arg == "init" for keyword in value.keywords)


def _guarded(statements: Sequence[ast.stmt], guards: _Guards) -> Iterator[tuple[ast.stmt, _Guards]]:
    """Each simple statement with the conditions under which it runs; loops, `try` and `with` count as one statement."""
    for statement in statements:
        if isinstance(statement, ast.If):
            yield from _guarded(statement.body, (*guards, _Guard(statement.test, holds=True)))
            yield from _guarded(statement.orelse, (*guards, _Guard(statement.test, holds=False)))
        else:
            yield statement, guards


def _assigns(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and len(statement.targets) == 1 and _is_flag(statement.targets[0])


def _forces_off(statement: ast.stmt, guards: _Guards) -> bool:
    """Whether a statement sets the flag to false under the test for a new torch, and under no other condition."""
    if not isinstance(statement, ast.Assign) or len(guards) != 1 or not guards[0].holds:
        return False
    test, value = guards[0].test, statement.value
    asks_torch = isinstance(test, ast.Name) and test.id == _NEW_TORCH
    return asks_torch and isinstance(value, ast.Constant) and value.value is False


def _is_unset(guard: _Guard) -> bool:
    """Whether a condition is that the flag is None."""
    test = guard.test
    if not guard.holds or not isinstance(test, ast.Compare) or not _is_flag(test.left):
        return False
    return ast.unparse(test).endswith(f".{FLAG_KEY} is None")


def _is_flag(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Attribute) and expression.attr == FLAG_KEY


def _imports_check(resolution: ast.Module) -> bool:
    """Whether the name in the test for a new torch comes from vllm/utils/torch_utils.py, and from nowhere else."""
    homes = []
    for node in ast.walk(resolution):
        if isinstance(node, ast.ImportFrom):
            homes += [node.module for alias in node.names if _NEW_TORCH in {alias.name, alias.asname}]
        elif isinstance(node, ast.Name) and node.id == _NEW_TORCH and isinstance(node.ctx, ast.Store):
            return False
    return homes == ["vllm.utils.torch_utils"]


def _compared_with(value: ast.expr) -> str | None:
    """The version in `is_torch_equal_or_newer("2.11.0.dev")`."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != _TORCH_CHECK or len(value.args) != 1:
        return None
    bound = value.args[0].value if isinstance(value.args[0], ast.Constant) else None
    return bound if isinstance(bound, str) and bound and TORCH_BOUND.fullmatch(bound) else None
