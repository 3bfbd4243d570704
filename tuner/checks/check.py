"""`tuner check`: the launches below some paths and their findings. Files are read; nothing is run or fetched."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rules.errors import ErrorKind, TunerError
from tuner.checks.examine import Examined, Knowledge, examine
from tuner.checks.finding import LaunchFinding
from tuner.checks.findings import file_findings, launch_findings, run_findings
from tuner.checks.rules.rule import CheckedFile, Severity
from tuner.errors import ExitCode
from tuner.manifests.files import is_manifest
from tuner.manifests.find import launches_in

MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        files: the files that were looked into.
        launches: every launch in them.
        findings: in the order of files and lines.
    """

    files: tuple[str, ...]
    launches: tuple[Examined, ...]
    findings: tuple[LaunchFinding, ...]

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


def check(paths: Iterable[Path], knowledge: Knowledge) -> Checked:
    """Check every manifest at these paths.

    Raises:
        TunerError: there is nothing at a path.
        StoreError: the store is damaged.
    """
    files: list[str] = []
    launches: list[Examined] = []
    findings: list[LaunchFinding] = []
    for file in manifests_at(paths):
        files.append(str(file))
        try:
            stated = launches_in(file.name, read_manifest(file))
        except ValueError as error:
            findings += file_findings(CheckedFile(str(file), unreadable=str(error)))
            continue
        launches += [examine(str(file), launch, knowledge) for launch in stated]
    for examined in launches:
        findings += launch_findings(examined)
    findings += run_findings(launches)
    findings.sort(key=lambda finding: (files.index(finding.path), finding.line, list(Severity).index(finding.level)))
    return Checked(tuple(files), tuple(launches), tuple(findings))


def manifests_at(paths: Iterable[Path]) -> Iterator[Path]:
    """The files to look into: a file that is named, and below a folder all that may be manifests, by name; each once.

    Raises:
        TunerError: there is nothing at a path.
    """
    yielded: set[Path] = set()
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110  the method raises for a name that is too long
            raise TunerError(
                f"There is no file or folder {path}.",
                hint="Name a manifest, or a folder of them.",
                kind=ErrorKind.MANIFEST,
            )
        for file in _below(path) if path.is_dir() else [path]:
            if file not in yielded:
                yielded.add(file)
                yield file


def read_manifest(file: Path) -> str:
    """The text of a manifest, line ends as they are.

    Raises:
        ValueError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        for name in sorted(names):
            if is_manifest(name):
                yield Path(here, name)
