"""`tuner.toml`, `[tool.tuner]` and `TUNER_*` variables: what they set, and which of them wins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_environment import ERNIE, MIXTRAL, OURS, SETTABLE, Serving, serving_in

from rules.errors import ErrorKind, TunerError
from tuner.cli.settings import Settings, project_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which commands run."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def tuner(*args: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A run of the command as users start it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    env = {**inherited, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    command = [sys.executable, "-m", "tuner", *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_paths_are_relative_to_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a folder above counts, wherever below it a command runs; a bare name is looked up on PATH."""
    project.joinpath("tuner.toml").write_text(
        'python = "venv/bin/python"\nconfigs = "c"\nstore = "/s.sqlite"\naccept-platform = "cpu"\n'
        '[images]\n"registry.example.com/*" = "image.json"\n',
        encoding="utf-8",
    )
    (project / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(project / "a" / "b")
    expected = Settings(
        str(project / "venv/bin/python"),
        "/s.sqlite",
        "cpu",
        str(project / "c"),
        {"registry.example.com/*": str(project / "image.json")},
    )
    assert project_settings() == expected
    project.joinpath("tuner.toml").write_text('python = "python3.12"\n', encoding="utf-8")
    assert project_settings() == Settings(python="python3.12")


def test_the_nearest_file_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file alone is read; in a folder with both it is `tuner.toml`; a `pyproject.toml` without our table is not."""
    project.joinpath("tuner.toml").write_text('accept-platform = "above"\n', encoding="utf-8")
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    shared = inner / "pyproject.toml"
    shared.write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert project_settings().accept_platform == "above"
    shared.write_text('[tool.tuner]\naccept-platform = "shared"\n', encoding="utf-8")
    assert project_settings().accept_platform == "shared"
    (inner / "tuner.toml").write_text('accept-platform = "own"\n', encoding="utf-8")
    assert project_settings().accept_platform == "own"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("python = \n", "is not TOML"),
        ('interpreter = "x"\n', "`interpreter`"),
        ("store = 3\n", "`$.store`"),
        ('images = "x"\n', "`$.images`"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(project: Path, text: str, problem: str) -> None:
    """It names the file and what is wrong in it, and nothing else is done."""
    project.joinpath("tuner.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TunerError) as error:
        project_settings()
    assert error.value.kind is ErrorKind.USAGE
    assert problem in error.value.message
    done = tuner("verdict", MIXTRAL)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(project / "tuner.toml") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_wins_over_variables_and_variables_over_the_file(project: Path, tmp_path: Path) -> None:
    """Of three interpreters the one is used that the nearest source names."""
    in_file, in_variable, in_option = (serving_in(tmp_path / name, SETTABLE) for name in ("file", "variable", "option"))
    project.joinpath("tuner.toml").write_text(f'python = "{in_file.python}"\n', encoding="utf-8")
    assert str(in_file.python) in tuner("env").stdout
    assert str(in_variable.python) in tuner("env", TUNER_PYTHON=str(in_variable.python)).stdout
    option = ("--python", in_option.python)
    assert str(in_option.python) in tuner("env", *option, TUNER_PYTHON=str(in_variable.python)).stdout


@pytest.mark.parametrize("command", [["verdict"], ["plan"], ["serve", "--dry-run"], ["verdicts", "list"]])
def test_every_command_uses_the_settings(project: Path, tmp_path: Path, command: list[str]) -> None:
    """Also the look-ups that are answered without typer: in the file, and as variables."""
    serving: Serving = serving_in(tmp_path / "serving", SETTABLE)
    store = serving.store_of(tmp_path / "verdicts.sqlite", ERNIE)
    words = [*command, *([] if command == ["verdicts", "list"] else [str(ERNIE)])]
    variables = {"TUNER_PYTHON": str(serving.python), "TUNER_STORE": str(store)}
    by_variable = tuner(*words, **variables)
    project.joinpath("tuner.toml").write_text(f'python = "{serving.python}"\nstore = "{store}"\n', encoding="utf-8")
    by_file = tuner(*words)
    assert by_file.returncode == by_variable.returncode == 0
    assert by_file.stdout == by_variable.stdout
    assert "conditional" in by_file.stdout + by_file.stderr or '"fast_moe_cold_start": false' in by_file.stdout
