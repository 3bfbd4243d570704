"""`tuner check`: the launches below some paths and their findings. Files are read; nothing is run or fetched."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from textwrap import fill

from rules.errors import ErrorKind, TunerError
from tuner.checks.admitted import Ask, unadmitted_pods
from tuner.checks.examine import Examined, Knowledge, examine
from tuner.checks.finding import LaunchFinding, of_file
from tuner.checks.findings import file_findings, launch_findings, run_findings
from tuner.checks.rules import suppression_unused
from tuner.checks.rules.registry import RULES
from tuner.checks.rules.rule import CheckedFile, Problem, Severity
from tuner.checks.sources import STDIN, launches_of, manifests_at, name_of, read_manifest, shown_path
from tuner.checks.suppressions import Suppression, split, suppressions_in
from tuner.errors import ExitCode
from tuner.manifests.files import files_below, is_yaml
from tuner.manifests.mentions.unread import reason_with_advice, unread_launches

HINT_WIDTH = 78
"""A line of a hint is indented by two columns."""


class Outcome(StrEnum):
    """What a check can say of a launch."""

    MATCHES = "matches"
    """What it says agrees with its verdict, or does nothing in its vLLM."""
    CONTRADICTS = "contradicts"
    """Its flag contradicts its verdict."""
    FAULTY = "faulty"
    """It has another error."""
    UNPROVED = "unproved"
    """The flag is on, and nothing proves that this is safe."""
    UNJUDGED = "unjudged"
    """Its model, its vLLM, its arguments or its verdict are not known."""


@dataclass(frozen=True)
class Choice:
    """Which rules a user wants to see.

    Attributes:
        select: ids of the rules; empty for all.
        ignore: ids of rules that are left out.
    """

    select: Collection[str] = ()
    ignore: Collection[str] = ()

    def takes(self, rule: str) -> bool:
        """Whether findings of a rule are wanted."""
        return rule not in self.ignore and (not self.select or rule in self.select)


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        files: the files that were looked into.
        launches: every launch in them.
        outcomes: of each launch, whatever findings are suppressed or not wanted.
        unread: how many places start vLLM in a form that is not read.
        findings: in the order of files and lines.
        empty_folders: folders that were named and hold no file that is looked into.
    """

    files: tuple[str, ...]
    launches: tuple[Examined, ...]
    outcomes: tuple[Outcome, ...]
    unread: int
    findings: tuple[LaunchFinding, ...]
    empty_folders: tuple[str, ...] = ()

    def exit_code(self, *, fail_on_unknown: bool) -> ExitCode:
        """How the command ends: the worst of what was found.

        Args:
            fail_on_unknown: launches that could not be judged count, too.
        """
        codes = {finding.rule.exit_code for finding in self.findings if finding.level is Severity.ERROR}
        for code in (ExitCode.CONTRADICTION, ExitCode.REFUSED, ExitCode.ERROR):
            if code in codes:
                return code
        doubtful = any(finding.rule.doubt for finding in self.findings)
        return ExitCode.UNKNOWN if fail_on_unknown and doubtful else ExitCode.FINE


@dataclass
class _Looked:
    """What was read of all files."""

    files: list[CheckedFile] = field(default_factory=list)
    launches: list[Examined] = field(default_factory=list)
    suppressions: list[Suppression] = field(default_factory=list)


