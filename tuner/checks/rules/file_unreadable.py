"""A file that cannot be read."""

from collections.abc import Iterator

from tuner.checks.rules.rule import CheckedFile, Problem, Rule, Severity


def _problems(file: CheckedFile) -> Iterator[Problem]:
    if file.unreadable and not file.unread:  # else `launch-unread` says what to do
        yield Problem(f"Nothing in it was checked: {file.unreadable.rstrip('.')}.")


RULE = Rule(
    "file-unreadable",
    Severity.NOTE,
    "The file cannot be read as what its name says.",
    of_file=_problems,
    doubt=True,
)
