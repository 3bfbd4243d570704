"""The engines that were compared for a launch, each with its distance, its noise and its threshold. Pure."""

from dataclasses import dataclass

from rules.ladder import Limit, limits
from rules.ladder_finding import ArmWord, LadderFinding
from rules.reason import sentences
from rules.report import ArmRun, Distance, Ladder, Report, Texts
from rules.verdict import Verdict
from tuner.ladder.text import assumptions
from tuner.verdicts.evidence import launch_text


@dataclass(frozen=True)
class Arm:
    """One engine.

    Attributes:
        name: its name.
        word: what its answers are, in words.
        tone: `good`, `bad` or `open`, for its colour.
        against: the engine that it is compared with; empty for a root.
        apart: the part of the distance that counts, in nats; None if nothing was compared.
        counts: which part that is: `worst` prompt or `mean`; empty without a threshold.
        noise: how far its answers to equal prompts are apart, in nats; None if that is not known.
        limit: the threshold in nats; None without one.
        parting: where its answers part from those of the other engine, one sentence; empty if they do not.
        reason: why it has its word.
        texts: what both engines say where they part; None if they do not.
    """

    name: str
    word: str
    tone: str
    against: str
    apart: float | None
    counts: str
    noise: float | None
    limit: float | None
    parting: str
    reason: str
    texts: Texts | None

    @property
    def part(self) -> float:
        """The distance as a part of twice the threshold, 0 to 1."""
        if self.apart is None or not self.limit:
            return 0.0
        return min(self.apart / (2 * self.limit), 1.0)


@dataclass(frozen=True)
class LadderView:
    """The engines of one launch.

    Attributes:
        launch: the launch, on one line.
        word: what its own engine is, in words.
        tone: as for `Arm`.
        reasons: why, as sentences without a full stop.
        device: on which they ran.
        made_at: when, ISO 8601 in UTC.
        arms: all engines, in the order in which they were tried.
        changed: what was otherwise in them than in the launch, such as a smaller model.
    """

    launch: str
    word: str
    tone: str
    reasons: tuple[str, ...]
    device: str
    made_at: str
    arms: tuple[Arm, ...]
    changed: tuple[str, ...]


TONES = {ArmWord.RIGHT: "good", ArmWord.WRONG: "bad", ArmWord.NOT_STARTED: "bad", ArmWord.UNKNOWN: "open"}


def ladder_views(report: Report, verdict: Verdict) -> tuple[LadderView, ...]:
    """Each launch whose engines were compared, in the order in which they are stored."""
    findings = [(ladder, verdict.ladders.get(ladder.key)) for ladder in report.ladders]
    return tuple(_view(ladder, finding) for ladder, finding in findings if finding is not None)


def _view(ladder: Ladder, finding: LadderFinding) -> LadderView:
    limit_of = limits(ladder)
    return LadderView(
        launch=launch_text(ladder),
        word=finding.word.replace("_", " "),
        tone=TONES[finding.word],
        reasons=tuple(sentences(finding.reasons)),
        device=ladder.gpu or ladder.platform,
        made_at=ladder.made_at,
        arms=tuple(_arm(arm, finding, limit_of.get(arm.name)) for arm in ladder.arms),
        changed=tuple(assumptions(ladder)),
    )


def _arm(arm: ArmRun, finding: LadderFinding, limit: Limit | None) -> Arm:
    word, why = finding.arms.get(arm.name, ArmWord.UNKNOWN), finding.arm_reasons.get(arm.name)
    return Arm(
        name=arm.name,
        word=word.replace("_", " "),
        tone=TONES[word],
        against=arm.against,
        apart=_apart(arm.distance, limit),
        counts=limit.counts if limit else "",
        noise=arm.noise.worst if arm.noise else None,
        limit=limit.nats if limit else None,
        parting=_parting(arm.distance),
        reason=str(why) if why else "",
        texts=arm.texts,
    )


def _apart(distance: Distance | None, limit: Limit | None) -> float | None:
    if distance is None:
        return None
    return limit.counting(distance) if limit else distance.worst


def _parting(distance: Distance | None) -> str:
    """Where two engines part, as far as it is stored."""
    if distance is None or (not distance.parted and not distance.layer):
        return ""
    parted = f"{distance.parted} prompts go on with another token" if distance.parted else "every token is the same"
    layer = f", and the input of {distance.layer} is the first that differs" if distance.layer else ""
    return f"{parted}; the prompt {distance.prompt} is furthest apart{layer}."
