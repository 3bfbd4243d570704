"""What a rule of `tuner check` is: its name, how bad it is, what it means, and the function that looks. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tuner.checks.admitted import UnadmittedPod
from tuner.checks.examine import Examined
from tuner.errors import ExitCode
from tuner.manifests.launch import UnreadLaunch


class Severity(StrEnum):
    """How bad a finding is, in SARIF's words."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Problem:
    """What a rule sees; who calls the rule knows where.

    Attributes:
        message: what is wrong; whole sentences.
        line: the line it is about, from 1; None: the line of the launch, or the first one of the file.
        severity: None: the rule's.
    """

    message: str
    line: int | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class CheckedFile:
    """A file that was looked into.

    Attributes:
        path: as it was named, or as it was met in a folder.
        unreadable: why it cannot be read; a part of a sentence; empty if it was read.
        unread: places that start vLLM in a form that is not read.
        unadmitted: live pods that started without an answer of the service; empty where none was asked.
    """

    path: str
    unreadable: str = ""
    unread: tuple[UnreadLaunch, ...] = ()
    unadmitted: tuple[UnadmittedPod, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule. It has one of the three functions, or none where the check itself makes the finding.

    Attributes:
        id: its name in results, and the name of its page in `docs/rules/`.
        severity: of its findings, where the problem does not say otherwise.
        meaning: one sentence.
        of_launch: looks at one launch.
        of_launches: looks at all launches of a run, and names the launch that each problem is of.
        of_file: looks at one file.
        exit_code: how a check ends that has an error of this rule.
        doubt: a finding means that something was not judged, which ends with 3 under `--fail-on-unknown`.
        unproved: a finding that is not a note means that nothing proves the launch.
        names_basis: a finding says so where only the version of vLLM was matched.
    """

    id: str
    severity: Severity
    meaning: str
    of_launch: Callable[[Examined], Iterable[Problem]] | None = None
    of_launches: Callable[[Sequence[Examined]], Iterable[tuple[Examined, Problem]]] | None = None
    of_file: Callable[[CheckedFile], Iterable[Problem]] | None = None
    exit_code: ExitCode = ExitCode.ERROR
    doubt: bool = False
    unproved: bool = False
    names_basis: bool = True


_OF_NAMES = re.compile(r"[/_.\d]")
"""What stands in the names of models and options, and in no other first word of a sentence."""


def line_of(examined: Examined, part: str) -> int:
    """The line of the last argument whose option has this in its name or is its short form, else the launch's."""
    lines = [
        word.line for word in examined.launch.words if part in word.text.split("=")[0] or word.text.startswith("-cc")
    ]
    return lines[-1] if lines else examined.launch.line


def sentence(text: str) -> str:
    """The text with a capital letter in front and a full stop behind."""
    word = text.partition(" ")[0]
    is_name = bool(_OF_NAMES.search(word.rstrip(".,:;")))  # of a model or an option: it stays as it is
    first = text[:1] if is_name else text[:1].upper()
    return f"{first}{text[1:].rstrip('.')}."
