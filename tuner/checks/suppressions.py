"""Comments that suppress findings: `# tuner: ignore[rule, ...]`. Pure.

A comment behind something else is for its own line, and a comment alone is for the line below. A comment at the line
where a launch begins is for all findings of that launch: no comment can stand inside a command of several lines.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tuner.checks.finding import LaunchFinding

_COMMENT = re.compile(r"^(?P<before>.*?)(?:#|//|;|<!--)[ \t]*tuner:[ \t]*ignore\[(?P<rules>[^\]\n]*)\]", re.MULTILINE)


@dataclass(frozen=True)
class Suppression:
    """One rule of one comment.

    Attributes:
        path: the file.
        line: where the comment stands, from 1.
        lines: the lines that it is for.
        rule: id of the rule.
    """

    path: str
    line: int
    lines: tuple[int, ...]
    rule: str

    def covers(self, finding: LaunchFinding) -> bool:
        """Whether a finding is suppressed by it."""
        here = {finding.line, finding.launch_line} & set(self.lines)
        return finding.path == self.path and finding.rule.id == self.rule and bool(here)


def suppressions_in(path: str, text: str) -> Iterator[Suppression]:
    """The suppressions in the comments of a file."""
    if "tuner:" not in text:
        return
    for match in _COMMENT.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        lines = (line,) if match["before"].strip() else (line, line + 1)
        for rule in match["rules"].split(","):
            yield Suppression(path, line, lines, rule.strip())


def split(
    findings: Iterable[LaunchFinding], suppressions: Sequence[Suppression]
) -> tuple[list[LaunchFinding], list[Suppression]]:
    """The findings that are not suppressed, and the suppressions that suppress nothing."""
    reported: list[LaunchFinding] = []
    used: set[Suppression] = set()
    for finding in findings:
        covering = {suppression for suppression in suppressions if suppression.covers(finding)}
        used |= covering
        if not covering:
            reported.append(finding)
    return reported, [suppression for suppression in suppressions if suppression not in used]
