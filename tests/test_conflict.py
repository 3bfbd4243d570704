"""Which of two verdicts of one key stays: nothing that a probe here found unsafe ever becomes safe by a bundle."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_bundle import entry

from cache.verdicts.place import Place
from rules.proof_finding import ProofFinding, ProofWord
from rules.verdict import Verdict, Word
from tuner.exchange.conflict import STORED, Conflict, Imported, ImportOutcome, imported_text, resolve_conflict
from tuner.verdicts.origin import HERE, IMPORTED

LOCAL = entry()
IMPORT = replace(
    LOCAL, provenance={"imported_from": "a.jsonl", "imported_at": "2026-11-22T10:00:00+00:00", "command": None}
)
WORDS = st.sampled_from(list(Word))
VERDICTS = st.builds(
    Verdict,
    WORDS,
    st.just(()),
    proofs=st.dictionaries(
        st.sampled_from(["plain", "lora"]), st.builds(ProofFinding, st.sampled_from(list(ProofWord)))
    ),
    compile=st.sampled_from(["stable", "frozen", "unknown"]),
)
LAUNCH = {"lora": ProofFinding(ProofWord.REFUTED)}
PROVED = {"lora": ProofFinding(ProofWord.PROVED)}
ORIGINS = st.sets(st.sampled_from([HERE, IMPORTED]))


@given(VERDICTS, VERDICTS, ORIGINS)
def test_what_a_probe_here_found_unsafe_never_becomes_safe(was: Verdict, now: Verdict, asked: set[str]) -> None:
    """The model, each launch that was traced, and compiling it."""
    if resolve_conflict(LOCAL, was, now, asked) in STORED:
        assert HERE in asked
        assert not (was.word.unsafe and now.word.safe)
        assert was.compile != "frozen" or now.compile == "frozen"
        refuted = {key for key, finding in was.proofs.items() if finding.word is ProofWord.REFUTED}
        assert not any(now.proofs[key].proved for key in refuted & now.proofs.keys())


@given(VERDICTS, VERDICTS, ORIGINS)
def test_each_origin_gives_way_only_if_asked(was: Verdict, now: Verdict, asked: set[str]) -> None:
    """What is not asked for stays, whatever the verdicts are."""
    assert (resolve_conflict(IMPORT, was, now, asked) is ImportOutcome.REPLACED) == (IMPORTED in asked)
    assert (resolve_conflict(IMPORT, was, now, asked) is ImportOutcome.OTHER) == (IMPORTED not in asked)
    assert (resolve_conflict(LOCAL, was, now, asked) is ImportOutcome.LOCAL) == (HERE not in asked)


@pytest.mark.parametrize(
    ("was", "now", "fate"),
    [
        (Verdict(Word.CONDITIONAL, ()), Verdict(Word.UNIFORM, ()), ImportOutcome.UNSAFE),
        (Verdict(Word.CONDITIONAL, ()), Verdict(Word.REPEATED, ()), ImportOutcome.OVER_LOCAL),
        (Verdict(Word.UNIFORM, ()), Verdict(Word.CONDITIONAL, ()), ImportOutcome.OVER_LOCAL),
        (Verdict(Word.INCONCLUSIVE, ()), Verdict(Word.UNIFORM, ()), ImportOutcome.OVER_LOCAL),
        (
            Verdict(Word.UNIFORM, (), compile="frozen"),
            Verdict(Word.UNIFORM, (), compile="stable"),
            ImportOutcome.UNSAFE,
        ),
        (Verdict(Word.UNIFORM, (), compile="frozen"), Verdict(Word.UNIFORM, ()), ImportOutcome.UNSAFE),
        (Verdict(Word.UNIFORM, ()), Verdict(Word.UNIFORM, (), compile="frozen"), ImportOutcome.OVER_LOCAL),
        (Verdict(Word.NOT_COMPILED, (), proofs=LAUNCH), Verdict(Word.UNIFORM, (), proofs=PROVED), ImportOutcome.UNSAFE),
        (Verdict(Word.NOT_COMPILED, (), proofs=LAUNCH), Verdict(Word.UNIFORM, ()), ImportOutcome.OVER_LOCAL),
    ],
)
def test_what_a_probe_here_left_open_gives_way(was: Verdict, now: Verdict, fate: ImportOutcome) -> None:
    """An inconclusive or a safe verdict may be replaced if that is asked, and a launch need not be proved again."""
    assert resolve_conflict(LOCAL, was, now, {HERE}) is fate


def test_a_conflict_names_who_signed_what_was_stored() -> None:
    """Whoever decides between two verdicts sees whose they are."""
    stored = replace(IMPORT, provenance={**(IMPORT.provenance or {}), "signed_by": "0123456789ABCDEF"})
    uniform = Verdict(Word.UNIFORM, ())
    said = imported_text(
        Imported(Counter(), (Conflict(stored, uniform, LOCAL, uniform, ImportOutcome.OTHER),)), Place(Path("s"))
    )
    assert "uniform (imported, signed with the key 0123456789ABCDEF, 2026-11-22) stays, not uniform (this file" in said
