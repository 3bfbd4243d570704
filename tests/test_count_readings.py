"""`tools.count_readings` tells launches that are read rightly from those that are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.count_readings import Reading, comparable, outcomes

SERVE = "vllm serve facebook/opt-125m --port 8000\n"
ARGS = ["facebook/opt-125m", "--port", "8000"]
LAUNCH = {"line": 1, "args": ARGS}
HIDDEN = {"line": 1, "hidden": "$@"}
CASES: dict[str, tuple[str, list[dict[str, Any]], list[Reading]]] = {
    "equal.sh": (SERVE, [LAUNCH], [Reading.READ]),
    "hidden.sh": ('vllm serve facebook/opt-125m "$@"\n', [HIDDEN], [Reading.HIDDEN]),
    "an-argument-less.sh": (SERVE, [{"line": 1, "args": [*ARGS, "--enforce-eager"]}], [Reading.MISREAD]),
    "taken-as-whole.sh": (SERVE, [HIDDEN], [Reading.MISREAD]),
    "nothing.sh": ("ls\n", [LAUNCH], [Reading.SILENT]),
    "far-away.sh": ("ls\n" * 40 + SERVE, [HIDDEN], [Reading.SILENT, Reading.MISREAD]),
    "nobody-wrote-it.sh": (SERVE * 2, [LAUNCH], [Reading.READ, Reading.MISREAD]),
    "equal-before-near.sh": (
        f"# other\n{SERVE}",
        [{"line": 1, "args": ["other/model"]}, {"line": 2, "args": ARGS}],
        [Reading.SILENT, Reading.READ],
    ),
    "broken.yaml": ("a: [\n", [LAUNCH], [Reading.NOTED]),
}
"""File -> its text, the launches that a person wrote, and the readings that are right."""


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Reading]]:
    """The readings of every case, by file."""
    folder = tmp_path_factory.mktemp("cases")
    for name, (text, _, _) in CASES.items():
        (folder / name).write_text(text, encoding="utf-8")
    by_file: dict[str, list[Reading]] = {name: [] for name in CASES}
    for outcome in outcomes(folder, {name: by_hand for name, (_, by_hand, _) in CASES.items()}):
        by_file[outcome.path].append(outcome.reading)
    return by_file


@pytest.mark.parametrize("name", CASES)
def test_a_launch_has_the_reading_that_fits(readings: dict[str, list[Reading]], name: str) -> None:
    """A launch is compared with what a person wrote for it; one that nobody wrote is misread."""
    assert readings[name] == CASES[name][2]


def test_spelling_alone_makes_no_difference() -> None:
    """Space in JSON, the default of a variable, and what a command is do not count; values do."""
    assert comparable(['{"a":  1}', "${PORT:-8000}", "$(nproc)"]) == comparable(['{"a": 1}', "$PORT", "$(nproc --all)"])
    assert comparable(['{"a": 1}']) != comparable(['{"a": 2}'])
    assert comparable(["$PORT"]) != comparable(["8000"])


def test_the_lists_of_the_public_manifests_are_read() -> None:
    """None of the launches of which a person wrote the arguments is silent or misread."""
    tests = Path(__file__).parent
    by_hand = json.loads((tests / "manifest_launches.json").read_text(encoding="utf-8"))["launches"]
    results = [outcome.reading for outcome in outcomes(tests / "manifests", by_hand)]
    assert len(results) == sum(map(len, by_hand.values()))
    assert set(results) <= {Reading.READ, Reading.HIDDEN}
    assert results.count(Reading.READ) >= 50
