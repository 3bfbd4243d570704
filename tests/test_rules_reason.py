"""Reasons: each code has one sentence, which its fields fill; what is stored of one is never trusted to be whole."""

import pytest

from rules.decide import Facts, decide
from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import (
    CONDITIONS,
    DEEPEST,
    DEEPEST_OF_ALL,
    FRAGMENTS,
    LONGEST,
    OF_ARMS,
    OF_COMPILING,
    OF_DECISION,
    OF_ENGINES,
    OF_PROOF,
    OF_VERDICT,
    SENTENCES,
    Reason,
    reason,
    sentence,
)
from rules.releases import Flag, FlagStatus
from rules.verdict import Verdict, Word

SETTABLE = Flag(FlagStatus.SETTABLE, "Because of this release.", "table: vLLM 0.19.1, vllm/config/vllm.py")


def test_each_code_stands_in_one_table() -> None:
    """A code that stood in two would have two sentences."""
    tables = (OF_PROOF, OF_VERDICT, OF_COMPILING, OF_ENGINES, OF_ARMS, OF_DECISION)
    assert sum(map(len, tables)) == len(SENTENCES)


@pytest.mark.parametrize("code", [*SENTENCES, "moon_phase"])
def test_every_code_has_a_sentence(code: str) -> None:
    """With its fields, without any, and with foreign ones; never an error, and on one line."""
    for fields in ({}, {"file": "vllm/a.py", "line": 7, "guard": "Ne(s80, 300)"}, {"{x}": "{y}"}):
        for because in (None, reason("no_verdict")):
            each = Reason(code, 4, fields, because)
            assert sentence(each)
            assert "\n" not in sentence(each)
            assert str(each) == f"{CONDITIONS[4]}: {sentence(each)}"


SAID = {
    code: (fields, text)
    for code, fields, text in [
        ("outer_guard", {"file": "a.py", "line": 46, "guard": "Ne(s80, 300)"}, "on `Ne(s80, 300)` at a.py:46"),
        ("outer_handler", {"file": "a.py", "line": 0}, "catches exceptions at a.py"),
        ("wrong_call", {"call": 1, "ran": "b", "counted": "a"}, "call 1 of that pass ran b; a counter would resolve"),
        ("compiled_moved", {"scenario": "s", "compiled": 2, "eager": 3}, "(2 calls against 3)"),
        ("replay_equal", {"passes": 9, "replayed": 8, "processes": 2}, "9 passes of 2 processes, 8 of them replayed"),
        ("replay_equal_of_one", {"passes": 9}, "replay equal of one (passes: 9)"),
        ("proof_file_gone", {"file": "a.py", "more": 2}, "a.py is gone, and 2 more of its files differ"),
        ("proof_file_changed", {"file": "a.py", "more": 0}, "since the proof a.py changed"),
        (
            "slower_start",
            {"command": "tuner probe m"},
            "slower start is the safe choice; `tuner probe m` would try to prove it",
        ),
        ("decided_by_file", {"path": "d", "verdict": "uniform", "key": "0123456789abcdef"}, ", key 0123456789ab)"),
        ("sources_differ", {"total": 3, "changed": 2, "first": "a", "gone": 1}, "first a; 1 of them are gone"),
        ("engine_failed", {"detail": "no memory"}, "no memory"),
        ("moon_phase", {"day": 3}, "moon phase (day: 3)"),
        ("holds_for", {"launch": "--x"}, "holds for: --x"),
        ("other_model", {}, "unknown settings: vLLM may serve"),
    ]
}


@pytest.mark.parametrize("code", SAID)
def test_fields_fill_the_sentence(code: str) -> None:
    """A part that depends on a field stands there with it only; a code that is not known shows its fields."""
    fields, text = SAID[code]
    assert text in str(Reason(code, None, fields))


def test_the_reason_behind_stands_in_the_sentence() -> None:
    """With its own condition."""
    behind = Reason("no_rank", 0)
    assert str(reason("contradicts", behind)).endswith(f"is known: {CONDITIONS[0]}: {sentence(behind)}")
    assert str(reason("slower_start", behind)).startswith(f"not proved safe ({CONDITIONS[0]}: no process")


def test_what_a_worker_wrote_is_cut() -> None:
    """Of a failed condition, and where its condition is not named; the arguments of a launch are told whole."""
    foreign = Reason("foreign_code", 4, {"file": "x" * 9999})
    assert len(sentence(foreign)) < LONGEST + 99
    assert len(str(foreign.without_condition())) < LONGEST + 99
    assert "x" * 9999 in str(reason("holds_for", launch="x" * 9999))


def test_reasons_behind_reasons_are_bounded() -> None:
    """A stored one could nest without end; what is put in front of the deepest stored one still fits."""
    nested = reason("no_verdict")
    for _ in range(DEEPEST - 1):
        nested = reason("contradicts", nested)
    stored = Verdict(Word.INCONCLUSIVE, (nested,)).to_dict()
    assert decide(Verdict.from_dict(stored), SETTABLE, Facts()).setting is False
    with pytest.raises(ValueError, match="nests too many"):
        Verdict.from_dict(Verdict(Word.INCONCLUSIVE, (reason("contradicts", nested),)).to_dict())
    for _ in range(DEEPEST_OF_ALL - DEEPEST):
        nested = reason("contradicts", nested)
    with pytest.raises(ValueError, match="nests too many"):
        reason("contradicts", nested)


def test_a_finding_that_lost_a_field_is_no_finding() -> None:
    """Its default would read as proved without a layer."""
    stored = Verdict(Word.UNIFORM, (), proofs={"plain": ProofFinding(ProofWord.PROVED)}).to_dict()
    assert Verdict.from_dict(stored).proofs["plain"].proved
    for name in ("reasons", "arguments", "platform", "layers"):
        finding = {field: value for field, value in stored["proofs"]["plain"].items() if field != name}
        with pytest.raises(ValueError, match="ProofFinding has the fields"):
            Verdict.from_dict({**stored, "proofs": {"plain": finding}})


def test_a_part_for_json_has_the_sentence_beside_the_data() -> None:
    """And the reason behind it as a part of its own."""
    part = Reason("slower_start", None, {"command": "c"}, reason("no_verdict")).part()
    assert part["because"] == {
        "code": "no_verdict",
        "condition": None,
        "fields": {},
        "because": None,
        "text": "no verdict is stored",
    }
    assert part["text"] == str(Reason("slower_start", None, {"command": "c"}, reason("no_verdict")))


def test_every_part_of_a_sentence_is_used() -> None:
    """A fragment that no template names would never be seen."""
    names = {"at_file", "at_line"}
    assert all(name in names or any(f"{{{name}}}" in text for text in SENTENCES.values()) for name in FRAGMENTS)
