"""What a verdict rests on, as text and as parts of the document: scenarios, proofs of launches, compiling. Pure."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rules.proof_finding import PLAIN, ProofFinding
from rules.reason import Reason, parts, sentence, sentences
from rules.report import Ladder, Proof, Replay, Report
from rules.verdict import Verdict
from tuner.verdicts.proofs import PLAIN_LAUNCH

NAMES_SHOWN = 4
"""Scenarios that did not run are named up to so many for each cause."""
NOT_RUN = {"not_applicable": "not applicable", "failed": "could not run"}
"""Status of a scenario that did not run -> in words."""
Row = tuple[str, list[str]]
"""A label and the texts under it."""


def evidence_rows(report: Report, verdict: Verdict, *, verbose: bool = True) -> list[Row]:
    """All that a verdict rests on beside time and place; a part that an older probe did not report has no row.

    Args:
        report: what was seen.
        verdict: what was made of it.
        verbose: list every launch that was traced, in place of their number.
    """
    rows = [
        ("evidence", scenario_texts(report)),
        ("whole model", whole_texts(report)),
        ("proofs", proof_texts(report, verdict) if verbose else brief_proof_texts(report, verdict)),
        ("compile", [compile_text(verdict)]),
        ("replay", named_texts(verdict.replays, verdict.replay_reasons)),
    ]
    return [(label, texts) for label, texts in rows if texts]


def scenario_texts(report: Report) -> list[str]:
    """How many scenarios ran, and which did not, by cause."""
    names = {scenario.name for scenario in report.scenarios}
    lost = [name for name in report.planned if name not in names]
    causes: dict[tuple[str, str], list[str]] = {("lost", ""): lost} if lost else {}
    ran = 0
    for scenario in report.scenarios:
        if scenario.status == "ran":
            ran += 1
        else:
            causes.setdefault((scenario.status, scenario.detail), []).append(scenario.name)
    total = len(report.scenarios) + len(lost)
    head = f"{ran} of {total} scenarios ran, {len(report.registered)} MoE layers"
    return [head, *(_cause(*cause) for cause in causes.items())]


def _cause(cause: tuple[str, str], names: Sequence[str]) -> str:
    status, detail = cause
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    why = f" ({clipped(detail)})" if detail else ""
    return f"{len(names)} {NOT_RUN.get(status, status)}: {', '.join(names[:NAMES_SHOWN])}{more}{why}"


def named_texts(words: Mapping[str, str], reasons: Mapping[str, Reason]) -> list[str]:
    """One line for each engine that was watched on the device."""
    width = max(map(len, words), default=0)
    return [
        f"{name.replace('_', ' '):<{width}}  {word}: {clipped(str(reasons.get(name, '')))}"
        for name, word in words.items()
    ]


def replays_part(report: Report, verdict: Verdict) -> list[dict[str, Any]]:
    """For the document: each engine with its word and why, what it was, and how many passes ran in it."""
    return [_replay_part(replay, verdict) for replay in report.replays]


def _replay_part(replay: Replay, verdict: Verdict) -> dict[str, Any]:
    return {
        "name": replay.name,
        "made_at": replay.made_at,
        "engine": replay.engine,
        "changed": list(replay.changed),
        "verdict": verdict.replays.get(replay.name),
        "reason": named_part(verdict.replay_reasons, replay.name),
        "passes": sum(run.count for run in replay.passes),
        "replayed": sum(run.count for run in replay.passes if run.replayed),
    }


def whole_texts(report: Report) -> list[str]:
    """What became of the model with every layer; nothing where no layer was cut."""
    whole = report.whole
    if whole is None:
        return []
    detail = f" ({clipped(whole.detail)})" if whole.detail else ""
    return [f"{len(whole.registered)} MoE layers, {NOT_RUN.get(whole.status, whole.status)}{detail}"]


def whole_part(report: Report) -> dict[str, Any] | None:
    """For the document: what became of the model with every layer; None where no layer was cut."""
    whole = report.whole
    if whole is None:
        return None
    return {"status": whole.status, "detail": whole.detail, "registered": list(whole.registered)}


def proof_texts(report: Report, verdict: Verdict) -> list[str]:
    """One line for each launch that was traced: what its trace proves, and what keeps it from being proved."""
    lines = []
    for proof in report.proofs:
        finding = verdict.proofs.get(proof.key)
        if finding is not None:
            launch = clipped(launch_text(proof))
            lines.append(f"{launch}: {_finding_text(finding)} ({proof.platform}, {proof.made_at[:10]})")
    return lines


def brief_proof_texts(report: Report, verdict: Verdict) -> list[str]:
    """As `proof_texts`, with the launches beside the plain one counted by what their traces prove."""
    others = [proof for proof in report.proofs if proof.key != PLAIN and proof.key in verdict.proofs]
    if len(others) < 2:  # noqa: PLR2004  a single one is as short as its count
        return proof_texts(report, verdict)
    plain = [text for text in proof_texts(report, verdict) if text.startswith(f"{PLAIN_LAUNCH}: ")]
    words = Counter(verdict.proofs[proof.key].word.replace("_", " ") for proof in others)
    counts = ", ".join(f"{number} {word}" for word, number in sorted(words.items()))
    return [*plain, f"{len(others)} other launches: {counts}; --verbose lists them"]


def launch_text(proof: Proof | Ladder) -> str:
    """The launch of a stored proof or ladder, whose compilation config is not stored."""
    if proof.arguments:
        return shlex.join(proof.arguments)
    return PLAIN_LAUNCH if proof.key == PLAIN else "another compilation config"


def _finding_text(finding: ProofFinding) -> str:
    word = finding.word.replace("_", " ")
    if not finding.reasons:
        return f"{word}, {finding.layers} MoE layers"
    more = len(finding.reasons) - 1
    return f"{word}: {clipped(sentence(finding.reasons[0]), 200)}" + (f", and {more} more" if more else "")


def proofs_part(report: Report, verdict: Verdict) -> list[dict[str, Any]]:
    """For the document: each launch that was traced, with its word and why."""
    findings = [(proof, verdict.proofs.get(proof.key)) for proof in report.proofs]
    return [_proof_part(proof, finding) for proof, finding in findings if finding is not None]


def _proof_part(proof: Proof, finding: ProofFinding) -> dict[str, Any]:
    return {
        "key": proof.key,
        "arguments": list(proof.arguments),
        "platform": proof.platform,
        "made_at": proof.made_at,
        "word": str(finding.word),
        "reasons": parts(finding.reasons),
    }


def named_part(reasons: Mapping[str, Reason], name: str) -> dict[str, Any] | None:
    """For the document: the reason of that name; None if there is none."""
    return reasons[name].part() if name in reasons else None


def compile_text(verdict: Verdict) -> str:
    """Whether the compiled model ran the same MoE layers."""
    return verdict.compile + (f": {'; '.join(sentences(verdict.compile_reasons))}" if verdict.compile_reasons else "")


def compile_part(verdict: Verdict) -> dict[str, Any]:
    """For JSON: whether the compiled model ran the same MoE layers, and why it did not or is not known to."""
    return {"word": verdict.compile, "reasons": parts(verdict.compile_reasons)}


def clipped(text: str, width: int = 90) -> str:
    """The text on one line, cut at a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
