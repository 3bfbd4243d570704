"""Which of two verdicts of one key stays: nothing that a probe here found unsafe ever becomes safe by a bundle."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bundle import entry

from rules.verdict import Verdict, Word
from tuner.conflict import STORED, Conflict, Fate, Imported, settled, told
from tuner.origin import HERE, IMPORTED

LOCAL = entry()
IMPORT = replace(
    LOCAL, provenance={"imported_from": "a.jsonl", "imported_at": "2026-11-22T10:00:00+00:00", "command": None}
)
WORDS = st.sampled_from(list(Word))
VERDICTS = st.builds(
    Verdict,
    WORDS,
    st.just(()),
    variants=st.dictionaries(st.sampled_from(["lora", "eplb", "pipeline"]), WORDS.map(str)),
    compile=st.sampled_from(["stable", "frozen", "unknown"]),
)
ORIGINS = st.sets(st.sampled_from([HERE, IMPORTED]))


def uses(verdict: Verdict, name: str) -> Word | None:
    """The word for a serving setting; None if it was not tried."""
    return Word(verdict.variants[name]) if name in verdict.variants else None


@given(VERDICTS, VERDICTS, ORIGINS)
def test_what_a_probe_here_found_unsafe_never_becomes_safe(was: Verdict, now: Verdict, asked: set[str]) -> None:
    """The model, each serving setting, and compiling it."""
    if settled(LOCAL, was, now, asked) in STORED:
        assert HERE in asked
        assert not (was.word.unsafe and now.word.safe)
        assert was.compile != "frozen" or now.compile == "frozen"
        for name in was.variants:
            before, after = uses(was, name), uses(now, name)
            assert not (before is not None and before.unsafe and after is not None and after.safe)


@given(VERDICTS, VERDICTS, ORIGINS)
def test_each_origin_gives_way_only_if_asked(was: Verdict, now: Verdict, asked: set[str]) -> None:
    """What is not asked for stays, whatever the verdicts are."""
    assert (settled(IMPORT, was, now, asked) is Fate.REPLACED) == (IMPORTED in asked)
    assert (settled(IMPORT, was, now, asked) is Fate.OTHER) == (IMPORTED not in asked)
    assert (settled(LOCAL, was, now, asked) is Fate.LOCAL) == (HERE not in asked)


@pytest.mark.parametrize(
    ("was", "now", "fate"),
    [
        (Verdict(Word.CONDITIONAL, ()), Verdict(Word.UNIFORM, ()), Fate.UNSAFE),
        (Verdict(Word.CONDITIONAL, ()), Verdict(Word.REPEATED, ()), Fate.OVER_LOCAL),
        (Verdict(Word.UNIFORM, ()), Verdict(Word.CONDITIONAL, ()), Fate.OVER_LOCAL),
        (Verdict(Word.INCONCLUSIVE, ()), Verdict(Word.UNIFORM, ()), Fate.OVER_LOCAL),
        (Verdict(Word.UNIFORM, (), compile="frozen"), Verdict(Word.UNIFORM, (), compile="stable"), Fate.UNSAFE),
        (Verdict(Word.UNIFORM, (), compile="frozen"), Verdict(Word.UNIFORM, ()), Fate.UNSAFE),
        (Verdict(Word.UNIFORM, ()), Verdict(Word.UNIFORM, (), compile="frozen"), Fate.OVER_LOCAL),
        (
            Verdict(Word.UNIFORM, (), variants={"lora": "repeated"}),
            Verdict(Word.UNIFORM, (), variants={"lora": "uniform"}),
            Fate.UNSAFE,
        ),
        (Verdict(Word.UNIFORM, (), variants={"lora": "repeated"}), Verdict(Word.UNIFORM, ()), Fate.OVER_LOCAL),
    ],
)
def test_what_a_probe_here_left_open_gives_way(was: Verdict, now: Verdict, fate: Fate) -> None:
    """An inconclusive or a safe verdict may be replaced if that is asked, and a setting need not be tried again."""
    assert settled(LOCAL, was, now, {HERE}) is fate


def test_a_conflict_names_who_signed_what_was_stored() -> None:
    """Whoever decides between two verdicts sees whose they are."""
    stored = replace(IMPORT, provenance={**(IMPORT.provenance or {}), "signed_by": "0123456789ABCDEF"})
    uniform = Verdict(Word.UNIFORM, ())
    said = told(Imported(Counter(), (Conflict(stored, uniform, LOCAL, uniform, Fate.OTHER),)))
    assert "uniform (imported, signed with the key 0123456789ABCDEF, 2026-11-22) stays, not uniform (this file" in said
