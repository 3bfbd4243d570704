"""All that a report says of one stored verdict, gathered once for every form that it is shown in."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cache.compiled.warm_record import WarmRecord
from cache.verdicts.entry import Entry
from rules.reason import sentences
from rules.report import Report
from rules.verdict import Verdict
from tuner.report.conditions import LaunchConditions, launch_conditions
from tuner.report.decision import DecisionText, decision_text
from tuner.report.ladders import LadderView, ladder_views
from tuner.report.proved import Claims, claims
from tuner.report.starts import WarmView, Waterfall, engine_starts, warm_views
from tuner.report.timeline import Timeline, missing_timeline, timelines

DIGEST_SHOWN = 12
"""Characters of a key that a person needs."""


@dataclass(frozen=True)
class VerdictReport:
    """What a report says.

    Attributes:
        model: the name of what was probed, or the architecture if the name is not stored.
        architecture: its class in vLLM.
        key: the entry's digest.
        probed_at: when, ISO 8601 in UTC.
        word: the verdict.
        reasons: why, as sentences without a full stop.
        decision: what it decides, and how long that holds.
        timelines: the passes that are shown.
        no_timeline: why one is missing; may be empty.
        launches: launches that were traced.
        ladders: launches whose engines were compared.
        starts: starts of these engines.
        warm: warm-ups of compile caches on this machine.
        claims: what is shown and what is not.
        commands: each repeats a part of this; may hold the word MODEL if the model's place is not known.
    """

    model: str
    architecture: str
    key: str
    probed_at: str
    word: str
    reasons: tuple[str, ...]
    decision: DecisionText
    timelines: tuple[Timeline, ...]
    no_timeline: str
    launches: tuple[LaunchConditions, ...]
    ladders: tuple[LadderView, ...]
    starts: tuple[Waterfall, ...]
    warm: tuple[WarmView, ...]
    claims: Claims
    commands: tuple[str, ...]


def verdict_report(entry: Entry, report: Report, verdict: Verdict, records: Sequence[WarmRecord] = ()) -> VerdictReport:
    """The report of one entry.

    Args:
        entry: what is stored.
        report: its observations.
        verdict: its verdict.
        records: warm-ups that lie in a cache root here, newest first.
    """
    return VerdictReport(
        model=model_name(entry),
        architecture=str(entry.key["architecture"]),
        key=entry.digest,
        probed_at=entry.probed_at,
        word=str(verdict.word),
        reasons=tuple(sentences(verdict.reasons)),
        decision=decision_text(entry, report, verdict),
        timelines=timelines(report, verdict),
        no_timeline=missing_timeline(report, verdict),
        launches=launch_conditions(report, verdict),
        ladders=ladder_views(report, verdict),
        starts=engine_starts(report),
        warm=warm_views(records, entry.key),
        claims=claims(report, verdict),
        commands=_commands(entry, report),
    )


def model_name(entry: Entry) -> str:
    """The name of what was probed; the architecture for an entry that does not name it."""
    return entry.origin.name if entry.origin else str(entry.key["architecture"])


def _commands(entry: Entry, report: Report) -> tuple[str, ...]:
    """The commands that make this again: the probe, each proof with arguments, each ladder."""
    model = (entry.origin.file or entry.origin.name) if entry.origin else "MODEL"
    implementation = str(entry.key.get("model_impl", "auto"))
    options = ["--model-impl", implementation] if implementation != "auto" else []
    options += ["--trust-remote-code"] if entry.key.get("remote_code") else []
    commands = [["tuner", "probe", *options, model]]
    commands += [
        ["tuner", "probe", *options, model, "--", *proof.arguments] for proof in report.proofs if proof.arguments
    ]
    for ladder in report.ladders:
        arguments = [*options, *ladder.arguments]
        commands.append(["tuner", "tune", model, *(["--", *arguments] if arguments else [])])
    if report.replays:
        commands.append(["tuner", "probe", "--depth", "replay", *options, model])
    return tuple(dict.fromkeys(shlex.join(command) for command in commands))
