"""What is wrong with a launch, or not known of it: the findings of `tuner check`. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rules.decide import MODE, NAME
from rules.release_table import RELEASES, FlagForm
from rules.releases import FlagStatus, parse_version, releases_for
from tuner.check_subject import Examined
from tuner.manifest_image import parse_image
from tuner.manifest_launch import Volume
from tuner.plan import cache_root, compiles

EXCEPTED = "Ernie4_5_VLMoeForConditionalGeneration"
"""The architecture that vLLM itself excepts, from 0.17.0 on and under its own implementation
(vllm/model_executor/models/config.py)."""
CACHE_HOME = "/root"
"""HOME in vLLM's images, whose user is root."""


class Level(StrEnum):
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
    MODEL_UNKNOWN = "model-unknown"
    VERSION_UNKNOWN = "version-unknown"
    HIDDEN = "arguments-hidden"
    UNREADABLE = "file-unreadable"


ABOUT: Mapping[Rule, tuple[Level, str]] = {
    Rule.CONTRADICTED: (Level.ERROR, f"{NAME} is true, and the stored verdict is unsafe."),
    Rule.LEFT_ON: (Level.ERROR, f"{NAME} is not set, this vLLM turns it on by itself, and the verdict is unsafe."),
    Rule.DRAFT: (Level.ERROR, f"{NAME} is true beside speculative decoding: that switches off vLLM's own guard."),
    Rule.FROZEN: (Level.ERROR, "Compiled, the model runs other MoE layers than eager, and the launch compiles it."),
    Rule.RELEASE: (Level.ERROR, "The verdict is unsafe, and no configuration of this vLLM release helps."),
    Rule.KEY_UNKNOWN: (Level.ERROR, f"This vLLM does not know {NAME}: the server does not start."),
    Rule.REFUSED: (Level.ERROR, "vLLM refuses these arguments: the server does not start."),
    Rule.UNPROVED: (Level.WARNING, f"{NAME} is true, and nothing proves that it is safe."),
    Rule.DROPPED: (Level.WARNING, "Of several compilation configs vLLM keeps one and drops the keys of the others."),
    Rule.CACHE_SHARED: (Level.WARNING, "Different launches share one cache_dir, which vLLM uses without any key."),
    Rule.CACHE_LOST: (Level.WARNING, "The compile cache lies on an emptyDir: every new pod compiles again."),
    Rule.UNPINNED: (Level.WARNING, "The image's name does not say which vLLM will serve."),
    Rule.PROBE_SHORT: (Level.WARNING, "The startupProbe gives up before a cold start ends."),
    Rule.NO_VERDICT: (Level.NOTE, "No verdict is stored, or it is inconclusive."),
    Rule.MODEL_UNKNOWN: (Level.NOTE, "The model cannot be identified here."),
    Rule.VERSION_UNKNOWN: (Level.NOTE, "Nothing says which vLLM will serve."),
    Rule.HIDDEN: (Level.NOTE, "Some arguments are not written in this file."),
    Rule.UNREADABLE: (Level.NOTE, "The file cannot be read as what its name says."),
}
"""Rule -> its usual level, and what it means."""

CONTRADICTIONS = frozenset({Rule.CONTRADICTED, Rule.LEFT_ON, Rule.DRAFT, Rule.FROZEN})
"""Errors that end a check with 5."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        path: the manifest.
        line: the line it is about, from 1.
        message: what is the matter there; whole sentences.
        launch: name of the launch; empty for a file.
    """

    rule: Rule
    level: Level
    path: str
    line: int
    message: str
    launch: str = ""


def findings_of(known: Examined, cold_start: float | None = None) -> list[Finding]:
    """Everything that is found about one launch, errors first.

    Args:
        known: the launch.
        cold_start: seconds that a cold start was measured to take; None: not known.
    """
    found = [
        *_of_arguments(known),
        *_of_flag(known),
        *_of_plan(known),
        *_of_image(known),
        *_of_cache(known),
        *_of_probe(known, cold_start),
        *_of_doubt(known),
    ]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def shared_caches(launches: Sequence[Examined]) -> Iterator[Finding]:
    """Launches that differ and name one `cache_dir`: one finding for each launch of such a group."""
    by_folder: dict[str, list[Examined]] = {}
    for known in launches:
        folder = known.arguments.compilation_config.get("cache_dir") if known.arguments else None
        if folder:
            by_folder.setdefault(str(folder), []).append(known)
    for folder, group in by_folder.items():
        if len({(known.launch.args, known.launch.image) for known in group}) > 1:
            for known in group:
                others = [f"{one.path}:{one.launch.line}" for one in group if one is not known]
                said = f"cache_dir {folder} is shared with {others[0]}; vLLM looks its entries up by shape alone."
                yield _finding(known, Rule.CACHE_SHARED, said, line=_line(known, "compilation"))


