"""`tuner env --script`: one file of the standard library that prints the document of `tuner env --json`."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_environment import SETTABLE, install, serving_in, tuner

from tuner.environment.environment import Environment

ENVS = Path(__file__).parents[1] / ".envs"
ENVIRONMENTS = sorted(ENVS.glob("*/bin/python"))
PREVIEW = {"vllm": "0.20.1rc1.dev5+gabc1234", "torch": "2.11.0.dev20260401+cu130"}
"""Versions that only `packaging` reads."""


@pytest.fixture(scope="module")
def script() -> str:
    """The script, as it is printed."""
    return tuner("env", "--script", code=0).out


def printed(script: str, *command: object) -> dict[str, object]:
    """The document that a Python prints which reads the script from its standard input, as `docker run -i` does."""
    process = subprocess.run(
        [*map(str, command)], input=script, capture_output=True, text=True, timeout=100, check=True
    )
    document: dict[str, object] = json.loads(process.stdout)
    return document


@pytest.mark.parametrize("versions", [SETTABLE, PREVIEW, {"torch": "2.10.0"}, {"vllm": "0.1.dev1+gabc"}])
def test_it_prints_what_the_command_prints(tmp_path: Path, script: str, versions: dict[str, str]) -> None:
    """By a Python that sees no package at all: neither msgspec nor packaging."""
    serving = serving_in(tmp_path / "there", versions)
    plugin = install(serving.site, "plugin", "1.0")
    (plugin / "entry_points.txt").write_text("[vllm.general_plugins]\nmine = plugin.code:run\n", encoding="utf-8")
    serving.write("plugin/code.py", "")
    document = printed(script, sys.executable, "-I", "-S", "-", serving.python)
    assert document == tuner("env", "--json", "--python", serving.python, code=0).document
    assert Environment.from_dict(document["environment"]).plugins  # type: ignore[arg-type]


@pytest.mark.parametrize("python", ENVIRONMENTS, ids=lambda python: python.parts[-3])
def test_it_prints_the_environment_of_its_own_python(script: str, python: Path) -> None:
    """In a real environment of vLLM, without a path."""
    assert printed(script, python, "-") == tuner("env", "--json", "--python", python, code=0).document


def test_a_full_disk_ends_it_with_a_sentence(script: str) -> None:
    """As in the command itself: exit 1, and never a traceback."""
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-"], input=script, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert process.returncode == 1
    assert process.stderr == "tuner_env.py: the document cannot be written: No space left on device\n"


def test_it_needs_the_standard_library_alone(script: str) -> None:
    """Every module that the head or a part of it imports is in the script or in the library."""
    outer = ast.parse(script)
    (sources,) = (node.value for node in outer.body if isinstance(node, ast.Assign))
    modules = ast.literal_eval(sources)
    own = {name.partition(".")[0] for name in modules}
    imported = set()
    for tree in (outer, *map(ast.parse, modules.values())):
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    types_alone = {"typing_extensions"}  # of packaging
    assert imported - sys.stdlib_module_names - types_alone <= own
    assert {"rules.releases", "tuner.environment.environment", "msgspec"} <= modules.keys()


def test_a_python_that_is_none_is_one_sentence(script: str, tmp_path: Path) -> None:
    """And exit code 1, without a traceback."""
    command = [sys.executable, "-I", "-S", "-", str(tmp_path / "none")]
    process = subprocess.run(command, input=script, capture_output=True, text=True, timeout=100, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("tuner_env.py: ")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", [("--json",), ("--python", sys.executable)])
def test_the_script_takes_no_other_option(option: tuple[str, ...]) -> None:
    """It is made for another machine."""
    assert "takes no other option" in tuner("env", "--script", *option, code=2).err
