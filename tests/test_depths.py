"""What the evidence of three probes side by side counts as agreement; no engine is started."""

import sys
from dataclasses import replace

import pytest
from fake_environment import ROOT

sys.path.insert(0, str(ROOT / "docs" / "evidence"))

from depths_agree import Said, agreement, contradictions, unsettled

SAFE = Said("uniform", "uniform", "equal", "equal", "same", 0)
UNSAFE = Said("conditional", "conditional", "misresolved", "equal", "moved", 3)
HIDDEN = replace(UNSAFE, flag_on="equal", outputs="same", left=0)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (SAFE, "yes"),
        (replace(SAFE, true="", order="no_moe"), "yes"),
        (UNSAFE, "yes"),
        (replace(UNSAFE, order="inconclusive"), "yes"),
        (HIDDEN, "not reached"),
        (replace(HIDDEN, order="inconclusive"), "in doubt"),
        (replace(SAFE, order="inconclusive"), "in doubt"),
    ],
)
def test_what_fits_together_is_told_by_what_the_requests_reached(said: Said, word: str) -> None:
    """Engines show only what requests reach, so an unsafe model that they do not lead astray contradicts nothing."""
    assert agreement(said) == word
    assert not contradictions(said)


@pytest.mark.parametrize(
    "said",
    [
        replace(SAFE, flag_on="misresolved", outputs="moved", left=1),
        replace(SAFE, outputs="moved"),
        replace(SAFE, flag_on="unknown"),
        replace(SAFE, outputs="unknown"),
        replace(SAFE, left=1),
        replace(SAFE, true="conditional"),
        replace(UNSAFE, true="reordered"),
        replace(UNSAFE, flag_off="misresolved"),
        replace(UNSAFE, flag_off="unknown"),
        replace(UNSAFE, outputs="same"),
        replace(UNSAFE, flag_on="equal"),
        replace(UNSAFE, left=0),
    ],
)
def test_one_word_out_of_step_is_a_disagreement(said: Said) -> None:
    """Whichever of the probes said it, and also where one could not tell."""
    assert agreement(said) == "no"
    assert contradictions(said)


def test_every_disagreement_is_explained_and_nothing_else() -> None:
    """An explanation that outlives its disagreement is one too many; models that did not run are left alone."""
    agreed = {"a": {"yes"}, "b": {"yes", "no"}, "c": {"not reached"}, "d": {"in doubt"}}
    assert unsettled(agreed, {"b": "why", "c": "why", "elsewhere": "why"}) == []
    assert unsettled(agreed, {"a": "why", "c": "why"}) == ["b: not explained", "a: explained, and nothing disagrees"]