def unreadable(path: str, why: str) -> Finding:
    """The finding for a file that cannot be read."""
    return Finding(Rule.UNREADABLE, Level.NOTE, path, 1, f"Nothing in it was checked: {why}.")


def _of_arguments(known: Examined) -> Iterator[Finding]:
    if known.refusal and not any(word.unknown for word in known.launch.words):
        yield _refused(known)
    elif known.refusal:
        yield _finding(known, Rule.HIDDEN, f"The arguments cannot be read here: {known.refusal}")
    elif known.hidden:
        yield _finding(known, Rule.HIDDEN, f"What {known.hidden} stands for is not written here; it was not checked.")
    if known.arguments is not None and known.arguments.dropped:
        dropped = ", ".join(known.arguments.dropped)
        said = f"Of several compilation configs vLLM keeps only one and drops {dropped}."
        yield _finding(known, Rule.DROPPED, said, line=_line(known, "compilation"))


def _refused(known: Examined) -> Finding:
    """Arguments that every release of the table refuses; an older one, or one that is not known, may take them."""
    oldest, version = parse_version(RELEASES[0].version), parse_version(known.version or "")
    if version and oldest and version.release >= oldest.release:
        return _finding(known, Rule.REFUSED, known.refusal, line=_line(known, "compilation"))
    said = f"{known.refusal} vLLM from {RELEASES[0].version} on refuses it."
    return _finding(known, Rule.REFUSED, said, line=_line(known, "compilation"), level=Level.WARNING)


def _of_flag(known: Examined) -> Iterator[Finding]:
    """What an explicit value says that cannot be right."""
    explicit = known.arguments.compilation_config.get(NAME) if known.arguments else None
    if explicit is None or known.arguments is None:
        return
    line = _line(known, "compilation")
    if known.version and _key_unknown(known.version):
        said = f"vLLM {known.version} does not know {NAME}, and does not start with it."
        yield _finding(known, Rule.KEY_UNKNOWN, said, line=line)
        return
    if str(explicit).lower() not in {"true", "1", "yes", "on", "t", "y"} or _ineffective(known):
        return
    speculative = known.arguments.serving.speculative is not None
    verdict = known.plan.found.verdict if known.plan else None
    if known.plan is None:
        rule = Rule.DRAFT if speculative else Rule.UNPROVED
        yield _finding(known, rule, f"{ABOUT[rule][1]} Which vLLM serves is not known.", line, Level.WARNING)
    elif not known.true_refused:
        if known.plan.decision.warnings:
            yield _finding(known, Rule.UNPROVED, _sentence(known.plan.decision.warnings[0]), line=line)
    elif speculative:
        yield _finding(known, Rule.DRAFT, f"{ABOUT[Rule.DRAFT][1]}", line=line)
    if known.true_refused and verdict is not None and verdict.word.unsafe:
        said = f"{NAME} is true, and the verdict is {verdict.word}: {'; '.join(verdict.reasons[:1])}."
        yield _finding(known, Rule.CONTRADICTED, said, line=line)
    elif known.true_refused and not speculative and known.plan is not None:
        yield _finding(known, Rule.CONTRADICTED, _sentence(known.plan.decision.warnings[0]), line=line)


def _of_plan(known: Examined) -> Iterator[Finding]:
    """What the verdict says of a launch that does not set the flag."""
    plan = known.plan
    if plan is None or known.arguments is None:
        return
    explicit = known.arguments.compilation_config.get(NAME)
    verdict = plan.found.verdict
    if plan.flag.status is FlagStatus.ALWAYS_ON and plan.decision.refusal != "none":
        yield _finding(known, Rule.RELEASE, "; ".join(plan.decision.reasons) + ".")
    on_by_itself = explicit is None and plan.flag.status is FlagStatus.SETTABLE and not known.hidden
    if on_by_itself and known.true_refused and known.arguments.serving.speculative is None and verdict is not None:
        yield _left_on(known, str(verdict.word))
    if verdict is not None and verdict.compile == "frozen" and compiles(known.arguments) is not False:
        said = "; ".join(verdict.compile_reasons) or ABOUT[Rule.FROZEN][1]
        yield _finding(known, Rule.FROZEN, f"Set {MODE} to 0 in the compilation config: {said}.")


