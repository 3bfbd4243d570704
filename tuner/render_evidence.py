"""What a verdict rests on, as rows of text: scenarios, branches, other serving settings, compiling. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rules.verdict import Verdict

NAMES_SHOWN = 4
"""Scenarios that did not run are named up to so many for each cause."""
NOT_RUN = {"not_applicable": "not applicable", "failed": "could not run"}
"""Status of a scenario that did not run -> in words."""
STATUSES = {"seen": "seen all ways", "constant": "constant", "unexplored": "unexplored"}
"""Status of a branch -> in words."""

Row = tuple[str, list[str]]
"""A label and the texts under it."""


def evidence_rows(report: Mapping[str, Any], verdict: Verdict) -> list[Row]:
    """All that a verdict rests on beside time and place; a part that an older probe did not report has no row."""
    rows = [
        ("evidence", scenario_texts(report)),
        ("branches", [branches_text(report)]),
        ("variants", variant_texts(report, verdict)),
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


def branches_text(report: Mapping[str, Any]) -> str:
    """How many branches can change MoE calls, and what is known of them."""
    exploration = report.get("exploration")
    if not report["registered"]:
        return "none can reach a MoE layer, since there is none"
    if exploration is None:
        return "not explored"
    if exploration["status"] != "ran":
        return f"could not be explored ({clipped(exploration.get('detail', ''))})"
    counts = branch_counts(exploration)
    return f"{sum(counts.values())} can change MoE calls: {', '.join(f'{counts[k]} {v}' for k, v in STATUSES.items())}"


def branch_counts(exploration: Mapping[str, Any]) -> dict[str, int]:
    """How many branches have each status."""
    found = Counter(branch["status"] for branch in exploration["branches"])
    return {status: found[status] for status in STATUSES}


def variant_texts(report: Mapping[str, Any], verdict: Verdict) -> list[str]:
    """One line for each other serving setting: its word, and what keeps it from being safe."""
    variants = report.get("variants") or ()
    width = max((len(variant["name"]) for variant in variants), default=0)
    return [f"{variant['name']:<{width}}  {_found(variant, verdict)}" for variant in variants]


def _found(variant: Mapping[str, Any], verdict: Verdict) -> str:
    word = verdict.variants.get(variant["name"])
    reason = clipped(verdict.variant_reasons.get(variant["name"]) or variant.get("detail", ""))
    if word is None:
        return reason or str(variant["status"])
    return f"{word} ({reason})" if reason else word


def compile_text(verdict: Verdict) -> str:
    """Whether the compiled model ran the same MoE layers."""
    return verdict.compile + (f": {'; '.join(verdict.compile_reasons)}" if verdict.compile_reasons else "")


def exploration_part(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """For JSON: how many branches have each status, and the unexplored ones in full; None if none was looked at."""
    exploration = report.get("exploration")
    if exploration is None:
        return None
    return {
        **{name: exploration.get(name) for name in ("status", "detail", "functions", "seconds")},
        "branches": branch_counts(exploration),
        "unexplored": [branch for branch in exploration["branches"] if branch["status"] == "unexplored"],
    }


def variants_part(report: Mapping[str, Any], verdict: Verdict) -> list[dict[str, Any]]:
    """For JSON: each other serving setting. `word` is null where it did not run, `reason` says what keeps it unsafe."""
    return [
        {
            "name": variant["name"],
            "status": variant["status"],
            "word": verdict.variants.get(variant["name"]),
            "reason": verdict.variant_reasons.get(variant["name"], ""),
            "detail": variant.get("detail", ""),
        }
        for variant in report.get("variants") or ()
    ]


def compile_part(verdict: Verdict) -> dict[str, Any]:
    """For JSON: whether the compiled model ran the same MoE layers, and why it did not or is not known to."""
    return {"word": verdict.compile, "reasons": list(verdict.compile_reasons)}


def clipped(text: str, width: int = 90) -> str:
    """The text on one line, cut at a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
