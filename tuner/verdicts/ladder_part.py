"""The ladder of a launch as a part of the JSON document. Pure."""

from typing import Any

from msgspec import to_builtins

from rules.ladder import Limit, limits
from rules.ladder_finding import LadderFinding
from rules.reason import parts
from rules.report import ArmRun, Ladder


def ladder_part(ladder: Ladder, finding: LadderFinding) -> dict[str, Any]:
    """For the document: what the launch is, what to write into it, and each arm with its word and why."""
    limit_of = limits(ladder)
    return {
        "key": ladder.key,
        "word": str(finding.word),
        "reasons": parts(finding.reasons),
        "remedy": to_builtins(finding.remedy),
        "users": list(finding.users),
        "instead": to_builtins(finding.instead),
        "variables": ladder.variables,
        "platform": ladder.platform,
        "gpu": ladder.gpu or None,
        "made_at": ladder.made_at,
        "prefer": ladder.prefer or None,
        "arms": [_arm_part(arm, finding, limit_of.get(arm.name)) for arm in ladder.arms],
    }


def _arm_part(arm: ArmRun, finding: LadderFinding, limit: Limit | None) -> dict[str, Any]:
    fields: dict[str, Any] = to_builtins(arm)
    word, why = finding.arms.get(arm.name), finding.arm_reasons.get(arm.name)
    return {
        **fields,
        "word": None if word is None else str(word),
        "reason": why.part() if why else None,
        "limit": limit.nats if limit else None,
        "counts": limit.counts if limit else None,
    }
