"""What all rules see in a launch, in the launches of a run, and in a file. Pure."""

from collections.abc import Iterator, Sequence

from tuner.checks.examine import Examined
from tuner.checks.finding import LaunchFinding, of_file, of_launch
from tuner.checks.rules.registry import RULES
from tuner.checks.rules.rule import CheckedFile


def launch_findings(examined: Examined) -> Iterator[LaunchFinding]:
    """The findings of one launch."""
    for rule in RULES:
        if rule.of_launch is not None:
            for problem in rule.of_launch(examined):
                yield of_launch(rule, examined, problem)


def run_findings(launches: Sequence[Examined]) -> Iterator[LaunchFinding]:
    """The findings of launches beside each other."""
    for rule in RULES:
        if rule.of_launches is not None:
            for examined, problem in rule.of_launches(launches):
                yield of_launch(rule, examined, problem)


def file_findings(file: CheckedFile) -> Iterator[LaunchFinding]:
    """The findings of one file."""
    for rule in RULES:
        if rule.of_file is not None:
            for problem in rule.of_file(file):
                yield of_file(rule, file, problem)
