"""The rules of `tuner check`: what a finding may be about, how bad it is, and the finding itself. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rules.decide import FLAG_KEY
from tuner.checks.examine import Examined


class Severity(StrEnum):
    """How bad a finding is, in SARIF's words."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Rule(StrEnum):
    """What a finding is about."""

    CONTRADICTED = "flag-contradicts-verdict"
    LEFT_ON = "flag-left-on"
    DRAFT = "true-beside-draft"
    FROZEN = "compiled-though-frozen"
    RELEASE = "unsafe-release"
    KEY_UNKNOWN = "key-unknown"
    REFUSED = "arguments-refused"
    UNPROVED = "flag-unproved"
    DROPPED = "keys-dropped"
    CACHE_SHARED = "cache-dir-shared"
    CACHE_LOST = "cache-on-emptydir"
    UNPINNED = "image-unpinned"
    PROBE_SHORT = "startup-probe-short"
    NO_VERDICT = "no-verdict"
    LAUNCH_UNPROVED = "launch-unproved"
    MODEL_UNKNOWN = "model-unknown"
    VERSION_UNKNOWN = "version-unknown"
    ENVIRONMENT = "environment-contradicts-image"
    HIDDEN = "arguments-hidden"
    UNREADABLE = "file-unreadable"


ABOUT: Mapping[Rule, tuple[Severity, str]] = {
    Rule.CONTRADICTED: (Severity.ERROR, f"{FLAG_KEY} is true, and the stored verdict is unsafe."),
    Rule.LEFT_ON: (
        Severity.ERROR,
        f"{FLAG_KEY} is not set, this vLLM turns it on by itself, and the verdict is unsafe.",
    ),
    Rule.DRAFT: (
        Severity.ERROR,
        f"{FLAG_KEY} is true beside speculative decoding: that switches off vLLM's own guard.",
    ),
    Rule.FROZEN: (Severity.ERROR, "Compiled, the model runs other MoE layers than eager, and the launch compiles it."),
    Rule.RELEASE: (Severity.ERROR, "The verdict is unsafe, and no configuration of this vLLM release helps."),
    Rule.KEY_UNKNOWN: (
        Severity.ERROR,
        "This vLLM does not know a key of the compilation config: the server does not start.",
    ),
    Rule.REFUSED: (Severity.ERROR, "vLLM refuses these arguments: the server does not start."),
    Rule.UNPROVED: (Severity.WARNING, f"{FLAG_KEY} is true, and nothing proves that it is safe."),
    Rule.DROPPED: (Severity.WARNING, "Of several compilation configs vLLM keeps one and drops the keys of the others."),
    Rule.CACHE_SHARED: (Severity.WARNING, "Different launches share one cache_dir, which vLLM uses without any key."),
    Rule.CACHE_LOST: (Severity.WARNING, "The compile cache lies on an emptyDir: every new pod compiles again."),
    Rule.UNPINNED: (Severity.WARNING, "The image's name does not say which vLLM will serve."),
    Rule.PROBE_SHORT: (Severity.WARNING, "The startupProbe gives up before a cold start ends."),
    Rule.NO_VERDICT: (Severity.NOTE, "No verdict is stored, or it is inconclusive."),
    Rule.LAUNCH_UNPROVED: (Severity.NOTE, f"This launch is not proved, and does not set {FLAG_KEY} to false."),
    Rule.MODEL_UNKNOWN: (Severity.NOTE, "The model cannot be identified here."),
    Rule.VERSION_UNKNOWN: (Severity.NOTE, "Nothing says which vLLM will serve."),
    Rule.ENVIRONMENT: (
        Severity.NOTE,
        "The image's tag says another vLLM than the environment or version that was given.",
    ),
    Rule.HIDDEN: (Severity.NOTE, "Some arguments are not written in this file."),
    Rule.UNREADABLE: (Severity.NOTE, "The file cannot be read as what its name says."),
}
"""Rule -> its usual level, and what it means."""

CONTRADICTIONS = frozenset({Rule.CONTRADICTED, Rule.LEFT_ON, Rule.DRAFT, Rule.FROZEN})
"""Errors that end a check with 5."""


@dataclass(frozen=True)
class LaunchFinding:
    """One finding.

    Attributes:
        path: the manifest.
        line: the line it is about, from 1.
        message: what is wrong there; whole sentences.
        launch: name of the launch; empty for a file.
    """

    rule: Rule
    level: Severity
    path: str
    line: int
    message: str
    launch: str = ""


def line_of(examined: Examined, part: str) -> int:
    """The line of the last argument whose option has this in its name or is its short form, else the launch's."""
    named = [
        word.line for word in examined.launch.words if part in word.text.split("=")[0] or word.text.startswith("-cc")
    ]
    return named[-1] if named else examined.launch.line


def finding(
    examined: Examined,
    rule: Rule,
    message: str,
    line: int | None = None,
    level: Severity | None = None,
    *,
    based: bool = True,
) -> LaunchFinding:
    """A finding of a launch; `based` ones say what they rest on where that is less than the whole environment."""
    by_version = based and examined.version is not None and not examined.exact
    basis = f" Matched by the vLLM version only, {examined.version}." if by_version else ""
    where = examined.launch.line if line is None else line
    return LaunchFinding(rule, level or ABOUT[rule][0], examined.path, where, message + basis, examined.launch.name)
