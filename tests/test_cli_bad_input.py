"""Bad input: each a clear sentence and an exit code, and the store stays as it was, byte for byte."""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cache_samples import contents, execute
from fake_environment import (
    LLAMA,
    MIXTRAL,
    SETTABLE,
    Answer,
    Serving,
    install,
    model_like,
    serving_in,
    tuner,
    tuner_process,
)

from tuner.launch.plan import other_model
from tuner.model.model import unidentified
from tuner.verdicts.identity import Subject


class Case:
    """One environment and one store that holds a verdict, watched for changes."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        self.serving = serving
        self.store = folder / "store" / "verdicts.sqlite"
        serving.remember(self.store, MIXTRAL)
        self.before = contents(self.store.parent)

    def ask(self, command: str, *args: object, code: int, **env: str) -> Answer:
        """Run a command, which must end with `code`, blame in one sentence and leave the store alone."""
        answer = tuner(command, "--python", self.serving.python, "--store", self.store, *args, code=code, env=env)
        assert contents(self.store.parent) == self.before
        assert answer.err.startswith("tuner: ")
        return answer


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A look-up environment; nothing can run in it."""
    return Case(tmp_path, serving_in(tmp_path / "env", SETTABLE))


def folder_with(folder: Path, text: str | None) -> Path:
    """A model folder with this `config.json`, or without one."""
    folder.mkdir()
    if text is not None:
        (folder / "config.json").write_text(text)
    return folder


CONFIGS = {
    "no config": (None, "has no config.json."),
    "empty": ("", "is not JSON: Expecting value, line 1, column 1."),
    "not JSON": ('{"architectures": [', "is not JSON: Expecting value"),
    "a list": ("[]", "is not a JSON object."),
    "no architectures": ('{"model_type": "mixtral"}', "names no `architectures`."),
    "empty architectures": ('{"architectures": []}', "names no `architectures`."),
    "numbers as architectures": ('{"architectures": [1]}', "are not a list of names: [1]."),
    "a number that cannot be read": ('{"architectures": ["A"], "rope": NaN}', "has a number that cannot be read: NaN."),
}


