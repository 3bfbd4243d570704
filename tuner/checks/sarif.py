"""A check as SARIF 2.1.0 (OASIS), which code review shows beside the lines. Pure."""

from typing import Any
from urllib.parse import quote

from tuner import __version__
from tuner.checks.check import Checked
from tuner.checks.finding import LaunchFinding
from tuner.checks.rules.registry import RULES
from tuner.checks.rules.rule import Rule

PAGES = "https://example.com/vllm-moe-tuner/docs/rules"
"""Where the pages of the rules lie: this repository, at the address that `.pre-commit-hooks.yaml` has."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
VERSION = "2.1.0"


def sarif_log(checked: Checked) -> dict[str, Any]:
    """The log of one run: every rule, and one result a finding."""
    driver = {"name": "tuner", "version": __version__, "rules": [_rule(rule) for rule in RULES]}
    results = [_result(finding) for finding in checked.findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": VERSION, "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.meaning},
        "helpUri": f"{PAGES}/{rule.id}.md",
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(finding: LaunchFinding) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": quote(finding.path)},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": RULES.index(finding.rule),
        "level": str(finding.level),
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }
