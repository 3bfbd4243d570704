"""An entry that somebody put into the store, under a checksum that is right, is a sentence to every reader."""

from pathlib import Path
from typing import Any

import pytest
from cache_samples import execute, plant, rewrite
from fake_environment import MIXTRAL, Serving, tuner
from reports import proof, report

from rules.verdict import Verdict, Word

VERDICT = Verdict(Word.UNIFORM, ()).to_dict()
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("report", {}),
    ("report", report(whole=True)),
    ("report", report(proofs=True)),
    ("report", report(proofs=[{"key": "a"}])),
    ("report", report(proofs=[proof(variables={"A": 7})])),
    ("report", report(proofs=[proof(sources=[])])),
    ("report", report(flag=None)),
    ("report", report(scenarios=[{"name": "decode_1"}])),
    ("verdict", {"word": "uniform"}),
    ("verdict", VERDICT | {"reasons": [7]}),
    ("verdict", VERDICT | {"reasons": ["so"]}),
    ("verdict", VERDICT | {"reasons": [{"code": 7}]}),
    ("verdict", VERDICT | {"proofs": 7}),
    ("verdict", VERDICT | {"proofs": {"a": {"word": "fine"}}}),
    ("verdict", VERDICT | {"replay_reasons": {"a": 7}}),
    ("verdict", {name: part for name, part in VERDICT.items() if name != "compile"}),
]


@pytest.mark.parametrize(("field", "value"), SHAPES)
def test_an_entry_of_another_shape_is_damage(serving: Serving, store: Path, field: str, value: dict[str, Any]) -> None:
    """Look-up, show and export say so, the list shows it as unreadable; none ends with a traceback."""
    entry, _ = serving.remember(store, MIXTRAL)
    rewrite(store, entry.digest, **{field: value})
    commands = [["verdict", MIXTRAL, "--python", serving.python], ["plan", MIXTRAL, "--python", serving.python]]
    commands += [["verdicts", "export"], ["verdicts", "show", entry.digest[:12]]]
    for command in commands:
        assert f"{entry.digest[:12]} is damaged" in tuner(*command, "--store", store, code=1).err
    listed = tuner("verdicts", "list", "--store", store, code=0)
    assert listed.out.splitlines()[1].split()[:2] == [entry.digest[:12], "unreadable"]
    assert "cannot read 1 entry" in listed.err


def test_a_report_of_another_release_is_shown_without_what_it_rests_on(serving: Serving, store: Path) -> None:
    """`verdicts show` keeps the verdict that it was given, as the list does."""
    entry, _ = serving.remember(store, MIXTRAL)
    rewrite(store, entry.digest, report={"result": "of another format"}, rules="of another release")
    output = tuner("verdicts", "show", entry.digest[:12], "--store", store, code=0).out
    assert "uniform" in output
    assert "a report that this release cannot read" in output


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_damage(serving: Serving, store: Path, number: str) -> None:
    """It would stop an export, which cannot write it."""
    entry, _ = serving.remember(store, MIXTRAL)
    query = "SELECT key, value FROM verdicts WHERE key LIKE 'verdict:%'"
    ((name, value),) = execute(store, query)
    text = value.partition(" ")[2]
    assert '"contexts": 1' in text
    plant(store, name, text.replace('"contexts": 1', f'"contexts": {number}', 1))
    answer = tuner("verdicts", "export", "--store", store, code=1)
    assert f"{entry.digest} in the verdict store {store} is damaged: it is not JSON." in answer.err
