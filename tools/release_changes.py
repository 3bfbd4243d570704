"""What changed between two releases of vLLM around the flag, the counter, the guards and the keys of the compile cache.

Both are given as folders of the package `vllm`. Files are parsed, and nothing of vLLM is run. A unit of code is a
function, a method, the fields of a class, or an assignment of a module; comments, docstrings and layout do not count.
"""

import ast
import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from rules.releases import FlagFacts
from tools.make_compile_variables import key_variables
from tuner.environment.flag_files import COMPILATION, read_flag_facts

MAX_SOURCE = 4 * 2**20
"""Bytes; no source file of vLLM is larger."""
ENVS = "envs.py"
MODELS = "model_executor/models"
REGISTRY = f"{MODELS}/registry.py"
MOE_LAYERS = "fused_moe"
"""The package of vLLM with its MoE layers. A model that builds one imports it."""

Units = dict[str, str]
"""`FILE NAME` of a unit -> its code."""


class Topic(Struct, frozen=True):
    """A part of vLLM that the tool relies on.

    Attributes:
        name: its name in the report.
        words: a unit of code that holds one of these words is of the topic.
        folders: where its units are searched for; empty: everywhere.
    """

    name: str
    words: re.Pattern[str]
    folders: tuple[str, ...] = ()


TOPICS = (
    Topic("flag", re.compile(r"fast_moe_cold_start")),
    Topic(
        "counter",
        re.compile(
            r"moe_layer_index|all_moe_layers|remaining_moe_layers|['\"]from_forward_context['\"]|get_layer_from_name"
            r"|\._encode_layer_name|_select_forward|HAS_OPAQUE_TYPE"
        ),
    ),
    Topic("guards", re.compile(r"guard", re.IGNORECASE), ("compilation",)),
    Topic("keys", re.compile(r"compute_hash|compile_factors|hash_factors|cache_key"), ("compilation", "config", ENVS)),
)


class Change(Struct, frozen=True):
    """A unit of code that is not the same in both releases.

    Attributes:
        unit: its file and name.
        kind: `new`, `gone` or `changed`.
        lines: what was taken out and put in, each line behind `-` or `+`.
    """

    unit: str
    kind: str
    lines: tuple[str, ...]


class Comparison(Struct, frozen=True):
    """Two releases side by side.

    Attributes:
        facts: what the files of the old and the new one say of the flag.
        topics: topic -> its units that differ, by file and name.
        units: topic -> how many units the new release has.
        variables: names that the key of the compile cache gained and lost.
        config_keys: keys that the compilation config gained and lost.
        architectures: names that vLLM's registry of models gained and lost. A gained architecture has a note if its
            files name vLLM's MoE layers.
    """

    facts: tuple[FlagFacts, FlagFacts]
    topics: Mapping[str, tuple[Change, ...]]
    units: Mapping[str, int]
    variables: tuple[tuple[str, ...], tuple[str, ...]]
    config_keys: tuple[tuple[str, ...], tuple[str, ...]]
    architectures: tuple[tuple[str, ...], tuple[str, ...]]


def compare(old: Path, new: Path) -> Comparison:
    """Compare two packages.

    Raises:
        OSError: a file that both releases need is missing.
        SyntaxError: a file is not Python as this interpreter reads it.
        TypeError: vllm/envs.py does not have the tables of variables.
    """
    before, after = units_by_topic(old), units_by_topic(new)
    return Comparison(
        facts=(read_flag_facts(old), read_flag_facts(new)),
        topics={topic.name: changes(before[topic.name], after[topic.name]) for topic in TOPICS},
        units={topic.name: len(after[topic.name]) for topic in TOPICS},
        variables=_gained_and_lost(key_variables(_text(old / ENVS)), key_variables(_text(new / ENVS))),
        config_keys=_gained_and_lost(config_keys(_text(old / COMPILATION)), config_keys(_text(new / COMPILATION))),
        architectures=_changed_architectures(old, new),
    )


def units_by_topic(package: Path) -> dict[str, Units]:
    """Topic -> its units of code in a package."""
    by_topic: dict[str, Units] = {topic.name: {} for topic in TOPICS}
    for file in sorted(package.rglob("*.py")):
        name, source = file.relative_to(package).as_posix(), _text(file)
        topics = [topic for topic in TOPICS if _is_in(name, topic.folders) and topic.words.search(source)]
        units = units_of(ast.parse(source)) if topics else {}
        for topic in topics:
            by_topic[topic.name] |= {f"{name} {unit}": code for unit, code in units.items() if topic.words.search(code)}
    return by_topic