@pytest.mark.parametrize("command", ["probe", "verdict", "plan", "export"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_is_none_is_named(case: Case, tmp_path: Path, command: str, name: str) -> None:
    """The sentence holds the file and what is wrong in it; the exit code is 1."""
    text, said = CONFIGS[name]
    model = folder_with(tmp_path / "model", text)
    answer = case.ask(command, model, code=1)
    first, hint = answer.err.splitlines()[-2:]
    assert str(model) in first
    assert said in first
    assert hint.startswith("  ")


@pytest.mark.parametrize("command", ["probe", "verdict", "plan"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/nowhere/model", "There is no folder /nowhere/model."),
        ("nobody/nothing", "is neither a folder here nor in the local hub cache, and offline mode is on."),
        ("https://example.org/model", "is a remote address."),
        (str(MIXTRAL / "config.json"), "is a file."),
    ],
)
def test_a_model_that_is_not_there_is_named(case: Case, tmp_path: Path, command: str, name: str, said: str) -> None:
    """Folder, hub id, address or file: the sentence tells which it was taken for."""
    assert said in case.ask(command, name, code=1, HF_HOME=str(tmp_path)).err


def test_a_failure_is_a_document_too(case: Case, tmp_path: Path) -> None:
    """Scripts get the kind, the sentence and the way out in place of the verdict."""
    model = folder_with(tmp_path / "model", "{}")
    for command in ("probe", "verdict", "plan"):
        answer = case.ask(command, "--json", model, code=1)
        assert set(answer.document) == {"schema_version", "model", "error"}
        assert answer.document["model"] == {"name": str(model)}
        error = answer.document["error"]
        assert (set(error), error["kind"]) == ({"kind", "message", "hint"}, "model")
        assert error["message"] in answer.err
        assert error["hint"] in answer.err
    assert case.ask("export", model, code=1).document["error"]["kind"] == "model"


def test_several_models_fail_each_for_itself(case: Case, tmp_path: Path) -> None:
    """One document a model, in the order asked for; every sentence names its model."""
    models = [folder_with(tmp_path / name, text) for name, text in (("b", None), ("a", "["), ("c", "{}"))]
    answer = case.ask("probe", "--json", *models, code=1)
    assert set(answer.document) == {"schema_version", "results"}
    assert [result["model"]["name"] for result in answer.document["results"]] == list(map(str, models))
    assert all("error" in result for result in answer.document["results"])
    blamed = [line for line in answer.err.splitlines() if line.startswith("tuner: ")]
    assert len(blamed) == len(models)
    assert all(str(model) in line for line, model in zip(blamed, models, strict=True))
    table = case.ask("probe", *models, code=1).out.splitlines()
    assert table[0].split()[:2] == ["MODEL", "VERDICT"]
    assert all("error: model" in line for line in table[1:])


ABSURD: list[dict[str, Any]] = [
    {"num_hidden_layers": 0},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": "many"},
    {"num_hidden_layers": 1.5},
    {"num_local_experts": 10**9},
    {"num_local_experts": -8},
    {"hidden_size": 10**12},
    {"hidden_size": 0},
    {"vocab_size": 10**12},
    {"num_attention_heads": [1, "two"]},
]


@pytest.mark.parametrize("changes", ABSURD, ids=repr)
def test_absurd_numbers_are_refused_before_anything_is_built(
    case: Case, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The sentence holds the key, the value and the bounds; no worker is started for it."""
    (key,) = changes
    answer = case.ask("probe", "--json", model_like(MIXTRAL, tmp_path / "model", **changes), code=1)
    error = answer.document["error"]
    assert error["kind"] == "model"
    assert error["message"].startswith(f"The config says {key} = {changes[key]!r}, which is not a number from ")
    assert "starting vLLM" not in answer.err


def broken(folder: Path, **modules: str) -> Serving:
    """A real virtual environment in which vLLM is installed by name, and these modules are all there is."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python3.*/site-packages"))
    for name, version in SETTABLE.items():
        install(site, name, version)
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
    return Serving(folder, folder / "bin" / "python", site)


IMPORTS = {
    "torch": ({"torch": "raise ImportError('libcudart.so.12: cannot open shared object file')"}, "libcudart.so.12"),
    "vllm": ({"torch": "", "vllm": "raise RuntimeError('built for another torch')"}, "built for another torch"),
    "no torch": ({"vllm": ""}, "No module named 'torch'"),
    "only a name": ({"torch": "", "vllm": ""}, "vllm"),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_a_vllm_that_does_not_import_is_the_environments_fault(tmp_path: Path, name: str) -> None:
    """The exception and its place are in the sentence, and the exit code is 1."""
    modules, said = IMPORTS[name]
    case = Case(tmp_path, broken(tmp_path / "env", **modules))
    args = ("probe", "--python", case.serving.python, "--store", case.store, "--json", MIXTRAL)
    answer = tuner(*args, code=1)
    error = answer.document["error"]
    assert error["kind"] == "environment"
    assert "vLLM does not import in this environment: " in error["message"]
    assert said in error["message"]
    assert contents(case.store.parent) == case.before


def test_an_exit_while_vllm_is_imported_is_the_environments_fault(tmp_path: Path) -> None:
    """A library that ends the process is named with The end of its log."""
    case = Case(tmp_path, broken(tmp_path / "env", torch="import os\nprint('Illegal hardware')\nos.abort()"))
    args = ("probe", "--python", case.serving.python, "--store", case.store, "--json", MIXTRAL)
    error = tuner(*args, code=1).document["error"]
    assert error["kind"] == "environment"
    assert "killed by SIGABRT" in error["message"]
    assert "Illegal hardware" in error["hint"]
    assert contents(case.store.parent) == case.before


def test_a_python_that_does_not_run_is_the_environments_fault(tmp_path: Path) -> None:
    """A program with the right name in the right place that is not Python ends the probe with its exit code."""
    serving = serving_in(tmp_path / "env", SETTABLE)
    case = Case(tmp_path, serving)
    serving.python.unlink()
    shutil.copy(shutil.which("false") or "", serving.python)
    args = ("probe", "--python", serving.python, "--store", case.store, "--json", MIXTRAL)
    error = tuner(*args, code=1).document["error"]
    assert (error["kind"], error["hint"]) == ("environment", "Its log is empty.")
    assert "ended before vLLM was imported (exit code 1)" in error["message"]
    serving.python.chmod(0o644)
    error = tuner(*args, code=1).document["error"]
    assert error["message"] == f"{serving.python} does not start: Permission denied."


DAMAGE = {
    "no database": b"words\n",
    "a damaged database": b"SQLite format 3\0" + b"damage" * 1000,
    "an empty file": b"",
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("command", ["probe", "verdict", "plan", "verdicts list"])
def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path, command: str, name: str) -> None:
    """It is named before a probe spends minutes, and not one byte of it changes."""
    serving = serving_in(tmp_path / "env", SETTABLE)
    store = tmp_path / "store" / "file"
    store.parent.mkdir()
    store.write_bytes(DAMAGE[name])
    about = [] if command == "verdicts list" else ["--python", serving.python, MIXTRAL]
    answer = tuner(*command.split(), *about, "--store", store, "--json", code=1)
    assert answer.document["error"]["kind"] == "store"
    assert str(store) in answer.document["error"]["message"]
    assert "starting vLLM" not in answer.err
    assert contents(store.parent) == {"file": DAMAGE[name]}


def test_a_store_of_a_newer_release_is_left_alone(case: Case) -> None:
    """An older tool does not write into what it cannot read."""
    execute(case.store, "UPDATE verdicts SET value = '99' WHERE key = 'schema'")
    case.before = contents(case.store.parent)
    for command in ("probe", "plan"):
        assert "A newer release wrote the verdict store" in case.ask(command, MIXTRAL, code=1).err


@pytest.fixture(params=["size=4k,nr_inodes=99", *(f"size=1m,nr_inodes={count}" for count in (2, 3, 4, 5))])
def tiny_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a disk with room for nothing, or for so many files."""
    folder = Path(tempfile.mkdtemp())  # below tmp_path it would stop pytest's own cleaning
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", request.param, "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting a tiny tmpfs needs root with CAP_SYS_ADMIN; run this test there")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a tiny tmpfs can be mounted on Linux only")
def test_a_full_disk_for_the_control_folder_is_named(tmp_path: Path, tiny_disk: Path) -> None:
    """Whichever of its files finds no room, the sentence names the folder, and nothing is left there."""
    case = Case(tmp_path, serving_in(tmp_path / "env", SETTABLE))
    model = model_like(LLAMA, tmp_path / "model", padding="x" * 5000)
    args = ("probe", "--python", case.serving.python, "--store", case.store, "--json", model)
    answer = tuner_process(*args, env={"TMPDIR": str(tiny_disk)}, code=1)
    error = answer.document["error"]
    assert error["kind"] == "control_folder"
    assert error["message"] == (f"The probe cannot write its control folder under {tiny_disk}: {os.strerror(28)}.")
    assert "TMPDIR" in error["hint"]
    assert list(tiny_disk.iterdir()) == []
    assert contents(case.store.parent) == case.before


LONG = "a" * 300
"""Longer than any file system takes, so that to ask for it is an error, and no file that is missing."""


@pytest.mark.parametrize("command", [["check", LONG], ["apply", LONG], ["check", ".", "--configs", LONG]])
def test_a_path_that_no_file_system_takes_is_one_that_is_not_there(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said as for any other missing path."""
    monkeypatch.chdir(tmp_path)
    assert "There is no f" in tuner(*command, code=1).err


def test_a_manifest_whose_model_has_a_name_too_long_is_checked(tmp_path: Path) -> None:
    """The name is not a folder of --configs, and so no model that is known."""
    (tmp_path / "x.sh").write_text(f"vllm serve {LONG}\n")
    output = tuner("check", tmp_path / "x.sh", "--configs", tmp_path, "--vllm-version", "0.19.1", code=0).out
    assert "1 launch" in output


def test_a_model_of_a_name_too_long_is_no_folder_here(tmp_path: Path) -> None:
    """Where another hub may be asked, it is the other hub's."""
    subject = Subject(unidentified(LONG), serving_in(tmp_path / "env", SETTABLE).read())
    assert other_model(subject, {"VLLM_USE_MODELSCOPE": "1"}) == ("VLLM_USE_MODELSCOPE",)
