"""Reads which variables each release puts in its compile-cache key, and writes rules/compile_variables.py.

.venv/bin/python -m tools.make_compile_variables    # after `make setup setup-flag-live setup-all-parsers`

Source: `environment_variables` and the `ignored_factors` of `compile_factors` in vllm/envs.py of each release. The
files are parsed, and nothing of vLLM is run.
"""

import ast
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from rules.releases import numbers_of

ROOT = Path(__file__).parents[1]
FILE = ROOT / "rules" / "compile_variables.py"
ENVIRONMENTS = ROOT / ".envs"
WHOLE = {"0.19.1": "flag-live", "0.32.0": "current"}
"""Release -> the environment in which it is installed."""
HEAD = '''"""Which variables count in the key of vLLM's compile cache, by release. Pure.

Written by tools/make_compile_variables.py from vllm/envs.py of each release (`environment_variables` without the
`ignored_factors` of `compile_factors`); do not edit.
"""

'''


def main() -> None:
    """Read every release at hand, and write the table."""
    FILE.write_text(module(files_at_hand()), encoding="utf-8")


def files_at_hand() -> dict[str, Path]:
    """The `vllm/envs.py` of each release, oldest first."""
    files = {folder.name: folder / "vllm" / "envs.py" for folder in (ENVIRONMENTS / "parsers").glob("*")}
    for release, environment in WHOLE.items():
        files[release] = next((ENVIRONMENTS / environment).glob("lib/*/site-packages/vllm/envs.py"))
    return {release: files[release] for release in sorted(files, key=numbers_of)}


def module(files: Mapping[str, Path]) -> str:
    """The text of the module that holds the table."""
    variables_of = {release: key_variables(file.read_text(encoding="utf-8")) for release, file in files.items()}
    releases = list(variables_of)
    spans: dict[tuple[str, str], list[str]] = {}
    for name in sorted(set().union(*variables_of.values())):
        for span in spans_of([release for release in releases if name in variables_of[release]], releases):
            spans.setdefault(span, []).append(name)
    lines = ["RELEASES = (", *(f'    "{release}",' for release in releases), ")"]
    lines += ['"""The releases that were read."""', "VARIABLES = {"]
    for (first, last), names in sorted(spans.items(), key=lambda item: tuple(map(numbers_of, item[0]))):
        lines += [f'    ("{first}", "{last}"): """', *textwrap.wrap(" ".join(names), 118), '""",']
    lines += ["}", '"""The variables that count from one release to another, both included."""']
    return HEAD + "\n".join(lines) + "\n"


def key_variables(source: str) -> set[str]:
    """The variables of vLLM that count in the key, as a `vllm/envs.py` lists them.

    Raises:
        TypeError: the file does not have the two tables.
    """
    tree = ast.parse(source)
    tables: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        tables |= _assignment(node)
    variables, ignored = tables.get("environment_variables"), tables.get("ignored_factors")
    if not isinstance(variables, ast.Dict) or not isinstance(ignored, ast.Set):
        raise TypeError("vllm/envs.py has other tables than before")
    names = {key.value for key in variables.keys if isinstance(key, ast.Constant)}
    names -= {item.value for item in ignored.elts if isinstance(item, ast.Constant)}
    return {name for name in names if isinstance(name, str) and name.startswith("VLLM_")}


def spans_of(members: Sequence[str], releases: Sequence[str]) -> list[tuple[str, str]]:
    """The runs of neighbouring releases, each as its first and its last release."""
    spans: list[tuple[str, str]] = []
    for release in members:
        before = releases[releases.index(release) - 1] if release != releases[0] else None
        if spans and spans[-1][1] == before:
            spans[-1] = (spans[-1][0], release)
        else:
            spans.append((release, release))
    return spans


def _assignment(node: ast.AST) -> dict[str, ast.expr]:
    """Name -> value, of a statement that assigns; empty for another node."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    else:
        return {}
    return {target.id: node.value for target in targets if isinstance(target, ast.Name) and node.value is not None}


if __name__ == "__main__":
    main()
