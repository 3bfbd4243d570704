"""What a verdict rests on, as text and as JSON: counts, what did not run and why, in words."""

from typing import Any

import pytest
from reports import (
    NOT_COMPILED,
    compiled,
    failed,
    failure,
    layers,
    proof,
    replaced,
    report,
    scenario,
    verdict,
    whole,
)

from rules.reason import Reason, parts, reason, sentence
from rules.report import parse_report
from tuner.verdicts.evidence import (
    brief_proof_texts,
    clipped,
    compile_part,
    compile_text,
    evidence_rows,
    proof_texts,
    proofs_part,
    scenario_texts,
    whole_texts,
)

A, B, C = layers(3)


def shown(data: dict[str, Any]) -> dict[str, list[str]]:
    """The rows of a report under its own verdict."""
    return dict(evidence_rows(parse_report(data), verdict(data)))


def test_a_whole_report_is_told_in_few_rows() -> None:
    """Scenarios, the whole model, each launch that was traced, and the compiled model."""
    data = report(whole=whole(), compile=compiled(([A], [A])))
    assert shown(data) == {
        "evidence": ["8 of 8 scenarios ran, 3 MoE layers"],
        "whole model": ["3 MoE layers, ran"],
        "proofs": ["the plain launch: proved, 3 MoE layers (cpu, 2026-11-28)"],
        "compile": ["stable"],
    }


def test_a_report_of_an_older_probe_is_told_too() -> None:
    """Rows without content are left out."""
    old = {name: value for name, value in report().items() if name not in {"whole", "proofs", "compile"}}
    assert shown(old) == {
        "evidence": ["8 of 8 scenarios ran, 3 MoE layers"],
        "compile": [f"unknown: {reason('compiled_not_run')}"],
    }
    assert proofs_part(parse_report(old), verdict(old)) == []


def test_scenarios_that_did_not_run_are_named_by_cause() -> None:
    """Equal causes share a line; long lists are cut; lost scenarios count as planned."""
    data = report(orders={f"derived_{index}": [] for index in range(6)})
    for index in range(6):
        data = replaced(data, scenario(f"derived_{index}", status="not_applicable", detail="refused: no", passes=[]))
    data = replaced(data, failed("batch_limit", "RuntimeError:\n  no kernel"))
    data["planned"].append("token_9_decode")
    assert scenario_texts(parse_report(data)) == [
        "7 of 15 scenarios ran, 3 MoE layers",
        "1 lost: token_9_decode",
        "1 could not run: batch_limit (RuntimeError: no kernel)",
        "6 not applicable: derived_0, derived_1, derived_2, derived_3 and 2 more (refused: no)",
    ]


def test_each_launch_says_what_its_trace_proves() -> None:
    """Its arguments, the word, and what keeps it from being proved; programs get the code with its fields."""
    guard = failure(file="vllm/a.py", line=46, guard="Ne(s80, 300)")
    proofs = [
        proof(rank=NOT_COMPILED),
        proof((A, B, C), "--dtype", "half", rank={"failures": [guard, failure("elastic", 1)]}),
        proof(config={"mode": 2}),
    ]
    data = report(proofs=proofs)
    not_compiled = sentence(Reason("not_decorated", 1, {"class": "Model"}))
    outer = sentence(Reason("outer_guard", 4, guard["fields"]))
    assert proof_texts(parse_report(data), verdict(data)) == [
        f"the plain launch: not compiled: {not_compiled} (cpu, 2026-11-28)",
        f"--dtype half: not proved: {outer}, and 1 more (cpu, 2026-11-28)",
        "another compilation config: proved, 3 MoE layers (cpu, 2026-11-28)",
    ]
    assert brief_proof_texts(parse_report(data), verdict(data)) == [
        f"the plain launch: not compiled: {not_compiled} (cpu, 2026-11-28)",
        "2 other launches: 1 not proved, 1 proved; --verbose lists them",
    ]
    part = proofs_part(parse_report(data), verdict(data))[1]
    assert (part["word"], part["arguments"], part["key"]) == ("not_proved", ["--dtype", "half"], proofs[1]["key"])
    assert part["reasons"] == parts([Reason("outer_guard", 4, guard["fields"]), Reason("elastic", 1)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "3 MoE layers, ran"),
        ({"status": "failed", "detail": "no\n memory", "scenarios": []}, "3 MoE layers, could not run (no memory)"),
    ],
)
def test_the_whole_model_says_what_became_of_it(changes: dict[str, Any], said: str) -> None:
    """Where layers were cut; else there is no such row."""
    assert whole_texts(parse_report(report(whole=whole(**changes)))) == [said]
    assert whole_texts(parse_report(report())) == []


def test_a_frozen_model_says_why() -> None:
    """In text and in JSON."""
    judgement = verdict(report(compile=compiled(([A, B, C], [A]))))
    moved = reason("compiled_moved", scenario="compared_0", compiled=1, eager=3)
    assert compile_text(judgement) == f"frozen: {moved}"
    assert compile_part(judgement) == {"word": "frozen", "reasons": parts([moved])}


def test_long_texts_are_cut_and_flat() -> None:
    """One line each, never wider than asked."""
    assert clipped("a\n  b") == "a b"
    assert clipped("word " * 40, 20) == "word word word word…"
