"""A real `vllm serve`, started as `tuner plan --json` says, and its log piped into `tuner confirm`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from real_environment import checkpoint_of, python_of
from vllm_server import running_server

ROOT = Path(__file__).parent.parent
TUNER = Path(sys.executable).parent / "tuner"


def confirmed(log: bytes, decision: Path) -> int:
    """The exit code of `tuner confirm` with a log on standard input."""
    command = (TUNER, "confirm", "--decision", decision)
    return subprocess.run(command, input=log, check=False, timeout=120).returncode


@pytest.mark.vllm
def test_a_server_that_was_started_as_planned_is_confirmed(tmp_path: Path) -> None:
    """Its log confirms the plan, contradicts another one, and says nothing before the engine is ready."""
    python, model = python_of("flag-live"), checkpoint_of("flag-live", tmp_path)
    ours = ("--python", python, "--store", tmp_path / "store", "--cache-root", tmp_path / "server" / "cache")
    process = subprocess.run(
        [TUNER, "plan", "--json", *ours, model, "--", "--enforce-eager", "--max-model-len", "256"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    document = json.loads(process.stdout)
    decision, other = tmp_path / "plan.json", tmp_path / "other.json"
    decision.write_text(process.stdout, encoding="utf-8")
    document["launch"]["compilation_config"] = {"fast_moe_cold_start": True}
    other.write_text(json.dumps(document), encoding="utf-8")

    command = (str(python.with_name("vllm")), "serve", *document["launch"]["args"])
    with running_server(command, tmp_path / "server") as server:
        log = server.log.read_bytes()

    assert confirmed(log, decision) == 0
    assert confirmed(log, other) == 5
    assert confirmed(log[: log.index(b"init engine (profile")], decision) == 7
