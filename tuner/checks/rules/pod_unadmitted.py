"""A live pod that asked for a decision and started without one."""

from collections.abc import Iterator

from tuner.checks.rules.rule import CheckedFile, Problem, Rule, Severity


def _problems(file: CheckedFile) -> Iterator[Problem]:
    for pod in file.unadmitted:
        severity = Severity.ERROR if pod.required else None
        yield Problem(
            f"Pod {pod.name} asks for a decision, and started without an answer of the service. {pod.answer}",
            pod.line,
            severity,
        )


RULE = Rule(
    "pod-unadmitted",
    Severity.WARNING,
    "A pod with our label has no annotation of the service.",
    of_file=_problems,
    doubt=True,
)
