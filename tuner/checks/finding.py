"""A finding of `tuner check`: a rule, a place, and a message. Pure."""

from dataclasses import dataclass

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import CheckedFile, Problem, Rule, Severity


@dataclass(frozen=True)
class LaunchFinding:
    """One finding.

    Attributes:
        rule: what it is about.
        level: how bad it is.
        path: the manifest.
        line: the line it is about, from 1.
        message: what is wrong there; whole sentences.
        launch: name of the launch; empty for a file.
        launch_line: where the launch begins; 0 for a file.
    """

    rule: Rule
    level: Severity
    path: str
    line: int
    message: str
    launch: str = ""
    launch_line: int = 0


def of_launch(rule: Rule, examined: Examined, problem: Problem) -> LaunchFinding:
    """What a rule sees in a launch; it says what it rests on where that is less than the whole environment."""
    by_version = rule.names_basis and examined.version is not None and not examined.exact
    basis = f" Matched by the vLLM version only, {examined.version}." if by_version else ""
    line = examined.launch.line if problem.line is None else problem.line
    level = problem.severity or rule.severity
    launch = examined.launch
    return LaunchFinding(rule, level, examined.path, line, problem.message + basis, launch.name, launch.line)


def of_file(rule: Rule, file: CheckedFile, problem: Problem) -> LaunchFinding:
    """What a rule sees in a file."""
    line = 1 if problem.line is None else problem.line
    return LaunchFinding(rule, problem.severity or rule.severity, file.path, line, problem.message)
