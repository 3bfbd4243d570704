"""A confirmation as text for people and as a JSON document. Pure: values in, text or values out.

A log is text of anybody: what would move the cursor or change colours is written as an escape.
"""

from dataclasses import asdict
from typing import Any

from tuner.confirm.outcome import Confirmation, Fact, Result
from tuner.text import columns, line, visible

SCHEMA_VERSION = 1
"""Of the document; changed when a field is removed or means something else."""
CLIP = 100
"""Characters of a value that the table shows; the document has all."""
_SENTENCES = {
    Result.CONFIRMED: "confirmed: the server runs what was written",
    Result.REPORTED: "no decision was given to compare with",
    Result.NOT_SAID: "not confirmed: the log does not say it all",
    Result.DIFFERS: "not confirmed: the server runs otherwise than written",
}


def confirmation_text(confirmation: Confirmation) -> str:
    """One line a fact, then what came of it and what a reader must know of the log."""
    compared = confirmation.compared
    heads = ("FACT", "WRITTEN", "EFFECTIVE", "RESULT", "LINE", "NOTE") if compared else ("FACT", "EFFECTIVE", "LINE")
    rows = [_row(fact, compared) for fact in confirmation.facts]
    notes = [line("note", visible(note)) for note in confirmation.notes]
    return "\n".join([columns([heads, *rows]), "", line("result", _SENTENCES[confirmation.result]), *notes])


def confirmation_document(confirmation: Confirmation) -> dict[str, Any]:
    """The versioned document: `result`, `facts`, `engines`, `log`, `notes`."""
    log = confirmation.log
    return {
        "schema_version": SCHEMA_VERSION,
        "result": str(confirmation.result),
        "facts": [asdict(fact) | {"outcome": str(fact.outcome)} for fact in confirmation.facts],
        "engines": [asdict(engine) for engine in log.engines],
        "log": {"lines": log.lines, "starts": [start.number for start in log.starts], "cut": log.cut},
        "notes": list(confirmation.notes),
    }


def _row(fact: Fact, compared: bool) -> tuple[str, ...]:
    number = "-" if fact.line is None else str(fact.line)
    if not compared:
        return fact.name, _cell(fact.effective), number
    result = str(fact.outcome).replace("_", " ").replace("reported", "-")
    return fact.name, _cell(fact.written), _cell(fact.effective), result, number, _cell(fact.note)


def _cell(text: str) -> str:
    text = visible(text)
    return text if len(text) <= CLIP else text[: CLIP - 1] + "…"
