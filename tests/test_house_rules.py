"""The rules of the house, read from the sources: who may know whom, what is never done, how hard a function may be."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from textwrap import indent

import pytest
from complexipy import code_complexity

ROOT = Path(__file__).parents[1]
WORKER = "tuner/*worker/*"
"""The folders of the workers: they run in serving environments, and nobody imports them."""
SHARED_WORKER = "shared_worker"
"""What both workers import."""
WORKERS = ("moe_probe_worker", "vllm_launch_worker", "vllm_arm_worker", SHARED_WORKER)
BELOW = {"vllm_arm_worker": {"vllm_launch_worker"}}
"""Worker -> the other worker that it extends: an arm is an engine of a launch."""
STARTER, SERVER = "tuner/processes/worker_process.py", "tuner/processes/server_process.py"
FORKER = "tuner/engines/worker/vllm_launch_worker/forks.py"
OURS = ("tuner", "rules", "cache")
HOMES = {
    "typer": "tuner/cli/*.py",
    "msgspec": "*",
    "pydantic": "tuner/exchange/bundle_line.py",
    "sqlitedict": "cache/verdicts/store.py",
    "yaml": "tuner/yaml_text.py",
    "huggingface_hub": "tuner/model/hub_answer.py",
    "anyio": "tuner/service/*.py",
    "cryptography": "tuner/service/*.py",
    "jinja2": "tuner/report/page.py",
    "markupsafe": "tuner/report/page.py",
    "minisign": "tuner/exchange/signing.py",
    "packaging": "rules/releases.py",
    "ray": "tuner/fleet/ray_sweep.py",
    "rich": "tuner/cli/*.py",
    "ruamel": "tuner/manifests/yaml/source.py",
    "prometheus_client": "tuner/service/metrics.py",
    "starlette": "tuner/service/*.py",
    "uvicorn": "tuner/service/*.py",
    "zstandard": "cache/compiled/archive/*.py",
    "sympy": WORKER,
    "torch": WORKER,
    "transformers": WORKER,
    "triton": WORKER,
    "vllm": WORKER,
}
"""Third-party library -> the files that may import it."""
DISTRIBUTIONS = {"minisign": "py-minisign", "yaml": "PyYAML"}
"""Name on the index where it is not the import's."""
MAX_COMPLEXITY = 15
"""The highest cognitive complexity of a function, as complexipy counts it: branches, loops, and how deep they nest."""
IMPORTED_LATE = (
    "tuner/engines/worker/vllm_launch_worker/proof/attention.py",
    "tuner/engines/worker/vllm_launch_worker/stamp_kernel.py",
)
"""Modules that are imported inside a function, or by vLLM itself: Triton compiles a kernel from its module's globals,
and vLLM asks for a class by its path."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def read(file: str) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


SOURCES = {
    file: read(file)
    for file in sorted(path.relative_to(ROOT).as_posix() for folder in OURS for path in (ROOT / folder).rglob("*.py"))
}
TESTS = {f"tests/{path.name}": read(f"tests/{path.name}") for path in sorted((ROOT / "tests").glob("test_*.py"))}


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each imported module in dotted form, with its line; `from a import b` gives both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((name, node.lineno) for name in (module, *(f"{module}.{alias.name}" for alias in node.names)))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call by its written name: `os.execve`, `exec`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def root(module: str) -> str:
    """The top-level package of a dotted name."""
    return module.partition(".")[0]


def offences(pattern: str, *, outside: str = "") -> list[str]:
    """Places that use something (`subprocess.*`, `*.fork`), imported or called by its full name, outside some files."""
    used = [
        (file, name, line)
        for file, tree in SOURCES.items()
        for name, line in [*imports(tree), *((name, call.lineno) for name, call in calls(tree))]
        if re.fullmatch(pattern, name)
    ]
    return [f"{file}:{line} {name}" for file, name, line in used if not fnmatchcase(file, outside)]


def test_there_are_sources_to_read() -> None:
    """The rules below hold for every source file of the three packages and the worker, not for none."""
    assert {root(file.replace("/", ".")) for file in SOURCES} == set(OURS)
    for worker in WORKERS:
        assert sum(fnmatchcase(file, f"{WORKER}{worker}/*") for file in SOURCES) > 5
    assert len(SOURCES) > 40


# ---- who may know whom


def test_rules_do_no_io() -> None:
    """No clock, disk, environment, network or process in `rules`."""
    outer = "asyncio datetime io os pathlib random shutil socket sqlite3 subprocess sys tempfile threading time urllib"
    for file, tree in SOURCES.items():
        if file.startswith("rules/"):
            assert not {root(name) for name, _ in imports(tree)} & set(outer.split())
            assert not {name for name, _ in calls(tree)} & {"open", "print", "input"}


@pytest.mark.parametrize("worker", WORKERS)
def test_nobody_imports_a_worker(worker: str) -> None:
    """A worker is known by path alone, outside itself; what both need is imported by the workers alone."""
    has_extension = any(worker in others for others in BELOW.values())
    outside = WORKER if worker == SHARED_WORKER or has_extension else f"{WORKER}{worker}/*"
    assert not offences(rf"(.*\.)?((probe|engines|processes)\.worker|{worker})(\..*)?", outside=outside)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_imports_nothing_of_ours(worker: str) -> None:
    """Of the project it knows its own package, the shared one, and the worker that it extends."""
    own = [tree for file, tree in SOURCES.items() if f"/{worker}/" in file]
    known = {root(name) for tree in own for name, _ in imports(tree)}
    assert not known & {*OURS, *WORKERS} - {worker, SHARED_WORKER, *BELOW.get(worker, set())}


def test_imports_are_absolute() -> None:
    """Every import names its package, so that the rules here see it."""
    assert not offences(r"\..*")


def test_layers_are_held(tmp_path: Path) -> None:
    """`.importlinter` says who may import whom; an import that goes upwards, or in a circle, is found."""
    for package in OURS:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    for file, line in (("tuner/launch/plan.py", "tuner.cli.output"), ("cache/key.py", "rules.verdict")):
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"import {line}\n")
    text = lint_imports(tmp_path).stdout
    assert "tuner.launch.plan -> tuner.cli.output" in text
    assert "cache.key -> rules.verdict" in text
    assert "No cycles are allowed in tuner." in text


def lint_imports(folder: Path) -> "subprocess.CompletedProcess[str]":
    """What import-linter says of the packages in a folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library: str) -> None:
    """A third-party library is imported in its home only, and is imported there."""
    using = {file for file, tree in SOURCES.items() if library in {root(name) for name, _ in imports(tree)}}
    assert not [file for file in using if not fnmatchcase(file, HOMES[library])]
    assert using


