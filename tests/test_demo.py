"""The parts of `make demo` that need no vLLM; `test_serve_vllm.py` runs its servers."""

import os
import subprocess
from pathlib import Path

import demo
import pytest


def test_answers_stand_under_one_another_within_80_columns() -> None:
    """Each line begins with who answers, and only the first words are shown."""
    right = "letters mountain over water in and with bread stories opens letters finds"
    text = demo.side_by_side("never cross over", {"right": right, "vllm": "with morning", "tuner": right})

    assert text.splitlines() == [
        "prompt  never cross over",
        "right   letters mountain over water in and with bread stories opens",
        "vllm    with morning",
        "tuner   letters mountain over water in and with bread stories opens",
    ]
    assert all(len(line) <= 80 for line in demo.side_by_side("p", {"right": "remembers " * 20}).splitlines())


def test_a_command_that_ends_otherwise_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that goes on behind a failure would show the wrong thing."""
    monkeypatch.setattr(demo, "WORK", tmp_path)
    demo.run(os.environ, "false", ends_with=1)
    with pytest.raises(SystemExit, match="ended with 1, not with 5"):
        demo.run(os.environ, "false", ends_with=5)


def test_the_faults_of_the_deployment_are_what_the_demo_shows() -> None:
    """An option that is gone and GPUs that do not suffice are errors; a cache that is lost is a warning."""
    process = subprocess.run(
        [demo.TOOL / "tuner", "check", demo.EXAMPLES / "deployment.yaml"], capture_output=True, text=True, check=False
    )

    assert process.returncode == 1
    for rule in ("option-unknown", "gpu-count", "shared-memory", "cache-on-no-volume"):
        assert f"({rule})" in process.stdout
    assert process.stdout.count(": error: ") == 2


def test_the_demo_runs_vllm_and_the_tuner_from_path() -> None:
    """Commands are typed as a reader would type them: without paths."""
    variables = demo.serving_variables(demo.FLAG_LIVE, PYTHONPATH="/plugins")

    assert variables["PATH"].split(os.pathsep)[:2] == [str(demo.FLAG_LIVE), str(demo.TOOL)]
    assert variables["TUNER_STORE"].startswith(str(demo.WORK))
    assert variables["PYTHONPATH"] == "/plugins"
