"""A confirmation as text for people and as a JSON document. Pure: values in, text or values out.

A log is text of anybody: what would move the cursor or change colours is written as an escape.
"""

from dataclasses import asdict
from typing import Any

from tuner.confirm.outcome import Alarm, Confirmation, Fact, FactResult, Result
from tuner.server_log.engine_line import FlagValue, NoDraft
from tuner.server_log.log import Engine
from tuner.text import columns, line, visible

SCHEMA_VERSION = 1
"""Of the document; changed when a field is removed or means something else."""
CLIP = 24
"""Characters of a value that the table shows beside another one."""
WIDE_CLIP = 58
"""Characters of a value that the table shows alone."""
_SENTENCES = {
    Result.CONFIRMED: "confirmed: the server runs what was written",
    Result.REPORTED: "no decision was given to compare with",
    Result.NOT_SAID: "not confirmed: the log does not say it all",
    Result.DIFFERS: "not confirmed: the server runs otherwise than written",
}
_ALARMS = {
    Alarm.NONE: "",
    Alarm.WRONG: "This server is answering now, and it runs wrong experts: stop it.",
    Alarm.WRONG_SETTING: "This server is answering now, and its settings were found wrong: stop it.",
    Alarm.UNPROVED: "This server is answering now, and nothing proves that it runs the right experts.",
}
_DOUBTS = {FactResult.DIFFERS, FactResult.NOT_SAID}
_FLAGS = {FlagValue.ON: True, FlagValue.OFF: False, FlagValue.ABSENT: "absent"}
"""How the document writes the flag of an engine; null where the log does not say it."""


def confirmation_text(confirmation: Confirmation) -> str:
    """One line a fact, then what came of it and what a reader must know of the log.

    A server that answers now and runs wrong experts comes first.
    """
    compared = confirmation.compared
    heads = ("FACT", "WRITTEN", "EFFECTIVE", "RESULT", "LINE") if compared else ("FACT", "EFFECTIVE", "LINE")
    rows = [_row(fact, compared) for fact in confirmation.facts]
    alarm = [_ALARMS[confirmation.alarm], ""] if confirmation.alarm is not Alarm.NONE else []
    facts: list[str] = []
    for fact in confirmation.facts:
        facts += _about(fact, compared)
    notes = [line("note", note) for note in confirmation.notes]
    outcome = line("result", _SENTENCES[confirmation.result])
    return "\n".join([*alarm, columns([heads, *rows]), "", *facts, outcome, *notes])


def confirmation_document(confirmation: Confirmation) -> dict[str, Any]:
    """The versioned document: `alarm`, `result`, `facts`, `engines`, `log`, `notes`."""
    log = confirmation.log
    return {
        "schema_version": SCHEMA_VERSION,
        "alarm": {"kind": str(confirmation.alarm), "text": _ALARMS[confirmation.alarm]},
        "result": str(confirmation.result),
        "facts": [asdict(fact) | {"outcome": str(fact.outcome)} for fact in confirmation.facts],
        "engines": [_engine(engine) for engine in log.engines],
        "log": {"lines": log.lines, "starts": [start.number for start in log.starts], "cut": log.cut},
        "notes": list(confirmation.notes),
    }


def _engine(engine: Engine) -> dict[str, Any]:
    config = asdict(engine.config) | {"flag": _FLAGS.get(engine.config.flag)}
    if isinstance(engine.config.speculative, NoDraft):
        config["speculative"] = {NoDraft.NONE: False, NoDraft.UNSAID: None}[engine.config.speculative]
    return {
        "name": engine.name,
        "pid": engine.process.pid or None,
        "line": engine.line,
        "config": config,
        "ready": engine.ready,
    }


def _row(fact: Fact, compared: bool) -> tuple[str, ...]:
    number = "-" if fact.line is None else str(fact.line)
    if not compared:
        return fact.name, _cell(fact.effective, WIDE_CLIP), number
    result = str(fact.outcome).replace("_", " ").replace("reported", "-")
    return fact.name, _cell(fact.written, CLIP), _cell(fact.effective, CLIP), result, number


def _about(fact: Fact, compared: bool) -> list[str]:
    """What the table has no room for: values in doubt where one of them was clipped, a note, and the cause."""
    texts = [text for text in (fact.note, fact.why) if text]
    if compared and fact.outcome in _DOUBTS and max(len(fact.written), len(fact.effective)) > CLIP:
        texts = [f"written {fact.written}", f"effective {fact.effective}", *texts]
    elif not compared and len(fact.effective) > WIDE_CLIP:
        texts = [fact.effective, *texts]
    labels = [fact.name, *[""] * len(texts)]
    return [line(label, text) for label, text in zip(labels, texts, strict=False)]


def _cell(text: str, clip: int) -> str:
    text = visible(text)
    return text if len(text) <= clip else text[: clip - 1] + "…"
