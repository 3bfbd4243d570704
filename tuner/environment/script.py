"""The script that `tuner env --script` prints: the modules of this tool that read an environment, in one file.

Nothing is written twice: the sources of the modules are the content of the script, and an importer in it loads them. Of
other libraries it has the part of `packaging` that reads versions, and a stand-in for msgspec.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = "tuner.environment.document"
"""The module that the script calls; all that it imports comes with it."""
EMBEDDED = ("tuner", "rules", "packaging")
"""The packages whose modules are put into the script."""
_STAND_IN = "tuner.environment.structs_stand_in"
_REPLACED = ("msgspec", "msgspec.structs")
_HEAD = '''#!/usr/bin/env python3
"""Prints what `tuner env --json` prints, for the Python that runs it. Made by `tuner env --script`.

    docker run -i --entrypoint python3 IMAGE - < tuner_env.py > image.json

It needs Python 3.10 or later and nothing else, reads files, and starts and writes nothing. SOURCES holds modules of the
tool, and of packaging (Apache-2.0 or BSD-2-Clause) the reader of versions.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit("tuner_env.py needs Python 3.10 or later, and this is " + sys.version.split()[0] + ".")

import enum
import importlib.abc
import importlib.util
import json
import os

if not hasattr(enum, "StrEnum"):  # before Python 3.11

    class StrEnum(str, enum.Enum):
        __str__ = str.__str__

    enum.StrEnum = StrEnum

SOURCES = {
'''
_TAIL = """}


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        inside = any(module.startswith(name + ".") for module in SOURCES)
        if name not in SOURCES and not inside:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=inside)

    def exec_module(self, module):
        name = module.__name__
        exec(compile(SOURCES.get(name, ""), "<tuner_env.py: " + name + ">", "exec"), module.__dict__)


sys.meta_path.insert(0, Importer())
from rules.errors import TunerError
from tuner.environment.document import environment_document
from tuner.environment.environment import read_environment

try:
    environment = read_environment(sys.argv[1] if len(sys.argv) > 1 else None, whole=True)
except TunerError as error:
    sys.exit("tuner_env.py: " + ascii(error.message)[1:-1])
try:
    print(json.dumps(environment_document(environment), indent=2), flush=True)
except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more at its end
    sys.exit("tuner_env.py: the document cannot be written: " + str(error.strerror))
"""


def script_text() -> str:
    """The whole script."""
    sources = _sources(ROOT)
    stand_in = _source(_STAND_IN)
    sources.update(dict.fromkeys(_REPLACED, stand_in))
    return _HEAD + "".join(map(_entry, sources, sources.values())) + _TAIL


def _entry(name: str, source: str) -> str:
    """A module as an entry of the dictionary, a line for each of its lines."""
    lines = "".join(f"        {line!a}\n" for line in source.splitlines(keepends=True))
    return f"    {name!r}: (\n{lines}    ),\n" if lines else f"    {name!r}: '',\n"


def _sources(root: str) -> dict[str, str]:
    """The sources of a module and of all embedded modules that it needs, by name."""
    sources: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _source(name)
            waiting += _needed(ast.parse(sources[name]), name)
    return dict(sorted(sources.items()))


def _needed(node: ast.AST, name: str) -> Iterator[str]:
    """The embedded modules that a module imports, inside of functions too, but not for types alone."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from filter(_is_embedded, (alias.name for alias in node.names))
    elif isinstance(node, ast.ImportFrom):
        base = f"{name.rpartition('.')[0]}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
        for module in (base, *(f"{base}.{alias.name}" for alias in node.names)):
            if _is_embedded(module):
                yield module
    for child in ast.iter_child_nodes(node):
        yield from _needed(child, name)


def _is_embedded(module: str) -> bool:
    """Whether a name is that of a module to embed, and not of something in a module."""
    if module.partition(".")[0] not in EMBEDDED:
        return False
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is a module without others in it
        return False


def _source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin).read_text(encoding="utf-8")
