"""A place that starts vLLM in a form that is not read."""

from collections.abc import Iterator

from tuner.checks.rules.rule import CheckedFile, Problem, Rule, Severity


def _problems(file: CheckedFile) -> Iterator[Problem]:
    for unread in file.unread:
        yield Problem(
            f"vLLM is started here in a form that is not read, and was not checked: {unread.form}.", unread.line
        )


RULE = Rule(
    "launch-unread",
    Severity.NOTE,
    "The file starts vLLM in a form that is not read.",
    of_file=_problems,
    doubt=True,
)