def _left_on(known: Examined, word: str) -> Finding:
    said = f"The verdict is {word}, and vLLM {known.version} turns {NAME} on where the launch does not set it false."
    version = parse_version(known.version or "")
    own = known.arguments is not None and known.arguments.serving.model_impl != "transformers"
    if known.model and known.model.architecture == EXCEPTED and own and version and version.release >= (0, 17, 0):
        said = f"The verdict is {word}; this vLLM turns {NAME} off for {EXCEPTED} by name, and by nothing else."
        return _finding(known, Rule.LEFT_ON, said, level=Level.NOTE)
    return _finding(known, Rule.LEFT_ON, said)


def _of_image(known: Examined) -> Iterator[Finding]:
    image = known.launch.image
    if image and not parse_image(image).pinned and "$" not in image:
        said = f"The image {image} is not pinned: which vLLM serves may change with every pull."
        yield _finding(known, Rule.UNPINNED, said, line=known.launch.image_line, based=False)


def _of_cache(known: Examined) -> Iterator[Finding]:
    """The volume that holds the compile cache, if it is one that goes with the pod."""
    config = known.arguments.compilation_config if known.arguments else {}
    stated = {name: value for name, value in known.launch.env.items() if value is not None}
    if None in (known.launch.env.get(name, "") for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")):
        return
    folder = str(config.get("cache_dir") or cache_root({"HOME": CACHE_HOME, **stated})[0])
    volume = _volume_of(folder, known.launch.volumes)
    if volume is not None and volume.kind == "emptyDir":
        lies = f"The compile cache {folder} lies on {volume.name}, an emptyDir at {volume.path}"
        said = f"{lies}: every new pod compiles again."
        yield _finding(known, Rule.CACHE_LOST, said, line=volume.line, based=False)


def _volume_of(folder: str, volumes: Sequence[Volume]) -> Volume | None:
    """The volume that a folder lies on: the deepest mount above it."""
    above = [one for one in volumes if f"{folder}/".startswith(one.path.rstrip("/") + "/")]
    return max(above, key=lambda one: len(one.path), default=None)


def _of_probe(known: Examined, cold_start: float | None) -> Iterator[Finding]:
    allowed = known.launch.startup_seconds
    if cold_start is not None and allowed is not None and allowed < cold_start:
        said = f"The startupProbe waits {allowed:.0f} s, and a cold start was measured to take {cold_start:.0f} s."
        yield _finding(known, Rule.PROBE_SHORT, said, line=known.launch.startup_line, based=False)


def _of_doubt(known: Examined) -> Iterator[Finding]:
    """What keeps the launch from being judged."""
    if known.refusal:
        return
    if known.version is None:
        aside = f"; {known.aside}" if known.aside else ""
        said = f"Nothing says which vLLM serves{aside}: give --environment or --vllm-version."
        yield _finding(known, Rule.VERSION_UNKNOWN, said)
    if known.model is None:
        yield _finding(known, Rule.MODEL_UNKNOWN, f"{_sentence(known.model_problem)} Its verdict cannot be looked up.")
    elif known.plan is not None and (verdict := known.plan.found.verdict) is None:
        yield _finding(known, Rule.NO_VERDICT, _sentence("; ".join(known.plan.found.miss)))
    elif known.plan is not None and verdict is not None and not (verdict.word.safe or verdict.word.unsafe):
        yield _finding(known, Rule.NO_VERDICT, f"The verdict is {verdict.word}: {'; '.join(verdict.reasons[:1])}.")


def _key_unknown(version: str) -> bool:
    read = parse_version(version)
    rows = releases_for(read) if read else ()
    return bool(rows) and all(row.flag is not FlagForm.FIELD for row in rows)


def _ineffective(known: Examined) -> bool:
    """Whether this vLLM does nothing with the flag."""
    return known.plan is not None and known.plan.flag.status in {FlagStatus.INERT, FlagStatus.ABSENT}


def _line(known: Examined, part: str) -> int:
    """The line of the last argument whose option has this in its name or is its short form, else the launch's."""
    named = [word.line for word in known.launch.words if part in word.text.split("=")[0] or word.text.startswith("-cc")]
    return named[-1] if named else known.launch.line


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _finding(
    known: Examined,
    rule: Rule,
    message: str,
    line: int | None = None,
    level: Level | None = None,
    *,
    based: bool = True,
) -> Finding:
    """A finding of a launch; `based` ones say what they rest on where that is less than the whole environment."""
    by_version = based and known.version is not None and not known.exact
    basis = f" Matched by the vLLM version only, {known.version}." if by_version else ""
    where = known.launch.line if line is None else line
    return Finding(rule, level or ABOUT[rule][0], known.path, where, message + basis, known.launch.name)
