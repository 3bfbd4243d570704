"""The arms of a launch -> which of them answer rightly, and what to write into the launch.

An arm is right if its answers agree with those of the arm below it, and that one is right: the eager engine stands at
the foot. Every kind of neighbours has a threshold of its own, which noise raises.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from rules.arms import EAGER, FLAG_ON, LAUNCH, Kind
from rules.ladder_finding import ArmWord, LadderFinding, Remedy
from rules.reason import FieldValue, Reason, reason
from rules.report import ArmRun, Distance, Ladder
from rules.verdict import Verdict, Word

FLOORS = {
    Kind.NOISE: 0.02,
    Kind.GRAPHS: 0.02,
    Kind.FLOAT32: 0.05,
    Kind.FLAG: 0.1,
    Kind.COMPILE: 0.25,
    Kind.BACKEND: 0.25,
}
"""Nats, for each kind of neighbours. Measured on healthy engines (docs/evidence/ladder.md)."""
BY_WORST = frozenset({Kind.NOISE, Kind.GRAPHS, Kind.FLOAT32, Kind.FLAG})
"""Kinds whose engines agree nearly to the bit, so that one prompt that differs is a fault. Between engines that round
otherwise a prompt may differ because a router chose another expert by a hair: there the mean over all prompts counts.
"""
TIMES_NOISE = 10
"""A distance is not noise if it is so many times as large."""
CEILING = 1.0
"""Nats. With a higher threshold wrong experts would pass, so that `right` is not said."""
GAIN = 0.1
"""The part of a time that another arm must save to be preferred."""
TIMES = {"start": "ready", "step": "step"}
"""What is preferred -> the field of `ArmRun.seconds` that is compared."""


def judge_ladder(ladder: Ladder) -> LadderFinding:
    """What the arms of a launch show. Total: every valid ladder has one finding."""
    judge = _Judge(ladder)
    words = {arm.name: judge.word(arm.name) for arm in ladder.arms}
    word, why = words.get(LAUNCH, (ArmWord.UNKNOWN, reason("arm_missing", arm=LAUNCH)))
    remedy = _remedy(ladder, words)
    against_user = None if remedy else _against_user(ladder, words)
    return LadderFinding(
        word=word,
        reasons=(why,),
        arms={name: word for name, (word, _) in words.items()},
        arm_reasons={name: why for name, (_, why) in words.items()},
        remedy=remedy,
        users=against_user.users if against_user else (),
        instead=_written(against_user) if against_user else None,
        platform=ladder.platform,
        gpu=ladder.gpu,
    )


def ladders_against(verdict: Verdict, findings: Iterable[LadderFinding]) -> Verdict:
    """The verdict with what arms showed of the flag: if it moves the answers, a safe verdict is taken back.

    Equal answers leave the verdict as it is. They show the prompts that were sent, and no other.
    """
    moved = next((finding for finding in findings if finding.flag_moves_answers), None)
    if moved is None or not verdict.word.safe:
        return verdict
    contradiction = reason("arms_contradict", moved.arm_reasons[FLAG_ON])
    return replace(verdict, word=Word.INCONCLUSIVE, reasons=(contradiction, *verdict.reasons))


class _Judge:
    """Judges arms, each once."""

    def __init__(self, ladder: Ladder) -> None:
        self._arms: Mapping[str, ArmRun] = {arm.name: arm for arm in ladder.arms}
        self._words: dict[str, tuple[ArmWord, Reason]] = {}

    def word(self, name: str) -> tuple[ArmWord, Reason]:
        """The word of an arm, and why."""
        if name not in self._arms:
            return ArmWord.UNKNOWN, reason("arm_missing", arm=name)
        if name not in self._words:
            self._words[name] = ArmWord.UNKNOWN, reason("arm_in_circle", arm=name)  # while it is being judged
            self._words[name] = self._judged(self._arms[name])
        return self._words[name]

    def _judged(self, arm: ArmRun) -> tuple[ArmWord, Reason]:  # noqa: PLR0911  one way out for each cause
        if arm.status != "ran":
            return ArmWord.NOT_STARTED, reason("arm_failed", detail=arm.detail)
        if not arm.against:
            return self._root(arm)
        own = self._own_fault(arm)
        if own:
            return ArmWord.WRONG, own
        below, why_below = self.word(arm.against)
        word, why = self._compared(arm)
        if word is not ArmWord.RIGHT:
            return (ArmWord.UNKNOWN, why_below) if below is ArmWord.NOT_STARTED else (word, why)
        if below is ArmWord.WRONG:
            return ArmWord.WRONG, reason("as_wrong_as", why_below, arm=arm.against)
        if below is not ArmWord.RIGHT:
            return ArmWord.UNKNOWN, reason("as_unknown_as", why_below, arm=arm.against)
        return self._also(arm, why)

    def _root(self, arm: ArmRun) -> tuple[ArmWord, Reason]:
        """An eager engine is right by definition, if it answers with numbers and not with noise."""
        if arm.broken:
            return ArmWord.UNKNOWN, reason("arm_broken", arm=arm.name)
        if _nats(arm.noise) * TIMES_NOISE > CEILING:
            return ArmWord.UNKNOWN, reason("arm_noisy", arm=arm.name, noise=_nats(arm.noise))
        return ArmWord.RIGHT, reason("arm_root")

    def _own_fault(self, arm: ArmRun) -> Reason | None:
        """What is wrong with an arm whatever it is compared with; None if nothing is."""
        reference = self._arms.get(arm.against)
        sound = reference is not None and reference.status == "ran" and not reference.broken
        if arm.broken and sound:
            return reason("arm_broken", arm=arm.name)
        if arm.frozen:
            return reason("arm_frozen", layer=arm.frozen[0], more=len(arm.frozen) - 1)
        floor = max(FLOORS[Kind.NOISE], TIMES_NOISE * self._eager_noise())
        if _nats(arm.noise) > floor:
            return reason("arm_noisy", arm=arm.name, noise=_nats(arm.noise))
        return None

    def _compared(self, arm: ArmRun) -> tuple[ArmWord, Reason]:
        """What the distance to the arm below says."""
        kind = _kind(arm)
        if arm.distance is None or kind is None:
            return ArmWord.UNKNOWN, reason("arm_not_compared", arm=arm.against)
        threshold = max(FLOORS[kind], TIMES_NOISE * self._noise_below(arm))
        apart = arm.distance.worst if kind in BY_WORST else arm.distance.mean
        why = _distance_reason(arm, arm.distance, threshold)
        if apart > threshold:
            return ArmWord.WRONG, why
        if threshold > CEILING:
            return ArmWord.UNKNOWN, reason("noise_too_large", why)
        return ArmWord.RIGHT, why

    def _also(self, arm: ArmRun, why: Reason) -> tuple[ArmWord, Reason]:
        """The word of an arm that agrees with the one below, given the arm that judges its compiling in float32."""
        if not arm.also or arm.also not in self._arms:
            return ArmWord.RIGHT, why
        word, why_also = self.word(arm.also)
        if word is ArmWord.WRONG:
            return ArmWord.WRONG, reason("wrong_in_float32", why_also)
        return ArmWord.RIGHT, why if word is ArmWord.RIGHT else reason("not_in_float32", why_also)

    def _noise_below(self, arm: ArmRun) -> float:
        """Nats by which the arm below moves though nothing changed: equal prompts, and the same engine once more."""
        below = self._arms.get(arm.against)
        again = [
            _nats(other.distance)
            for other in self._arms.values()
            if other.against == arm.against and other.kind == Kind.NOISE and other.name != arm.name
        ]
        return max([_nats(below.noise) if below else 0.0, *again])

    def _eager_noise(self) -> float:
        eager = self._arms.get(EAGER)
        return _nats(eager.noise) if eager else 0.0


def _kind(arm: ArmRun) -> Kind | None:
    """The kind of an arm; None for one that this release does not know."""
    return next((kind for kind in FLOORS if kind == arm.kind), None)


def _nats(distance: Distance | None) -> float:
    return distance.worst if distance else 0.0


def _distance_reason(arm: ArmRun, distance: Distance, threshold: float) -> Reason:
    fields: dict[str, FieldValue] = {
        "arm": arm.against,
        "mean": distance.mean,
        "worst": distance.worst,
        "prompt": distance.prompt,
        "threshold": threshold,
        "layer": distance.layer,
        "prompts_apart": distance.parted,
        "counts": "worst" if _kind(arm) in BY_WORST else "mean",
    }
    return Reason("arm_distance", None, fields)


Words = Mapping[str, tuple[ArmWord, Reason]]


def _remedy(ladder: Ladder, words: Words) -> Remedy | None:
    """What to write into the launch; None where nothing is to be written, or nothing that was tried helps."""
    launch = next((arm for arm in ladder.arms if arm.name == LAUNCH), None)
    if launch is None or words[LAUNCH][0] is ArmWord.UNKNOWN:
        return None
    right = [arm for arm in ladder.arms if _may_be_written(arm, words)]
    if words[LAUNCH][0] is ArmWord.RIGHT:
        chosen = _faster(launch, right, ladder.prefer)
    else:
        chosen = _fastest(right, ladder.prefer) or min(right, key=_change, default=None)
    return _written(chosen) if chosen and chosen is not launch else None


def _written(arm: ArmRun) -> Remedy:
    return Remedy(arm.name, arm.config, arm.options)


def _against_user(ladder: Ladder, words: Words) -> ArmRun | None:
    """The arm that would make a wrong launch right, but changes settings of the user's; None if there is none."""
    if LAUNCH not in words or words[LAUNCH][0] not in {ArmWord.WRONG, ArmWord.NOT_STARTED}:
        return None
    right = [arm for arm in ladder.arms if arm.is_setting and arm.users and words[arm.name][0] is ArmWord.RIGHT]
    return min(right, key=_change, default=None)


