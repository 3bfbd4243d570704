"""The workers, which run elsewhere: they need nothing of ours, and nobody imports them. How the probe's starts."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "tuner" / "probe" / "worker" / "moe_probe_worker"
SHARED_WORKER = ROOT / "tuner" / "processes" / "worker" / "shared_worker"
"""What all workers import."""
LAUNCH_WORKER, ARM_WORKER = (
    ROOT / "tuner" / "engines" / "worker" / name for name in ("vllm_launch_worker", "vllm_arm_worker")
)
"""The second adds a question to the first, and so imports it."""
WORKERS = (WORKER, LAUNCH_WORKER, ARM_WORKER, SHARED_WORKER)
IMPORTED_BY = {SHARED_WORKER: WORKERS, LAUNCH_WORKER: (ARM_WORKER,)}
FILES = [file for worker in WORKERS for file in sorted(worker.rglob("*.py"))]
SERVING = {"sympy", "torch", "transformers", "triton", "vllm"}
"""What the serving environment brings."""
LISTENER = """
import json, os, sys
with open(os.environ["SEEN"], "w") as file:
    json.dump({"path": sys.path, "cwd": os.getcwd(), "modules": sorted(sys.modules)}, file)
raise ImportError("libtorch_cpu.so: cannot open shared object file\\nsecond line")
"""
"""Stands in for a torch that is broken, and tells how it was imported."""

KERNEL, LOADS_KERNEL = (LAUNCH_WORKER / name for name in ("stamp_kernel.py", "ring.py"))
"""Triton compiles a kernel from its module's globals: this module alone imports it at its top, and is imported inside a
function of the other, where there is a GPU."""
RUN_THERE = {
    ROOT / "benchmarks" / "stamps.py",
    ROOT / "tests" / "support" / "packed_layers.py",
    ROOT / "tests" / "support" / "vllm_autotune_name.py",
    *(ROOT / "tests" / "support" / f"proof_{cases}_cases.py" for cases in ("memory", "order", "origin")),
    *(ROOT / "tests" / "support" / f"proof_{cases}_cases.py" for cases in ("part", "setting")),
}
"""Scripts that run in a serving environment, as the worker does."""

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
every_worker = pytest.mark.parametrize("worker", WORKERS, ids=lambda worker: worker.name)


def tree(file: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imported(node: ast.AST) -> Iterator[str]:
    """Top-level names of the modules that are imported anywhere below a node."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            yield "." * item.level or (item.module or "").partition(".")[0]


