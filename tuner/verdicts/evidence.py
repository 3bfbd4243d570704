"""What a verdict rests on, as text and as parts of the document: scenarios, proofs of launches, compiling. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rules.proof_finding import PLAIN, ProofFinding, Reason, sentence
from rules.verdict import Verdict
from tuner.verdicts.proofs import PLAIN_LAUNCH

NAMES_SHOWN = 4
"""Scenarios that did not run are named up to so many for each cause."""
NOT_RUN = {"not_applicable": "not applicable", "failed": "could not run"}
"""Status of a scenario that did not run -> in words."""
Row = tuple[str, list[str]]
"""A label and the texts under it."""


def evidence_rows(report: Mapping[str, Any], verdict: Verdict) -> list[Row]:
    """All that a verdict rests on beside time and place; a part that an older probe did not report has no row."""
    rows = [
        ("evidence", scenario_texts(report)),
        ("whole model", whole_texts(report)),
        ("proofs", proof_texts(report, verdict)),
        ("compile", [compile_text(verdict)]),
        ("replay", named_texts(verdict.replays, verdict.replay_reasons)),
        ("output", named_texts(verdict.outputs, verdict.output_reasons)),
    ]
    return [(label, texts) for label, texts in rows if texts]


def scenario_texts(report: Mapping[str, Any]) -> list[str]:
    """How many scenarios ran, and which did not, by cause."""
    scenarios, planned = report["scenarios"], report.get("planned", ())
    lost = [name for name in planned if name not in {scenario["name"] for scenario in scenarios}]
    ran = sum(scenario["status"] == "ran" for scenario in scenarios)
    total, layers = len(scenarios) + len(lost), len(report["registered"])
    causes: dict[tuple[str, str], list[str]] = {("lost", ""): lost} if lost else {}
    for scenario in scenarios:
        if scenario["status"] != "ran":
            causes.setdefault((scenario["status"], scenario.get("detail", "")), []).append(scenario["name"])
    return [f"{ran} of {total} scenarios ran, {layers} MoE layers", *(_cause(*cause) for cause in causes.items())]


def _cause(cause: tuple[str, str], names: Sequence[str]) -> str:
    status, detail = cause
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    why = f" ({clipped(detail)})" if detail else ""
    return f"{len(names)} {NOT_RUN.get(status, status)}: {', '.join(names[:NAMES_SHOWN])}{more}{why}"


def named_texts(words: Mapping[str, str], reasons: Mapping[str, str]) -> list[str]:
    """One line for each engine that was watched on the device, or each two whose answers were compared."""
    width = max(map(len, words), default=0)
    return [
        f"{name.replace('_', ' '):<{width}}  {word}: {clipped(reasons.get(name, ''))}" for name, word in words.items()
    ]


def replays_part(report: Mapping[str, Any], verdict: Verdict) -> list[dict[str, Any]]:
    """For the document: each engine with its word and why, what it was, and how many passes ran in it."""
    return [
        {
            **_engine(one),
            "verdict": verdict.replays.get(one["name"]),
            "reason": verdict.replay_reasons.get(one["name"], ""),
            "passes": sum(part["count"] for part in one["passes"]),
            "replayed": sum(part["count"] for part in one["passes"] if part["replayed"]),
        }
        for one in report.get("replays") or ()
    ]


def outputs_part(report: Mapping[str, Any], verdict: Verdict) -> dict[str, Any] | None:
    """For the document: each comparison with its word and why, and what the engines were; None without any."""
    engines = report.get("outputs") or ()
    compared = [
        {"name": name, "verdict": word, "reason": verdict.output_reasons.get(name, "")}
        for name, word in verdict.outputs.items()
    ]
    told = [{**_engine(one), "status": one["status"], "detail": one.get("detail", "")} for one in engines]
    return {"compared": compared, "engines": told} if engines else None


def _engine(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("name", "made_at", "engine", "changed")}


def whole_texts(report: Mapping[str, Any]) -> list[str]:
    """What became of the model with every layer; nothing where no layer was cut."""
    whole = report.get("whole")
    if whole is None:
        return []
    detail = f" ({clipped(whole['detail'])})" if whole.get("detail") else ""
    status = "ran" if whole["status"] == "ran" else NOT_RUN.get(whole["status"], whole["status"])
    return [f"{len(whole['registered'])} MoE layers, {status}{detail}"]


def whole_part(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """For the document: what became of the model with every layer; None where no layer was cut."""
    whole = report.get("whole")
    return None if whole is None else {name: whole.get(name) for name in ("status", "detail", "registered")}


def proof_texts(report: Mapping[str, Any], verdict: Verdict) -> list[str]:
    """One line for each launch that was traced: what its trace proves, and what keeps it from being proved."""
    lines = []
    for proof in report.get("proofs") or ():
        finding = verdict.proofs.get(proof["key"])
        if finding is not None:
            lines.append(f"{_launch(proof)}: {_found(finding)} ({proof['platform']}, {proof['made_at'][:10]})")
    return lines


def _launch(proof: Mapping[str, Any]) -> str:
    """The launch of a stored proof, whose compilation config is not stored."""
    if proof["arguments"]:
        return clipped(shlex.join(proof["arguments"]))
    return PLAIN_LAUNCH if proof["key"] == PLAIN else "another compilation config"


def _found(finding: ProofFinding) -> str:
    word = finding.word.replace("_", " ")
    if not finding.reasons:
        return f"{word}, {finding.layers} MoE layers"
    more = len(finding.reasons) - 1
    return f"{word}: {clipped(sentence(finding.reasons[0]), 200)}" + (f", and {more} more" if more else "")


def proofs_part(report: Mapping[str, Any], verdict: Verdict) -> list[dict[str, Any]]:
    """For the document: each launch that was traced, with its word and why."""
    return [
        {
            "key": proof["key"],
            "arguments": list(proof["arguments"]),
            "platform": proof["platform"],
            "made_at": proof["made_at"],
            "word": str(finding.word),
            "reasons": [reason_part(reason) for reason in finding.reasons],
        }
        for proof in report.get("proofs") or ()
        if (finding := verdict.proofs.get(proof["key"])) is not None
    ]


def reason_part(reason: Reason) -> dict[str, Any]:
    """For the document: a reason as data, with its sentence."""
    fields = dict(reason.fields)
    return {"code": reason.code, "condition": reason.condition, "fields": fields, "sentence": sentence(reason)}


def compile_text(verdict: Verdict) -> str:
    """Whether the compiled model ran the same MoE layers."""
    return verdict.compile + (f": {'; '.join(verdict.compile_reasons)}" if verdict.compile_reasons else "")


def compile_part(verdict: Verdict) -> dict[str, Any]:
    """For JSON: whether the compiled model ran the same MoE layers, and why it did not or is not known to."""
    return {"word": verdict.compile, "reasons": list(verdict.compile_reasons)}


def clipped(text: str, width: int = 90) -> str:
    """The text on one line, cut at a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