def _may_be_written(arm: ArmRun, words: Words) -> bool:
    return arm.is_setting and not arm.users and words[arm.name][0] is ArmWord.RIGHT


def _faster(launch: ArmRun, right: Sequence[ArmRun], prefer: str) -> ArmRun | None:
    """An arm that is clearly faster than the launch as it stands; None if there is none, or if none is asked for."""
    best = _fastest(right, prefer)
    if best is None or best is launch:
        return None
    field = TIMES[prefer]
    saved = launch.seconds.get(field, 0.0) - best.seconds[field]
    return best if saved > GAIN * launch.seconds.get(field, 0.0) else None


def _fastest(arms: Sequence[ArmRun], prefer: str) -> ArmRun | None:
    """The arm with the shortest time of the kind that is preferred; None if none is."""
    if not prefer:
        return None
    field = TIMES[prefer]
    timed = [arm for arm in arms if field in arm.seconds]
    return min(timed, key=lambda arm: arm.seconds[field], default=None)


ORDER = ("full", "full_decode", "piecewise", "without_", "backend_", "compiled", "not_compiled", "eager")
"""How small a change is, the smallest first: what keeps CUDA graphs comes before what gives them up."""


def _change(arm: ArmRun) -> int:
    """How large the change is that an arm makes to the launch."""
    exact = [index for index, name in enumerate(ORDER) if arm.name == name]
    beginning = [index for index, name in enumerate(ORDER) if name.endswith("_") and arm.name.startswith(name)]
    return min([*exact, *beginning, len(ORDER)])
