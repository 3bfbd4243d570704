"""Probed models as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rules.report import parse_report
from rules.verdict import Witness
from tuner.text import columns, visible
from tuner.verdicts.evidence import clipped
from tuner.verdicts.text import witness_text

if TYPE_CHECKING:
    from rules.report import Report
    from tuner.probe.models import Probed

MAX_NOTE = 160
"""Characters of a verdict's reason in the table, which folds them."""


def probed_text(results: Sequence["Probed"]) -> str:
    """The output of `tuner probe`: the witnesses of unsafe verdicts, then a line for each model."""
    heads = ("MODEL", "VERDICT", "MOE LAYERS", "SECONDS", "NOTE")
    witnesses = []
    for result in results:
        witness = witness_of(result)
        if witness is not None:
            witnesses.append(f"{visible(result.name)}\n{witness_text(witness)}\n")
    return "\n".join([*witnesses, columns([heads, *map(probed_row, results)])])


def witness_of(result: "Probed") -> Witness | None:
    """The witness of an unsafe verdict, or None."""
    return result.verdict.witness if result.verdict else None


def probed_row(result: "Probed") -> tuple[str, str, str, str, str]:
    """The row of a model: `stored` in place of seconds if it was not run, and the first reason or the failure."""
    if result.failure:
        return (
            result.name,
            f"error: {result.failure.kind}",
            "",
            f"{result.seconds:.1f}",
            clipped(result.failure.message),
        )
    word, note = (result.verdict.word, result.verdict.reasons[0]) if result.verdict else ("", "")
    layers = _layers(parse_report(result.entry.report)) if result.entry else "0"
    seconds = "stored" if result.stored else f"{result.seconds:.1f}"
    return result.name, str(word), layers, seconds, clipped(str(note), MAX_NOTE)


def _layers(report: "Report") -> str:
    """How many MoE layers the model has and, where fewer were run, how many these are; else those of the small form."""
    run = len(report.registered)
    whole = report.whole
    if whole is None or len(whole.registered) <= run:
        return str(run)
    return str(len(whole.registered)) if whole.status == "ran" else f"{len(whole.registered)} ({run} run)"
