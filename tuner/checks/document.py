"""What a check prints: text for people, and the versioned JSON document. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from cache.secrets import without_keys
from tuner.checks.check import Checked
from tuner.checks.examine import Examined
from tuner.checks.finding import LaunchFinding
from tuner.checks.rules.rule import Severity
from tuner.launch.document import proof_part

SCHEMA_VERSION = 1


def check_document(checked: Checked) -> dict[str, Any]:
    """The document of `tuner check --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "launches": [_launch_part(examined) for examined in checked.launches],
        "findings": [_finding_part(finding) for finding in checked.findings],
        "summary": {
            "files": len(checked.files),
            "launches": len(checked.launches),
            "findings": dict(sorted(Counter(finding.rule.id for finding in checked.findings).items())),
        },
    }


def check_text(checked: Checked) -> str:
    """One line a finding, as compilers print them, and a line that sums up."""
    return "\n".join([*_lines(checked), _summary(checked)])


def _lines(checked: Checked) -> Iterator[str]:
    for finding in checked.findings:
        about = f" [{finding.launch}]" if finding.launch else ""
        yield f"{finding.path}:{finding.line}: {finding.level}:{about} {finding.message} ({finding.rule.id})"


def _summary(checked: Checked) -> str:
    levels = Counter(finding.level for finding in checked.findings)
    counts = ", ".join(_counted(levels[level], level, "s") for level in Severity)
    return f"{_counted(len(checked.launches), 'launch', 'es')} in {_counted(len(checked.files), 'file', 's')}: {counts}"


def _counted(number: int, noun: str, plural: str) -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


def _finding_part(finding: LaunchFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "level": str(finding.level),
        "path": finding.path,
        "line": finding.line,
        "launch": finding.launch,
        "message": finding.message,
    }


def _launch_part(examined: Examined) -> dict[str, Any]:
    verdict = examined.plan.lookup.verdict if examined.plan else None
    return {
        "path": examined.path,
        "line": examined.launch.line,
        "shape": examined.launch.shape,
        "name": examined.launch.name,
        "image": examined.launch.image,
        "args": without_keys(examined.launch.args),
        "model": examined.arguments.model if examined.arguments else None,
        "architecture": examined.model.architecture if examined.model else None,
        "vllm": examined.version,
        "match": None if examined.version is None else "environment" if examined.exact else "version",
        "flag_status": str(examined.plan.flag.status) if examined.plan else None,
        "verdict": str(verdict.word) if verdict else None,
        "proof": proof_part(examined.plan) if examined.plan else None,
        "holds_for": examined.plan.decision.holds_for if examined.plan else None,
    }
