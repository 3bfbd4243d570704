"""What a check prints: text for people, commands for GitHub, and the versioned JSON document. Pure.

Paths, names and messages come from others: every control character in them is escaped, so that no line can be forged.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from cache.secrets import without_keys
from tuner.checks.check import Checked, Outcome
from tuner.checks.examine import Examined
from tuner.checks.finding import LaunchFinding
from tuner.checks.rules.rule import Severity
from tuner.launch.document import proof_part
from tuner.text import counted, folded, visible

SCHEMA_VERSION = 1
_GITHUB_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
_COMMANDS = ("::", "##")
"""Beginnings of a line that GitHub's and Azure's runners take for a command."""


def check_document(checked: Checked) -> dict[str, Any]:
    """The document of `tuner check --json`."""
    outcomes = Counter(checked.outcomes)
    return {
        "schema_version": SCHEMA_VERSION,
        "launches": [
            _launch_part(examined, outcome)
            for examined, outcome in zip(checked.launches, checked.outcomes, strict=True)
        ],
        "findings": [_finding_part(finding) for finding in checked.findings],
        "summary": {
            "files": len(checked.files),
            "launches": len(checked.launches),
            "outcomes": {
                str(outcome): outcomes[outcome]
                for outcome in Outcome
                if outcomes[outcome] or outcome is not Outcome.FAULTY
            },
            "unread": checked.unread,
            "findings": dict(sorted(Counter(finding.rule.id for finding in checked.findings).items())),
        },
    }


def check_text(checked: Checked, *, quiet: bool = False) -> str:
    """One line a finding, as compilers print them, and two lines that sum up.

    Args:
        checked: the result.
        quiet: show errors alone, and the last lines.
    """
    lines = [_text_line(finding) for finding in _unless_quiet(checked.findings, quiet=quiet)]
    return "\n".join([*lines, *summary(checked)])


def github_text(checked: Checked, *, quiet: bool = False) -> str:
    """The findings as workflow commands of GitHub, which its code review shows beside the lines; then the sums.

    Args:
        checked: the result.
        quiet: show errors alone, and the last lines.
    """
    lines = [_github_line(finding) for finding in _unless_quiet(checked.findings, quiet=quiet)]
    return "\n".join([*lines, *summary(checked)])


def summary(checked: Checked) -> Iterator[str]:
    """How many findings there are, and what was proved of how many launches."""
    levels = Counter(finding.level for finding in checked.findings)
    yield ", ".join(counted(levels[level], level) for level in Severity)
    outcomes = Counter(checked.outcomes)
    contradicts = "contradicts" if outcomes[Outcome.CONTRADICTS] == 1 else "contradict"
    parts = [
        f"{outcomes[Outcome.MATCHES]} match{'es' if outcomes[Outcome.MATCHES] == 1 else ''}",
        f"{outcomes[Outcome.CONTRADICTS]} {contradicts}",
        f"{outcomes[Outcome.UNJUDGED]} could not be judged",
    ]
    if outcomes[Outcome.UNPROVED]:
        parts.insert(2, f"{outcomes[Outcome.UNPROVED]} not proved")
    if outcomes[Outcome.FAULTY]:
        has = "has an error" if outcomes[Outcome.FAULTY] == 1 else "have errors"
        parts.insert(2, f"{outcomes[Outcome.FAULTY]} {has}")
    if checked.unread:
        parts.append(f"{checked.unread} more not read")
    launches, files = counted(len(checked.launches), "launch", "launches"), counted(len(checked.files), "file")
    yield folded(f"{launches} in {files}: {', '.join(parts)}")


def _unless_quiet(findings: Iterable[LaunchFinding], *, quiet: bool) -> list[LaunchFinding]:
    return [finding for finding in findings if finding.level is Severity.ERROR or not quiet]


def _text_line(finding: LaunchFinding) -> str:
    path = visible(finding.path)
    if path.startswith(_COMMANDS):
        path = f"./{path}"
    about = f" [{visible(finding.launch)}]" if finding.launch else ""
    text = f"{path}:{finding.line}: {finding.level}:{about} {visible(finding.message)} ({finding.rule.id})"
    return folded(text)


def _github_line(finding: LaunchFinding) -> str:
    about = f"[{visible(finding.launch)}] " if finding.launch else ""
    properties = {"file": visible(finding.path), "line": str(finding.line), "title": f"tuner {finding.rule.id}"}
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_GITHUB_LEVELS[finding.level]} {written}::{_data(about + visible(finding.message))}"


def _data(text: str) -> str:
    """Text of a workflow command (escapeData in actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a workflow command (escapeProperty there)."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _finding_part(finding: LaunchFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "level": str(finding.level),
        "path": finding.path,
        "line": finding.line,
        "launch": finding.launch,
        "message": finding.message,
    }


def _match(examined: Examined) -> str | None:
    """What of the serving environment is known: all of it, its version alone, or nothing."""
    if examined.version is None:
        return None
    return "environment" if examined.exact else "version"


def _launch_part(examined: Examined, outcome: Outcome) -> dict[str, Any]:
    verdict = examined.plan.lookup.verdict if examined.plan else None
    return {
        "path": examined.path,
        "line": examined.launch.line,
        "outcome": str(outcome),
        "shape": examined.launch.shape,
        "name": examined.launch.name,
        "image": examined.launch.image,
        "args": without_keys(examined.launch.args),
        "model": examined.arguments.model if examined.arguments else None,
        "architecture": examined.model.architecture if examined.model else None,
        "vllm": examined.version,
        "match": _match(examined),
        "flag_status": str(examined.plan.flag.status) if examined.plan else None,
        "verdict": str(verdict.word) if verdict else None,
        "proof": proof_part(examined.plan) if examined.plan else None,
        "holds_for": examined.plan.decision.holds_for if examined.plan else None,
    }
