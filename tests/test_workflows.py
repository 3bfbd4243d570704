"""Workflows of a common host, the example workflow and the Dockerfile name what is there."""

import re
from pathlib import Path
from typing import Any

import pytest

from tuner import yaml_text

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yaml")), ROOT / "examples/github-action/check-manifests.yaml"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def steps(file: Path) -> list[dict[str, Any]]:
    """Every step of a workflow's jobs."""
    document: Any = yaml_text.load_mapping(file.read_text(encoding="utf-8"))
    return [step for job in document["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_runs_targets_that_are_there(file: Path) -> None:
    """Each `make` names a target, each action has a version, and the token may read alone unless more is said."""
    document: Any = yaml_text.load_mapping(file.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = "\n".join(str(step.get("run", "")) for step in steps(file))
    for target in re.findall(r"\bmake ([a-z-]+)", commands):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert all(re.search(r"@[\w./-]+$", step["uses"]) for step in steps(file) if "uses" in step)
    assert document["permissions"]["contents"] == "read"


@pytest.mark.parametrize("file", WORKFLOWS[:-1], ids=lambda file: file.name)
def test_our_own_workflows_run_actions_by_commit(file: Path) -> None:
    """A tag of an action can be moved to other code, and the release has the right to publish."""
    text = file.read_text(encoding="utf-8")
    actions = re.findall(r"^ *- uses: (.+)$", text, re.MULTILINE)
    assert actions
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", action) for action in actions)


def test_the_release_publishes_what_was_tried_out() -> None:
    """The job that uploads builds nothing, holds no password, and waits for the job that installs the packages."""
    document: Any = yaml_text.load_mapping((ROOT / ".github/workflows/release.yaml").read_text(encoding="utf-8"))
    build, publish = document["jobs"]["build"], document["jobs"]["publish"]
    assert any("make package-test" in str(step.get("run")) for step in build["steps"])
    assert (publish["needs"], publish["permissions"]) == ("build", {"id-token": "write"})
    assert not [step for step in publish["steps"] if "run" in step or "password" in step.get("with", {})]


def test_the_image_is_built_of_files_that_are_there() -> None:
    """Each file that the Dockerfile copies is in the repository, and `.dockerignore` lets it through."""
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert {"pyproject.toml", "tuner", "rules", "cache"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in let_through


def test_the_image_serves_without_rights() -> None:
    """It runs as a user without a name on the host, and its pins are those of the lock file."""
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert "--constraint" in DOCKERFILE
