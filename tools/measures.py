"""Measures the source of the packages tuner, rules and cache, and prints one measure a line.

python tools/measures.py          # of this repository
python tools/measures.py FOLDER   # of the packages below another folder, such as an older commit

An import counts wherever it stands: at the top, inside a function, or for type checkers alone.
An arrow leads from the folder of a module to another folder from which it imports a module.
A circle is a group of files, or of folders, in which each reaches every other by imports.
A module directly in tuner/ counts as a folder of its own.
The folders of the workers run in other processes: arrows and circles between folders leave them out.
Lines of code are neither blank, nor a comment, nor a docstring.
"""

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("tuner", "rules", "cache")
WORKER_SUFFIX = "_worker"
"""The end of a worker's folder name."""
BARE_NAMES = frozenset(
    {
        "asked",
        "done",
        "found",
        "given",
        "gone",
        "held",
        "kept",
        "known",
        "left",
        "made",
        "one",
        "said",
        "seen",
        "shown",
        "taken",
        "told",
        "tried",
        "wanted",
    }
)
"""Names that do not say what the value is."""
LAYOUT = frozenset(
    {
        tokenize.COMMENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
        tokenize.INDENT,
        tokenize.NEWLINE,
        tokenize.NL,
    }
)
"""Kinds of token that are not code."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FULL_SHARE = 100

Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        folder: its folder, relative to the measured one.
        module: the dotted name by which other files import it.
        text: its content.
        tree: its syntax tree.
    """

    folder: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def in_worker(self) -> bool:
        """Whether it belongs to a worker."""
        return any(part.endswith(WORKER_SUFFIX) for part in self.folder.parts)


def main() -> None:
    """Print the measures of the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Measure the packages tuner, rules and cache.")
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY)
    sources = read_sources(parser.parse_args().folder)
    if not sources:
        parser.error("there is no Python file of these packages below the folder")
    rows = [*structure_rows(sources), *style_rows(sources)]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:<{width}}  {value:>8}")


def read_sources(root: Path) -> list[Source]:
    """Every Python file of the packages below a folder."""
    sources = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            relative = path.relative_to(root)
            sources.append(Source(relative.parent, module_name(relative), text, ast.parse(text, str(relative))))
    return sources


def module_name(path: Path) -> str:
    """The dotted name of a file; that of a worker's file begins with the worker's own folder."""
    starts = [index for index, part in enumerate(path.parts[:-1]) if part.endswith(WORKER_SUFFIX)]
    parts = path.with_suffix("").parts[starts[-1] if starts else 0 :]
    return ".".join(parts).removesuffix(".__init__")


def structure_rows(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """The measures of files, folders and imports."""
    files = file_graph(sources)
    folders = folder_graph(sources, files)
    return [
        ("Python files", str(len(sources))),
        ("folders", str(len({source.folder for source in sources}))),
        ("modules directly in tuner/", str(sum(source.folder == Path("tuner") for source in sources))),
        ("arrows between folders", str(sum(map(len, folders.values())))),
        ("circles between files", str(len(circles(files)))),
        ("circles between folders", str(len(circles(folders)))),
    ]


def style_rows(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """The measures of lines, expressions and names."""
    code = sum(map(count_code_lines, sources))
    nodes = list(chain.from_iterable(ast.walk(source.tree) for source in sources))
    names = list(chain.from_iterable(map(bound_names, nodes)))
    comprehensions = sum(isinstance(node, COMPREHENSIONS) for node in nodes)
    conditionals = sum(isinstance(node, ast.IfExp) for node in nodes)
    return [
        ("lines", str(sum(len(source.text.splitlines()) for source in sources))),
        ("lines of code", str(code)),
        ("comprehensions per 100 lines of code", per_hundred(comprehensions, code)),
        ("conditional expressions per 100 lines of code", per_hundred(conditionals, code)),
        ("bare names, % of bound names", per_hundred(sum(name in BARE_NAMES for name in names), len(names))),
    ]


def per_hundred(count: int, whole: int) -> str:
    """A count for each hundred of the whole, with two digits behind the point."""
    return f"{FULL_SHARE * count / whole:.2f}"


def file_graph(sources: Sequence[Source]) -> Graph:
    """Module -> the modules of the packages that it imports."""
    modules = frozenset(source.module for source in sources)
    return {source.module: set(imported_modules(source.tree, modules)) - {source.module} for source in sources}


def imported_modules(tree: ast.Module, modules: frozenset[str]) -> Iterator[str]:
    """The modules, of those given, that a file imports; all imports of this project are absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from modules.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            for alias in node.names:
                full_name = f"{package}.{alias.name}"
                yield from modules & {full_name if full_name in modules else package}


def folder_graph(sources: Sequence[Source], files: Graph) -> Graph:
    """Folder -> the other folders from which its modules import; without the workers' folders."""
    folder_of = {source.module: room_of(source) for source in sources if not source.in_worker}
    graph: dict[str, set[str]] = {folder: set() for folder in folder_of.values()}
    for module, folder in folder_of.items():
        targets = {folder_of[target] for target in files[module] if target in folder_of}
        graph[folder] |= targets - {folder}
    return graph


def room_of(source: Source) -> str:
    """Where a module stands: in its folder, or alone if it lies directly in `tuner/`, where each is a subject."""
    return source.module if source.folder == Path("tuner") else str(source.folder)


def circles(graph: Graph) -> set[frozenset[str]]:
    """The groups of more than one node in which each node reaches every other."""
    reached = {node: reachable(graph, node) for node in graph}
    groups = set()
    for node in graph:
        mutual = frozenset(other for other in reached[node] if node in reached[other])
        if len(mutual) > 1:
            groups.add(mutual)
    return groups


def reachable(graph: Graph, start: str) -> set[str]:
    """The nodes to which arrows lead from a node, directly or through others."""
    nodes: set[str] = set()
    pending = [*graph[start]]
    while pending:
        node = pending.pop()
        if node not in nodes:
            nodes.add(node)
            pending += graph[node]
    return nodes


def count_code_lines(source: Source) -> int:
    """The lines that hold code: neither blank, nor a comment, nor part of a docstring."""
    lines = source.text.splitlines()
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type not in LAYOUT:
            numbers.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and is_text(node.value):
            numbers.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(lines[number - 1].strip()) for number in numbers)


def is_text(expression: ast.expr) -> bool:
    """Whether an expression is a plain string, which as a statement is a docstring."""
    return isinstance(expression, ast.Constant) and isinstance(expression.value, str)


def bound_names(node: ast.AST) -> Iterator[str]:
    """The name that a node binds: of a function, an argument, a variable, or an attribute of a class."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
        yield node.attr


def is_self(expression: ast.expr) -> bool:
    """Whether an expression is the object of a method."""
    return isinstance(expression, ast.Name) and expression.id == "self"


if __name__ == "__main__":
    main()
