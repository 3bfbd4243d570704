"""What the evidence of two probes side by side counts as agreement; no engine is started."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from fake_environment import ROOT

sys.path.insert(0, str(ROOT / "tools" / "evidence"))

import depths_page
from depths_agree import EXPLANATIONS, Words, agreement, contradictions, unsettled

SAFE = Words("uniform", "uniform", "equal", "equal", 0)
UNSAFE = Words("conditional", "conditional", "wrong_layer", "equal", 3)
HIDDEN = replace(UNSAFE, flag_on="equal", departures=0)
ENDED = replace(UNSAFE, flag_on="unknown", refused=True)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (SAFE, "yes"),
        (replace(SAFE, true="", order="no_moe"), "yes"),
        (UNSAFE, "yes"),
        (replace(UNSAFE, order="inconclusive"), "yes"),
        (replace(UNSAFE, order="not_compiled"), "yes"),
        (replace(SAFE, order="not_compiled"), "in doubt"),
        (HIDDEN, "not reached"),
        (replace(HIDDEN, order="inconclusive"), "in doubt"),
        (replace(SAFE, order="inconclusive"), "in doubt"),
        (ENDED, "refused"),
    ],
)
def test_what_fits_together_is_told_by_what_the_requests_reached(words: Words, word: str) -> None:
    """Engines show only what requests reach, so an unsafe model that they do not lead astray contradicts nothing."""
    assert agreement(words) == word
    assert not contradictions(words)


@pytest.mark.parametrize(
    "words",
    [
        replace(SAFE, flag_on="wrong_layer", departures=1),
        replace(SAFE, flag_on="unknown"),
        replace(SAFE, departures=1),
        replace(SAFE, true="conditional"),
        replace(UNSAFE, true="reordered"),
        replace(UNSAFE, flag_off="wrong_layer"),
        replace(UNSAFE, flag_off="unknown"),
        replace(UNSAFE, flag_on="equal"),
        replace(UNSAFE, departures=0),
        replace(ENDED, refused=False),
        replace(ENDED, order="inconclusive"),
        replace(ENDED, true="uniform", order="uniform"),
        replace(ENDED, flag_on="equal"),
    ],
)
def test_one_word_out_of_step_is_a_disagreement(words: Words) -> None:
    """Whichever of the probes words it, and also where one could not tell."""
    assert agreement(words) == "no"
    assert contradictions(words)


def test_every_disagreement_is_explained_and_nothing_else() -> None:
    """An explanation that outlives its disagreement is one too many; models that did not run are left alone."""
    agreed = {"a": {"yes"}, "b": {"yes", "no"}, "c": {"not reached"}, "d": {"in doubt"}}
    assert unsettled(agreed, {"b": "why", "c": "why", "elsewhere": "why"}) == []
    assert unsettled(agreed, {"a": "why", "c": "why"}) == ["b: not explained", "a: explained, and nothing disagrees"]


def row(model: str, words: Words) -> dict[str, Any]:
    """What a run keeps of a model."""
    return {
        "model": model,
        "true": words.true,
        "order": words.order,
        "failed": [],
        "words": {"flag_on": words.flag_on, "flag_off": words.flag_off},
        "reasons": {"flag_on": "", "flag_off": ""},
        "engine": {"enforce_eager": True, "mode": "NONE", "cudagraph_mode": "NONE"},
        "left": words.departures,
        "passes": 33,
    }


def page(monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any]) -> str:
    """The page that a run leads to."""
    written: list[str] = []
    monkeypatch.setattr(depths_page, "write", lambda _, *parts: written.extend(parts))
    depths_page.write_page([{"where": "here", "rows": list(rows)}], [one["model"] for one in rows])
    return "\n".join(written)


def test_a_row_has_the_words_of_both_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many passes left the order, and whether all of that agrees."""
    text = page(monkeypatch, row("Plain", SAFE), row("Reverse", UNSAFE))
    assert "| Plain | eager | uniform | uniform | equal | equal | 0 of 33 | yes |" in text
    assert "| Reverse | eager | conditional | conditional | **wrong_layer** | equal | 3 of 33 | yes |" in text


def test_a_page_with_a_disagreement_has_its_explanation_or_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way round."""
    text = page(monkeypatch, row("TrySwitch", HIDDEN))
    assert f"- `TrySwitch`: not reached. {EXPLANATIONS['TrySwitch']}" in text
    text = page(monkeypatch, {**row("Tied", ENDED), "reasons": {"flag_on": "vLLM refuses this launch: it asserts."}})
    assert f"- `Tied`: refused. vLLM refuses this launch: it asserts. {EXPLANATIONS['Tied']}" in text
    with pytest.raises(SystemExit, match="Plain: not explained"):
        page(monkeypatch, row("Plain", replace(SAFE, departures=1)))
    with pytest.raises(SystemExit, match="TrySwitch: explained, and nothing disagrees"):
        page(monkeypatch, row("TrySwitch", SAFE))
