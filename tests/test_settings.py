"""`tuner.toml`, `[tool.tuner]` and `TUNER_*` variables: what they set, and which of them wins."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_environment import ERNIE, INERT, MIXTRAL, OURS, SETTABLE, Serving, serving_in
from stand_in_server import CODE, config_in, facts_of, with_server

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
        ('python = "x"\n\ninterpreter = "x"\n', "`interpreter` (at line 3)"),
        ("store = 3\n", "`$.store` (at line 1)"),
        ('images = "x"\n', "`$.images` (at line 1)"),
        ("\n[images]\na = 1\n", "`$.images[...]` (at line 2)"),
        (f"a = {'[' * 5000}", "nested too deeply"),
        (f"a = {'9' * 5000}", "a number that is too long"),
        ('store = "a\\u0000b"\n', "a null character"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(project: Path, text: str, problem: str) -> None:
    """It names the file and what is wrong in it, and nothing else is done."""
    project.joinpath("tuner.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TunerError) as error:
        project_settings()
    assert error.value.kind is ErrorKind.USAGE
    assert problem in error.value.message
    answer = tuner("verdict", MIXTRAL)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert str(project / "tuner.toml") in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tool = 3\n# [tool.tuner]\n", ""),
        ("[tool]\ntuner = 3\n# [tool.tuner]\n", "Expected `object`"),
        ("[project]\nstore = 3\n[tool.tuner]\nstore = 3\n", "`$.store` (at line 4)"),
        ("[tool.tuner.images]\na = 3\n", "`$.images[...]` (at line 1)"),
    ],
)
def test_a_table_of_another_shape_in_a_shared_file(project: Path, text: str, problem: str) -> None:
    """What is not our table sets nothing; what is and cannot be used is an error with the line in the whole file."""
    project.joinpath("pyproject.toml").write_text(text, encoding="utf-8")
    if not problem:
        assert project_settings() == Settings()
        return
    with pytest.raises(TunerError) as error:
        project_settings()
    assert problem in error.value.message


def test_a_path_of_a_user_who_does_not_exist_stays_as_it_is(project: Path) -> None:
    """It is a path like any other, and what opens it says that nothing is there."""
    project.joinpath("tuner.toml").write_text('store = "~nobody-here/verdicts.sqlite"\n', encoding="utf-8")
    assert project_settings().store == str(project / "~nobody-here/verdicts.sqlite")


def test_a_server_starts_although_its_settings_cannot_be_used(project: Path, tmp_path: Path) -> None:
    """One sentence names file and line; nothing in the file counts, nothing is looked up, and the flag is off.

    With a file that can be used the store's verdict would switch it on.
    """
    serving = with_server(serving_in(tmp_path / "serving", SETTABLE))
    store = serving.store_of(tmp_path / "verdicts.sqlite", MIXTRAL)
    words = ("serve", "--python", serving.python, MIXTRAL)
    file = project / "tuner.toml"
    file.write_text(f'store = "{store}"\n', encoding="utf-8")
    assert config_in(facts_of(tuner(*words).stdout)) == {"fast_moe_cold_start": True}
    file.write_text(f'store = "{store}"\naccept = "cpu"\n', encoding="utf-8")
    answer = tuner(*words)
    assert answer.returncode == CODE
    assert config_in(facts_of(answer.stdout)) == {"fast_moe_cold_start": False}
    warning, decision = answer.stderr.splitlines()
    assert warning.startswith(f"tuner: {file} has a setting that does not exist")
    assert "`accept` (at line 2); it is ignored" in warning
    assert "no verdict (the settings file cannot be used)" in decision
    probing = tuner("serve", "--on-missing", "probe", *words[1:])
    assert (probing.returncode, probing.stderr) == (CODE, answer.stderr)
    assert tuner("serve", "--on-missing", "fail", *words[1:]).returncode == 3


def test_a_server_needs_no_settings_for_a_decision(project: Path, tmp_path: Path) -> None:
    """What a decision file says holds, whatever the settings: it was named on the command line."""
    serving = with_server(serving_in(tmp_path / "serving", SETTABLE))
    store = serving.store_of(tmp_path / "verdicts.sqlite", MIXTRAL)
    exported = tuner("export", "--format", "json", "--python", serving.python, "--store", store, MIXTRAL)
    decision = tmp_path / "decision.json"
    decision.write_text(exported.stdout, encoding="utf-8")
    project.joinpath("tuner.toml").write_text("python =\n", encoding="utf-8")
    answer = tuner("serve", "--python", serving.python, "--decision", decision, MIXTRAL)
    assert config_in(facts_of(answer.stdout)) == {"fast_moe_cold_start": True}
    assert "(at line 1, column 9); it is ignored" in answer.stderr


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


# ---- check and apply

POD = """apiVersion: v1
kind: Pod
spec:
  containers:
  - name: c
    image: {image}
    args: [{model}]
"""


def test_an_image_has_the_environment_that_its_pattern_names(project: Path, tmp_path: Path) -> None:
    """The first pattern that fits counts, before --environment; no pattern fits the third image."""
    settable, inert = serving_in(tmp_path / "settable", SETTABLE), serving_in(tmp_path / "inert", INERT)
    for name, serving in (("settable", settable), ("inert", inert)):
        (project / f"{name}.json").write_text(tuner("env", "--json", "--python", serving.python).stdout, "utf-8")
    store = settable.store_of(tmp_path / "verdicts.sqlite", ERNIE)
    project.joinpath("tuner.toml").write_text(
        f'store = "{store}"\n[images]\n'
        '"registry.example.com/*/vllm-openai*" = "settable.json"\n"registry*" = "inert.json"\n',
        encoding="utf-8",
    )
    for name, image in (("a", "registry.example.com/ai/vllm-openai:mine"), ("b", "registry.example.com/vllm-openai")):
        (project / f"{name}.yaml").write_text(POD.format(image=image, model=ERNIE), encoding="utf-8")
    (project / "c.yaml").write_text(POD.format(image="other.example.com/vllm-openai:mine", model=ERNIE), "utf-8")
    launches = json.loads(tuner("check", "--json", ".", "--environment", "inert.json").stdout)["launches"]
    versions = {launch["path"]: launch["vllm"] for launch in launches}
    assert versions == {"a.yaml": SETTABLE["vllm_cpu"], "b.yaml": INERT["vllm_cpu"], "c.yaml": INERT["vllm_cpu"]}


@pytest.mark.parametrize("named_by", ["--store", "TUNER_STORE", "tuner.toml"])
def test_a_store_that_was_named_and_is_missing_is_an_error(project: Path, named_by: str) -> None:
    """A check against nothing would be green; without a name, no store is one without verdicts."""
    (project / "run.sh").write_text("vllm serve m\n", encoding="utf-8")
    if named_by == "tuner.toml":
        (project / named_by).write_text('store = "gone.sqlite"\n', encoding="utf-8")
    option = ["--store", "gone.sqlite"] if named_by == "--store" else []
    answer = tuner("check", *option, "run.sh", **({"TUNER_STORE": "gone.sqlite"} if named_by == "TUNER_STORE" else {}))
    assert answer.returncode == 1
    assert "There is no store " in answer.stderr
    assert answer.stdout == ""


def test_an_empty_folder_is_a_note(project: Path) -> None:
    """A typing error in a path is seen, and a green check of nothing is not taken for one of something."""
    (project / "deploy").mkdir()
    (project / "deploy" / "notes.bin").write_text("vllm serve m", encoding="utf-8")
    answer = tuner("check", "deploy")
    assert answer.returncode == 0
    assert "deploy holds no file that is looked into" in answer.stderr
