"""What a verdict rests on, as text and as JSON: counts, what did not run and why, in words."""

from typing import Any

import pytest
from reports import (
    UNEXPLORED,
    branch,
    compiled,
    exploration,
    failed,
    layers,
    replaced,
    report,
    scenario,
    variant,
    verdict,
)

from tuner.render_evidence import (
    branches_text,
    clipped,
    compile_part,
    compile_text,
    evidence_rows,
    exploration_part,
    scenario_texts,
    variant_texts,
    variants_part,
)

A, B, C = layers(3)


def shown(data: dict[str, Any]) -> dict[str, list[str]]:
    """The rows of a report under its own verdict."""
    return dict(evidence_rows(data, verdict(data)))


def test_a_whole_report_is_told_in_few_rows() -> None:
    """Scenarios, branches, each variant, and the compiled model."""
    data = report(variants=[variant("lora", detail="an adapter of zeros active")], compile=compiled(([A], [A])))
    assert shown(data) == {
        "evidence": ["8 of 8 scenarios ran, 3 MoE layers"],
        "branches": ["2 can change MoE calls: 1 seen all ways, 1 constant, 0 unexplored"],
        "variants": ["lora  uniform (an adapter of zeros active)"],
        "compile": ["stable"],
    }


def test_a_report_of_an_older_probe_is_told_too() -> None:
    """What it does not hold is said not to be known, and rows without content are left out."""
    old = {name: value for name, value in report().items() if name not in {"exploration", "variants", "compile"}}
    assert shown(old) == {
        "evidence": ["8 of 8 scenarios ran, 3 MoE layers"],
        "branches": ["not explored"],
        "compile": ["unknown: the compiled model was not run"],
    }
    assert exploration_part(old) is None
    assert variants_part(old, verdict(old)) == []


def test_scenarios_that_did_not_run_are_named_by_cause() -> None:
    """Equal causes share a line; long lists are cut; lost scenarios count as planned."""
    data = report(orders={f"derived_{index}": [] for index in range(6)})
    for index in range(6):
        data = replaced(data, scenario(f"derived_{index}", status="not_applicable", detail="refused: no", passes=[]))
    data = replaced(data, failed("batch_limit", "RuntimeError:\n  no kernel"))
    data["planned"].append("token_9_decode")
    assert scenario_texts(data) == [
        "7 of 15 scenarios ran, 3 MoE layers",
        "1 lost: token_9_decode",
        "1 could not run: batch_limit (RuntimeError: no kernel)",
        "6 not applicable: derived_0, derived_1, derived_2, derived_3 and 2 more (refused: no)",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exploration": exploration(branch(), UNEXPLORED)}, "1 seen all ways, 0 constant, 1 unexplored"),
        ({"exploration": exploration(status="failed", detail="OSError: no source")}, "could not be explored (OSError"),
        ({"exploration": None}, "not explored"),
        ({"registered": []}, "none can reach a MoE layer"),
    ],
)
def test_branches_are_counted(changes: dict[str, Any], said: str) -> None:
    """How many can change MoE calls, by what is known of them; or why nothing is."""
    assert said in branches_text(report() | changes)


def test_each_variant_says_its_word_or_why_it_has_none() -> None:
    """The reason comes before what stood in, because it is what decides."""
    variants = [
        variant("pipeline_last", [B, A], detail="stage 3 of 3"),
        variant("eplb", status="failed", detail="RuntimeError: no kernel", scenarios=[]),
        variant("lora"),
        variant("transformers", status="not_applicable", detail="no such class", scenarios=[]),
    ]
    data = report(variants=variants)
    assert variant_texts(data, verdict(data)) == [
        f"pipeline_last  conditional ({verdict(data).variant_reasons['pipeline_last']})",
        "eplb           could not be run here: RuntimeError: no kernel",
        "lora           uniform",
        "transformers   does not apply: no such class",
    ]
    parts = variants_part(data, verdict(data))
    assert [(part["name"], part["status"], part["word"]) for part in parts] == [
        ("pipeline_last", "ran", "conditional"),
        ("eplb", "failed", None),
        ("lora", "ran", "uniform"),
        ("transformers", "not_applicable", None),
    ]
    assert parts[0]["detail"] == "stage 3 of 3"
    assert "left the registered order" in parts[0]["reason"]


def test_unexplored_branches_are_whole_in_json() -> None:
    """Programs get the place, the condition, the cause and what was tried, and counts of the rest."""
    found = exploration_part(report(exploration=exploration(branch(), UNEXPLORED, seconds=1.5)))
    assert found is not None
    assert found["unexplored"] == [UNEXPLORED]
    assert found["branches"] == {"seen": 1, "constant": 0, "unexplored": 1}
    assert (found["status"], found["functions"], found["seconds"]) == ("ran", 5, 1.5)


def test_a_frozen_model_says_why() -> None:
    """In text and in JSON."""
    found = verdict(report(compile=compiled(([A, B, C], [A]))))
    assert compile_text(found).startswith("frozen: compiled, scenario compared_0 ran other MoE layers than eager")
    assert compile_part(found) == {"word": "frozen", "reasons": list(found.compile_reasons)}


def test_long_texts_are_cut_and_flat() -> None:
    """One line each, never wider than asked."""
    assert clipped("a\n  b") == "a b"
    assert clipped("word " * 40, 20) == "word word word word…"
