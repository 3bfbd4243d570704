"""The rules of `tuner check`: each is registered, described, and does one thing."""

import re
from pathlib import Path

import pytest

from tuner.checks.rules.registry import RULES
from tuner.checks.rules.rule import Rule

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "rules"
MODULES = ROOT / "tuner" / "checks" / "rules"
SHARED = {"__init__", "rule", "flag", "options", "registry", "surroundings"}
"""Modules beside the rules that are not rules."""
BY_ID = {rule.id: rule for rule in RULES}
LAST_PART = re.compile(r"\A.*\n\n## What it means\n\n.+\n\n## Example\n\n```.+```\n\n## What to do\n\n.+\Z", re.DOTALL)


def test_each_rule_has_a_name_of_its_own() -> None:
    """No two rules share an id."""
    assert len(BY_ID) == len(RULES)


def test_each_rule_has_a_page_and_each_page_a_rule() -> None:
    """The pages are those of the rules, and the index."""
    assert {file.stem for file in PAGES.glob("*.md")} == {*BY_ID, "README"}


def test_each_file_is_a_rule_that_is_registered() -> None:
    """A rule that nobody registered does not run; its file has the name of the rule."""
    names = {file.stem for file in MODULES.glob("*.py")} - SHARED
    assert names == {rule.id.replace("-", "_") for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_page_says_what_the_rule_is(rule: Rule) -> None:
    """Its name, its meaning and level, what it means, an example, and what to do; and the index has its row."""
    page = (PAGES / f"{rule.id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {rule.id}\n\n{rule.meaning}\nLevel: {rule.severity}.\n")
    assert LAST_PART.match(page)
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert f"| [{rule.id}]({rule.id}.md) | {rule.severity} | {rule.meaning} |" in index


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_looks_at_one_thing(rule: Rule) -> None:
    """It has one function, unless the check itself makes its finding; its meaning is a sentence."""
    functions = [rule.of_launch, rule.of_launches, rule.of_file]
    number = len([function for function in functions if function is not None])
    assert number == (0 if rule.id == "suppression-unused" else 1)
    assert rule.meaning.endswith(".")