def check(paths: Iterable[Path], knowledge: Knowledge, choice: Choice | None = None, ask: Ask | None = None) -> Checked:
    """Check every manifest at these paths.

    Args:
        paths: files, folders, and `-` for standard input.
        knowledge: what is known beside the manifests.
        choice: the rules that are wanted; None: all.
        ask: asks a service about live pods that it never saw; None: manifests are checked, and such pods are not.

    Raises:
        TunerError: there is nothing at a path, or no rule of a chosen name.
        StoreError: the store is damaged.
    """
    choice = choice or Choice()
    require_rules([*choice.select, *choice.ignore])
    looked = _Looked()
    paths = list(paths)
    for file in manifests_at(paths):
        _look(file, knowledge, looked, ask)
    by_launch = [list(launch_findings(examined)) for examined in looked.launches]
    findings = [finding for group in by_launch for finding in group]
    findings += run_findings(looked.launches)
    findings += (finding for file in looked.files for finding in file_findings(file))
    chosen = [finding for finding in findings if choice.takes(finding.rule.id)]
    reported, unused = split(chosen, looked.suppressions)
    reported += _unused(unused, choice)
    return Checked(
        tuple(file.path for file in looked.files),
        tuple(looked.launches),
        tuple(_outcome(group) for group in by_launch),
        sum(len(file.unread) for file in looked.files),
        tuple(_in_order(reported, looked.files)),
        tuple(str(path) for path in paths if path != STDIN and path.is_dir() and not any(files_below(path))),
    )


def require_rules(ids: Iterable[str]) -> None:
    """Check that these are rules.

    Raises:
        TunerError: one is not; the message names those that are.
    """
    names = {rule.id for rule in RULES}
    for name in ids:
        if name not in names:
            raise TunerError(
                f"There is no rule {name}.",
                hint=fill(f"The rules are {', '.join(sorted(names))}.", HINT_WIDTH, break_on_hyphens=False),
                kind=ErrorKind.USAGE,
            )


def _look(file: Path, knowledge: Knowledge, looked: _Looked, ask: Ask | None) -> None:
    """Read one file, and find out what is known of its launches."""
    path, text = shown_path(file), ""
    try:
        text = read_manifest(file)
        launches = launches_of(file, text)
    except ValueError as error:
        unread = unread_launches(name_of(file), text, [])
        why = reason_with_advice(name_of(file), text, str(error))
        looked.files.append(CheckedFile(path, why, tuple(unread)))
        return
    unread = unread_launches(name_of(file), text, launches)
    unadmitted = tuple(unadmitted_pods(text, ask)) if ask and is_yaml(name_of(file)) else ()
    looked.files.append(CheckedFile(path, "", tuple(unread), unadmitted))
    looked.suppressions += suppressions_in(path, text)
    looked.launches += [examine(path, launch, knowledge) for launch in launches]


def _outcome(findings: Sequence[LaunchFinding]) -> Outcome:
    """What the findings of a launch say of it: the worst."""
    errors = [finding for finding in findings if finding.level is Severity.ERROR]
    if any(finding.rule.exit_code in {ExitCode.CONTRADICTION, ExitCode.REFUSED} for finding in errors):
        return Outcome.CONTRADICTS
    if errors:
        return Outcome.FAULTY
    if any(finding.rule.doubt for finding in findings):
        return Outcome.UNJUDGED
    if any(finding.rule.unproved and finding.level is not Severity.NOTE for finding in findings):
        return Outcome.UNPROVED
    return Outcome.MATCHES


def _unused(suppressions: Iterable[Suppression], choice: Choice) -> Iterator[LaunchFinding]:
    """A finding for each suppression of a rule that is wanted and has no finding there."""
    names = {rule.id for rule in RULES}
    if not choice.takes(suppression_unused.RULE.id):
        return
    for suppression in suppressions:
        if suppression.rule not in names:
            problem = f"There is no rule {suppression.rule}, so this comment suppresses nothing."
        elif choice.takes(suppression.rule):
            problem = f"This comment suppresses {suppression.rule}, which has no finding here: remove it."
        else:
            continue
        yield of_file(suppression_unused.RULE, CheckedFile(suppression.path), Problem(problem, suppression.line))


def _in_order(findings: Iterable[LaunchFinding], files: Sequence[CheckedFile]) -> list[LaunchFinding]:
    order = {file.path: number for number, file in enumerate(files)}
    levels = list(Severity)
    return sorted(findings, key=lambda finding: (order[finding.path], finding.line, levels.index(finding.level)))