def start(control: Path, *, models: list[object] | None = None, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What the worker says of the environment that it was started in by path, here one without torch."""
    control.mkdir()
    (control / "request.json").write_text(json.dumps({"schema": 1, "models": models or []}), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, str(WORKER), str(control)],
        cwd=control,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    document: dict[str, Any] = json.loads((control / "environment.json").read_text(encoding="utf-8"))
    return document


# ---- what it is made of


@every_worker
def test_the_folder_holds_workers_alone(worker: Path) -> None:
    """A worker's parent folder is put on the path of the serving environment, so nothing else may lie there."""
    beside = {other.name for other in WORKERS if other.parent == worker.parent}
    assert {entry.name for entry in worker.parent.iterdir()} - {"__pycache__"} == beside
    folders = {entry.name for entry in worker.iterdir() if entry.is_dir()} - {"__pycache__"}
    assert folders <= {"proof"}
    assert all(
        entry.suffix == ".py" or entry.is_dir() for entry in worker.rglob("*") if "__pycache__" not in str(entry)
    )
    assert len(list(worker.glob("*.py"))) > 5


def test_the_floor_is_python_3_10() -> None:
    """Serving environments may be older than the tool: vermin finds nothing newer than Python 3.10 in any file."""
    vermin = [sys.executable, "-c", "from vermin import main; main()"]
    command = [*vermin, "--no-tips", "--eval-annotations", "--violations", "-t=3.10-", *map(str, FILES)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"Analyzing {len(FILES)} files" in process.stdout


@every_file
def test_the_top_level_imports_python_and_itself(file: Path) -> None:
    """At import time the standard library and packages of workers are enough, by their full names."""
    functions = [node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef)]
    inside = {name for function in functions for name in imported(function)}
    own = next(worker.name for worker in WORKERS if file.is_relative_to(worker))
    ours = {own, SHARED_WORKER.name, *([LAUNCH_WORKER.name] if own == ARM_WORKER.name else [])}
    assert set(imported(tree(file))) <= {*sys.stdlib_module_names, *SERVING, *ours}
    assert inside <= {*sys.stdlib_module_names, *SERVING, *([own] if file == LOADS_KERNEL else [])}
    top = [node for node in tree(file).body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert {name for node in top for name in imported(node)} <= {
        *sys.stdlib_module_names,
        *ours,
        *(["triton"] if file == KERNEL else []),
        *(["vllm"] if file.name == "attention.py" else []),  # vLLM asks for its classes by their path
    }


@every_worker
def test_nobody_imports_it(worker: Path) -> None:
    """No other Python file of the project imports a worker: it is known by path."""
    others = [
        file
        for folder in ("tuner", "rules", "cache", "tests", "benchmarks", "environments", "examples", "tools")
        for file in (ROOT / folder).rglob("*.py")
        if not any(package in file.parents for package in (worker, *IMPORTED_BY.get(worker, ())))
    ]
    assert len(others) > 40
    importing = {file for file in others if worker.name in set(imported(tree(file)))}
    assert importing <= RUN_THERE


# ---- which files are its own

ASK_WHOSE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from vllm_launch_worker.proof.origin import is_of_worker
print(json.dumps([is_of_worker(file) for file in sys.argv[3:]]))
"""
"""Prints of each file whether the launch worker takes it for its own."""


def test_files_beside_a_workers_folder_are_not_its_own(tmp_path: Path) -> None:
    """The proof excuses the worker's code: a path that begins alike, or leaves the folder again, is not excused."""
    launch = WORKERS[1]
    link = tmp_path / "order.py"
    link.symlink_to(launch / "proof" / "order.py")
    files = {
        launch / "proof" / "order.py": True,
        SHARED_WORKER / "errors.py": True,
        link: True,
        launch.with_name("vllm_launch_worker_evil") / "x.py": False,
        SHARED_WORKER.with_name("shared_workerx.py"): False,
        launch / ".." / "evil.py": False,
        WORKER / "passes.py": False,
    }
    paths = [str(launch.parent), str(SHARED_WORKER.parent)]
    command = [sys.executable, "-c", ASK_WHOSE, *paths, *map(str, files)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == list(files.values())


# ---- how it starts


def test_without_torch_it_says_so(tmp_path: Path) -> None:
    """In an environment without torch the worker ends by itself, and the control folder says what is missing."""
    started = start(tmp_path / "control", models=[{"index": 0}])
    assert started["result"] == "failed"
    assert started["message"] == "ModuleNotFoundError: No module named 'torch'"
    file, _, line = started["where"].rpartition(":")
    assert (Path(file).name, line.isdecimal()) == ("engine.py", True)
    assert {entry.name for entry in (tmp_path / "control").iterdir()} == {"request.json", "environment.json"}


@pytest.fixture
def seen(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the worker says where torch is broken, and what that torch saw when it was imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "torch.py").write_text(LISTENER, encoding="utf-8")
    env = {"PYTHONPATH": str(folder), "SEEN": str(tmp_path / "seen.json")}
    started = start(tmp_path / "control", env=env)
    return started, json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))


def test_a_broken_torch_is_told_in_one_line(seen: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path) -> None:
    """An import that fails is told with its message on one line, and with the place that raised it."""
    said, _ = seen
    assert said["message"] == "ImportError: libtorch_cpu.so: cannot open shared object file second line"
    assert said["where"] == f"{tmp_path}/site/torch.py:5"


def test_its_own_folder_is_not_on_the_path(seen: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path) -> None:
    """Modules such as `probe` or `engine` shadow nobody else's: the path has the parent folder, once, and ours never.

    The working directory is not on the path either: vLLM's helpers would import from it.
    """
    _, found = seen
    assert found["path"][0] == str(WORKER.parent)
    assert found["path"].count(str(WORKER.parent)) == 1
    assert str(WORKER) not in found["path"]
    assert not {"", str(tmp_path / "control")} & set(found["path"])
    assert found["cwd"] == str(tmp_path / "control")


def test_nothing_of_ours_is_loaded(seen: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """When vLLM is imported, no module of `tuner`, `rules` or `cache` is."""
    _, found = seen
    assert not {name.partition(".")[0] for name in found["modules"]} & {"tuner", "rules", "cache", "pydantic"}
    assert f"{WORKER.name}.jobs" in found["modules"]
