"""`tuner.toml` and `[tool.tuner]` -> settings, check, serve: a file is used, or refused with a sentence.

A server starts in either case, and the flag is on only where the settings name the store that proves it.
"""

import json
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import typer
from fake_environment import MIXTRAL, SETTABLE, serving_in
from hypothesis import strategies as st
from typer.testing import CliRunner

from fuzz.limit import limited
from fuzz.mutate import HOSTILE, TEXTS, Draw, text_mutated
from fuzz.sentence import require_sentence
from rules.errors import TunerError
from tuner.cli.app import app
from tuner.cli.settings import OWN_FILE, SHARED_FILE, Project, defaults_of_commands, project_of

WHOLE = """python = "{python}"
store = "{store}"
accept-platform = "cpu"
configs = "configs"

[images]
"registry.example.com/*/vllm-*" = "image.json"
"""
SHARED = """[project]
name = "x"
[tool.tuner]
python = "{python}"
store = "{store}"
[tool.tuner.images]
"*" = "image.json"
"""
NAMES = ("python", "store", "accept-platform", "configs", "images", '"store"', "images.a", "interpreter", "tool")
VALUES = ("1979-05-27T07:32:00Z", "0x_f", "{ a = 1 }", "[" * 3000, "9" * 5000, "'''\n'''", '"\\u0000"', '"~nobody/x"')
HEADS = ("[images]", "[tool.tuner]", "[tool.tuner.images]", "[[images]]", "[tool]", "# [tool.tuner")
POD = """apiVersion: v1
kind: Pod
spec:
  containers:
  - image: registry.example.com/ai/vllm-openai:mine
    args: [mistralai/Mixtral-8x7B-v0.1]
"""
END = "; it is ignored, and the flag gets its safe value."


@dataclass(frozen=True)
class Ground:
    """A project's folder, and what its settings may name.

    Attributes:
        folder: the project.
        python: the interpreter of a serving environment.
        store: a store whose verdict switches the flag on.
    """

    folder: File
    python: File
    store: File


def ground(folder: File) -> Ground:
    """A project with a manifest and a saved environment."""
    serving = serving_in(folder / "env", SETTABLE)
    project = folder / "project"
    project.mkdir()
    store = serving.store_of(folder / "verdicts.sqlite", MIXTRAL)
    saved = CliRunner().invoke(app, ["env", "--json", "--python", str(serving.python)], catch_exceptions=False)
    (project / "image.json").write_text(saved.stdout, encoding="utf-8")
    (project / "pod.yaml").write_text(POD, encoding="utf-8")
    return Ground(project, serving.python, store)


def case(draw: Draw, ground: Ground) -> str:
    """Damage one file, and run a check and a server with it."""
    name, text = damaged(draw, ground)
    file = ground.folder / name
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with limited(), chdir(ground.folder):
        try:
            require_server(ground)
            return checked(project_of("check"))
        except TunerError as error:
            require_sentence(error)
            return "refused"
        finally:
            file.unlink()


def damaged(draw: Draw, ground: Ground) -> tuple[str, str]:
    """A file's name, and a text: a whole file changed, or with lines of settings put in."""
    name, form = draw(st.sampled_from([(OWN_FILE, WHOLE), (SHARED_FILE, SHARED)]))
    text = form.format(python=ground.python, store=ground.store)
    if draw(st.booleans()):
        return name, text_mutated(draw, text, most=2)
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines)))
        lines[place : place + draw(st.integers(0, 1))] = [a_line(draw)]
    return name, "\n".join(lines)


def a_line(draw: Draw) -> str:
    """The head of a table, or a setting with any value."""
    if draw(st.sampled_from([False, False, True])):
        return str(draw(st.sampled_from(HEADS)))
    value = draw(st.sampled_from([*VALUES, *map(json.dumps, [*TEXTS, *HOSTILE])]))
    return f"{draw(st.sampled_from(NAMES))} = {value}"


def run(project: Project, *args: object) -> Any:
    """Run a command with the settings of a project, as `tuner` does."""
    group = typer.main.get_group(app)
    defaults = defaults_of_commands(project.settings, group.commands)
    words = [str(arg) for arg in args]
    return CliRunner().invoke(app, words, default_map=defaults, obj=project, catch_exceptions=False)


def require_server(ground: Ground) -> None:
    """The server starts; with the flag on only if the settings hold and name the store."""
    project = project_of("serve")
    process = run(project, "serve", "--dry-run", "--python", ground.python, MIXTRAL)
    assert process.exit_code == 0, process.stderr
    assert bool(project.fault) == process.stderr.partition("\n")[0].endswith(END), process.stderr
    if '"fast_moe_cold_start": true' in process.stdout:
        assert project.settings.store is not None
        assert File(project.settings.store).samefile(ground.store)


def checked(project: Project) -> str:
    """Check the project with its settings; what cannot be used is said."""
    process = run(project, "check", "pod.yaml")
    assert process.exit_code in {0, 1, 2, 3}, process.exit_code
    assert process.exit_code == 0 or process.stderr.startswith("tuner: ")
    assert "Traceback" not in process.stderr
    return f"used, check ends with {process.exit_code}"