def test_no_other_library_is_imported() -> None:
    """Beside the standard library, our packages and the libraries with a home there is nothing."""
    known = {*sys.stdlib_module_names, *OURS, *HOMES, *WORKERS}
    strange = {root(name) for tree in SOURCES.values() for name, _ in imports(tree)} - known
    assert not strange


@pytest.mark.parametrize("library", ["torch", "transformers", "triton", "vllm"])
def test_heavy_libraries_are_imported_inside_functions(library: str) -> None:
    """The worker reads its request before it imports what takes seconds and may fail."""
    for file, tree in SOURCES.items():
        if file in IMPORTED_LATE:
            continue
        inside = {line for function in functions(tree) for name, line in imports(function)}
        assert not [f"{file}:{line}" for name, line in imports(tree) if root(name) == library and line not in inside]


def test_dependencies_are_those_with_a_home() -> None:
    """pyproject.toml asks for exactly the libraries that are imported, and for typer below 0.29.

    typer 0.29 imports pydantic on every command. What signs bundles and what the service needs are extras.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    entries = [*project["dependencies"], *extras["sign"], *extras["service"], *extras["ray"]]
    asked = {re.split(r"[^\w-]", entry)[0]: entry for entry in entries}
    assert set(asked) == {DISTRIBUTIONS.get(name, name) for name, home in HOMES.items() if home != WORKER}
    assert asked["typer"].endswith(",<0.29")


# ---- what is never done


def test_two_modules_start_processes() -> None:
    """One starts workers, another one servers; a worker that has imported vLLM forks its engines."""
    found = offences(r"(subprocess|multiprocessing|concurrent\.futures|asyncio|pty)(\..*)?", outside=STARTER)
    assert [place for place in found if not place.startswith(f"{SERVER}:")] == []
    assert not offences(r"os\.(forkpty|posix_spawnp?|spawn\w+|popen|startfile)")
    assert not offences(r"os\.fork", outside=FORKER)
    assert "os.fork" in {name for name, _ in calls(SOURCES[FORKER])}
    assert "subprocess" in {name for name, _ in imports(SOURCES[STARTER])}


def test_one_module_execs() -> None:
    """Only `tuner serve` replaces its process."""
    assert not offences(r"os\.exec\w+", outside="tuner/launch/serve.py")
    assert "os.execve" in {name for name, _ in calls(SOURCES["tuner/launch/serve.py"])}


def test_nothing_is_unpickled_or_evaluated() -> None:
    """No pickle, no marshal, no evaluated text, no YAML that makes objects.

    One file evaluates formulas on the number of tokens, which torch prints from its own guards.
    """
    assert not offences(r"(c?pickle|cloudpickle|dill|joblib|marshal|shelve|jsonpickle)(\..*)?")
    evaluating = r"eval|exec|compile|__import__|builtins\..*|runpy(\..*)?|code|code\.(interact|compile_command|Inter.*)"
    assert not offences(evaluating, outside="tuner/probe/worker/moe_probe_worker/guards.py")
    assert not offences(r"yaml\.(load|load_all|full_load|unsafe_load|dump|Loader)(\..*)?")


def test_no_shell_is_used() -> None:
    """Commands are argument lists; no text is given to a shell."""
    assert not offences(r"os\.system|subprocess\.(getoutput|getstatusoutput)|(.*\.)?create_subprocess_shell")
    shells = [
        f"{file}:{call.lineno}"
        for file, tree in SOURCES.items()
        for _, call in calls(tree)
        for keyword in call.keywords
        if keyword.arg == "shell" or (keyword.arg is None and "Popen" in ast.unparse(call.func))
    ]
    assert not shells


# ---- how hard a function may be, and what describes it


def too_complex(file: str, text: str) -> list[str]:
    """`file:function complexity` of each function above the limit; a comment that exempts one is not heeded.

    A function inside another one counts towards that one.
    """
    counted = code_complexity(text, no_ignore=True, with_plans=False).functions
    return [
        f"{file}:{function.name} {function.complexity}" for function in counted if function.complexity > MAX_COMPLEXITY
    ]


def nested_branches(count: int) -> str:
    """Source text of that many branches, each inside the one before; they add 1, 2, 3, … to the complexity."""
    lines = [f"{'    ' * depth}if word[{depth}]:" for depth in range(1, count + 1)]
    return "\n".join([*lines, "    " * (count + 1) + "pass", ""])


def test_functions_are_not_complex() -> None:
    """No function has a cognitive complexity above 15."""
    excessive = []
    for file in SOURCES:
        excessive += too_complex(file, (ROOT / file).read_text(encoding="utf-8"))
    assert not excessive, "\n".join(excessive)


@pytest.mark.parametrize(
    "head",
    [
        "def f(word):\n",
        "async def f(word):\n",
        "def f(word):  # complexipy: ignore\n",
        "def f(word):  # noqa: complexipy\n",
    ],
)
def test_a_complex_function_is_found(head: str) -> None:
    """A function above the limit is named with its number, exempted by a comment or not; one at the limit is not."""
    assert too_complex("x.py", head + nested_branches(6)) == ["x.py:f 21"]
    assert too_complex("x.py", head + nested_branches(5) + "    return word or None\n") == ["x.py:f 16"]
    assert too_complex("x.py", head + nested_branches(5)) == []


def test_a_complex_method_is_found() -> None:
    """Methods are counted, and so are functions inside a function, with the one that holds them."""
    branches = nested_branches(6)
    method = "class C:\n" + indent(f"def f(word):\n{branches}", "    ")
    inner = "def outer():\n" + indent(f"def f(word):\n{branches}", "    ")
    assert too_complex("x.py", method) == ["x.py:C::f 21"]
    assert too_complex("x.py", inner) == ["x.py:outer 27"]


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """The module and its public classes, functions and methods."""
    yield "module", tree
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, owner = pending.pop()
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    pending.append((f"{prefix}{node.name}.", node))


def test_everything_public_is_described() -> None:
    """Every public module, class, function and method has a docstring."""
    assert not [
        f"{file} {name}"
        for file, tree in SOURCES.items()
        for name, node in public(tree)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("file", TESTS)
def test_every_test_states_its_promise(file: str) -> None:
    """Every test function has a docstring that is a sentence."""
    for function in functions(TESTS[file]):
        if function.name.startswith("test_"):
            promise = ast.get_docstring(function) or ""
            assert promise.endswith("."), f"{file}:{function.lineno} {function.name}"


# ---- what the text of the repository never says

MADE = ("__pycache__", "build", "dist", "*.egg-info", ".[!c]*", ".cache")
"""Folders that are made, installed or kept by tools; of hidden ones only `.ci` is ours."""
PUBLISHED = ("tests/manifests", "tests/schemas")
"""Texts that others published, kept as they are."""
MADE_UP = "somebody|user|me|you"
"""Users who own no machine, for examples."""
FORBIDDEN = {
    # One letter of each word stands in brackets, so that this file does not name what it forbids.
    "a path of one machine": rf"(?<![\w.)}}\]*~-])/(w[o]rk|r[o]ot|Us[e]rs|h[o]me(?!/({MADE_UP})\b))/",
    "a registry's host": r"p[y]pi\.org|p[y]thonhosted",
    "who or what wrote it": r"\b(Cl[a]ude|Anthr[o]pic|Ch[a]tGPT|C[o]pilot)\b|(?i:\b(LLM|AI)-(written|g[e]nerated))",
    "a worker of this kind": r"(?i)\b(an?|the|this|our|your|AI|sub|c[o]ding)[ -]ag[e]nts?\b|\bag[e]ntic\b",
    "a session": r"(?i)\bs[e]ssion[ _-]?ids?\b|\b(this|my|our) s[e]ssion\b|\bthis w[o]rkplace\b",
}
ONE_HOME = {"the hub's address": (r"h[u]ggingface\.co\b", "tuner/model/hub.py")}


@cache
def texts() -> dict[str, str]:
    """Every text file of the repository; what is made, installed or hidden by tools is left out."""
    found = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatchcase(name, made) for made in MADE)]
        for path in (Path(folder, name) for name in files):
            if path.relative_to(ROOT).as_posix().startswith(PUBLISHED):
                continue
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return found


def named(pattern: str) -> list[str]:
    """`file:line text` of every line that the pattern finds."""
    return [
        f"{file}:{number} {line.strip()[:100]}"
        for file, text in texts().items()
        if re.search(pattern, text)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_repository_does_not_name(what: str) -> None:
    """No file names a development machine's paths, a registry, or who or what wrote it."""
    assert not named(FORBIDDEN[what])


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /{}/main/x.py"),
        ("a path of one machine", "`/h{}me/jane/x`"),
        ("a registry's host", "https://p{}pi.org/simple"),
        ("who or what wrote it", "Co-Authored-By: Cl{}ude"),
        ("a worker of this kind", "the ag{}nt found"),
        ("a session", "session{}id 7"),
    ],
)
def test_the_patterns_find_what_they_forbid(what: str, text: str) -> None:
    """Each pattern finds its own example, which is spelled here with a gap."""
    gaps = {"a path of one machine": ("work", "o"), "a registry's host": ("y",), "who or what wrote it": ("a",)}
    gaps |= {"a worker of this kind": ("e",), "a session": (" ",)}
    assert any(re.search(FORBIDDEN[what], text.format(gap)) for gap in gaps[what])


@pytest.mark.parametrize(
    "text", ["user_agent=...", "agent-detector==2.0.0", "start_new_session=True", "tests/work/x", "/home/somebody/x"]
)
def test_the_patterns_leave_the_rest(text: str) -> None:
    """Ordinary words and names that only look like it are not found."""
    assert not [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]


def test_the_hub_is_named_in_one_place() -> None:
    """The hub's default address stands in `tuner/model/hub.py`, and nowhere else.

    Reports in the catalogues hold what transformers says of a model that it does not find.
    """
    pattern, home = ONE_HOME["the hub's address"]
    files = {line.partition(":")[0] for line in named(pattern)}
    assert {file for file in files if not file.startswith("docs/catalogue/")} == {home}