def units_of(tree: ast.Module) -> Units:
    """Name -> code of every unit of a module; of several with one name, one below the other."""
    units: Units = {}
    for name, node in _named_units(tree.body, ""):
        code = ast.unparse(_without_docstring(node))
        units[name] = f"{units[name]}\n{code}" if name in units else code
    return units


def changes(old: Units, new: Units) -> tuple[Change, ...]:
    """The units that differ, sorted by file and name."""
    differing = []
    for unit in sorted(old.keys() | new.keys()):
        before, after = old.get(unit, ""), new.get(unit, "")
        if before != after:
            differing.append(Change(unit, _kind(before, after), tuple(_line_changes(before, after))))
    return tuple(differing)


def _kind(before: str, after: str) -> str:
    if before and after:
        return "changed"
    return "new" if after else "gone"


def architectures(package: Path) -> dict[str, str]:
    """Architecture -> module, of a package's registry of models."""
    modules: dict[str, str] = {}
    for node in ast.walk(ast.parse(_text(package / REGISTRY))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and _module_of(value):
                    modules[str(key.value)] = _module_of(value)
    return modules


def _changed_architectures(old: Path, new: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The architectures that were gained and lost. A gained architecture with MoE layers in its files has a note."""
    modules = architectures(new)
    gained, lost = _gained_and_lost(set(architectures(old)), set(modules))
    noted = [f"{name}, with MoE layers" if _names_moe_layers(new, modules[name]) else name for name in gained]
    return tuple(noted), lost


def _module_of(value: ast.expr) -> str:
    """The module in an entry of the registry, which is a pair of a module and a class. Empty for another value."""
    parts = value.elts if isinstance(value, ast.Tuple) else []
    names = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return names[0] if len(names) == len(parts) == MODULE_AND_CLASS else ""


MODULE_AND_CLASS = 2


def _names_moe_layers(package: Path, module: str) -> bool:
    """Whether a file of a module of models names vLLM's MoE layers. A module of another package has no such file."""
    path = package.parent / module.replace(".", "/") if module.startswith("vllm.") else package / MODELS / module
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_name(f"{path.name}.py")]
    return any(MOE_LAYERS in _text(file) for file in files if file.is_file())


def config_keys(compilation: str) -> set[str]:
    """The fields of `CompilationConfig` that a launch may set."""
    keys = set()
    for node in ast.walk(ast.parse(compilation)):
        if isinstance(node, ast.ClassDef) and node.name == "CompilationConfig":
            keys = set(itertools.chain.from_iterable(map(_settable, node.body)))
    return keys


def _settable(statement: ast.stmt) -> Iterator[str]:
    """The name of a field that the constructor takes."""
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        return
    text = ast.unparse(statement)
    if "ClassVar" not in ast.unparse(statement.annotation) and "init=False" not in text:
        yield statement.target.id


def _named_units(body: Iterable[ast.stmt], inside: str) -> Iterator[tuple[str, ast.stmt]]:
    """The units of a module or a class, by their names."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _named_units(node.body, f"{inside}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{inside}{node.name}", node
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _named_units(_bodies(node), inside)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield f"{inside}{', '.join(map(ast.unparse, targets))}", node


def _bodies(node: ast.If | ast.Try) -> Iterator[ast.stmt]:
    """All statements of a branch or of an attempt, in their order."""
    yield from node.body
    for handler in node.handlers if isinstance(node, ast.Try) else ():
        yield from handler.body
    yield from node.orelse
    yield from node.finalbody if isinstance(node, ast.Try) else ()


def _without_docstring(node: ast.stmt) -> ast.stmt:
    """A function without its docstring; anything else as it is."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return node


def _line_changes(before: str, after: str) -> Iterator[str]:
    """The lines that were taken out and put in."""
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            yield line


def _is_in(file: str, folders: tuple[str, ...]) -> bool:
    return not folders or file.partition("/")[0] in folders


def _gained_and_lost(old: set[str], new: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(sorted(new - old)), tuple(sorted(old - new))


def _text(file: Path) -> str:
    """A source file, within the limit.

    Raises:
        OSError: it cannot be read, or it is larger than any source file of vLLM.
    """
    if file.stat().st_size > MAX_SOURCE:
        raise OSError(f"{file} is larger than {MAX_SOURCE} bytes")
    return file.read_text(encoding="utf-8")
