"""The arms of a launch -> which of them answer rightly, and what to write into the launch.

An arm is right if its answers agree with those of the arm below it, and that one is right: the eager engine stands at
the foot. Every kind of neighbours has a threshold of its own, which noise raises.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from rules.arms import (
    AGAIN,
    COMPILED_FLOAT32,
    EAGER,
    FLAG_ON,
    LAUNCH,
    MODE_KEY,
    ROOTS,
    WITHOUT_COMPILING,
    Kind,
)
from rules.ladder_finding import ArmWord, LadderFinding, Remedy
from rules.reason import FieldValue, Reason, reason
from rules.report import ArmRun, Distance, Ladder
from rules.verdict import Verdict, Word

FLOORS = {
    Kind.NOISE: 0.15,
    Kind.GRAPHS: 0.15,
    Kind.FLOAT32: 0.15,
    Kind.FLAG: 0.15,
    Kind.COMPILE: 0.25,
    Kind.BACKEND: 0.25,
}
"""Nats, for each kind of neighbours. Measured on healthy engines with full widths (docs/evidence/ladder.md).

Eager engines agree to the bit. Two compiled engines, with equal settings or with and without graphs, were up to 0.06
nats apart in one prompt; so were compiled and eager engines in float32.
"""
BY_WORST = frozenset({Kind.NOISE, Kind.GRAPHS, Kind.FLOAT32, Kind.FLAG})
"""Kinds whose engines run the same kernels, or in float32, so that one prompt that differs is a fault. Between engines
that round otherwise a prompt may differ because a router chose another expert by a hair: there the mean over all
prompts counts.
"""
QUANTISED_FLOOR = 0.4
"""Nats, for `BY_WORST` and quantised weights, whose engines were up to 0.18 nats apart (fp8 in blocks)."""
NOISE_FLOOR = 0.02
"""Nats between equal prompts in one engine; healthy engines had 0.0."""
TIMES_NOISE = 10
"""A distance is not noise if it is so many times as large as that of equal prompts in one engine."""
TIMES_AGAIN = 3
"""The same for two engines with equal settings. No sound engine was more than 1.3 times as far from the first one as
its twin, where the twin was apart at all."""
CEILING, SHARP_CEILING = 0.3, 0.6
"""Nats; the second is of `BY_WORST`. With a higher threshold a fault would pass, so that `right` is not said.

Wrong experts moved the mean by 0.3 nats and more. Frozen inputs moved the worst prompt by 0.9 and more.
"""
ROUGH = frozenset({Kind.COMPILE, Kind.BACKEND})
"""Kinds whose engines round otherwise, and much more so where the weights are quantised."""
ROUGH_CEILING = 0.7
"""Nats, for these kinds and quantised weights: what is further apart is wrong; between the floor and this is not known.

Sound engines with random weights in fp8 were 0.48 (MiniMax-M2.5) and 0.64 nats apart (MiMo-V2-Flash) on an H200, eager
against compiled, in the mean over the prompts; with mxfp4 0.13 (gpt-oss). Eager engines of one small model with other
random weights, whose answers have nothing in common, are 0.95 (Mixtral), 1.09 (Qwen3-MoE) and 1.30 nats (gpt-oss)
apart. A fault that moves them by less is called unknown and not wrong.
"""
NOT_COMPILED = ("NONE", "NONE")
"""Compile mode and CUDA graph mode of an eager engine, as vLLM names them."""
GAIN = 0.1
"""The part of a time that another arm must save to be preferred."""
TIMES = {"start": "ready", "step": "step"}
"""What is preferred -> the field of `ArmRun.seconds` that is compared."""


class Limit(Struct, frozen=True):
    """How far an arm may be from the one below it.

    Attributes:
        nats: the threshold.
        by_worst: whether the worst prompt counts; else the mean over all.
    """

    nats: float
    by_worst: bool

    @property
    def counts(self) -> str:
        """Which part of a distance is compared with it: `worst` or `mean`."""
        return "worst" if self.by_worst else "mean"

    def counting(self, apart: Distance) -> float:
        """The part of a distance that is compared with it, in nats."""
        return apart.worst if self.by_worst else apart.mean


def limits(ladder: Ladder) -> dict[str, Limit]:
    """Name of each arm that has a limit -> that limit."""
    judge = _Judge(ladder)
    every = {arm.name: judge.limit(arm) for arm in ladder.arms if arm.distance is not None}
    return {name: limit for name, limit in every.items() if limit is not None}


def judge_ladder(ladder: Ladder) -> LadderFinding:
    """What the arms of a launch show. Total: every valid ladder has one finding."""
    judge = _Judge(ladder)
    words = {arm.name: judge.word(arm.name) for arm in ladder.arms}
    word, why = words.get(LAUNCH, (ArmWord.UNKNOWN, reason("arm_missing", arm=LAUNCH)))
    remedy = _remedy(ladder, words)
    finding = LadderFinding(
        word=word,
        reasons=(why,),
        arms={name: word for name, (word, _) in words.items()},
        arm_reasons={name: why for name, (_, why) in words.items()},
        remedy=remedy,
        platform=ladder.platform,
        gpu=ladder.gpu,
    )
    against_user = _against_user(ladder, words)
    if remedy is not None or against_user is None:
        return finding
    return replace(finding, users=against_user.users, instead=_instead(against_user))


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

    def _judged(self, arm: ArmRun) -> tuple[ArmWord, Reason]:
        if arm.status != "ran":
            return ArmWord.NOT_STARTED, reason("arm_failed", detail=arm.detail)
        if arm.name in ROOTS:
            return self._root(arm)
        if self._leads_to_itself(arm.name):
            return ArmWord.UNKNOWN, reason("arm_in_circle", arm=arm.name)
        if arm.broken:
            word = ArmWord.WRONG if self._others_have_numbers(arm) else ArmWord.UNKNOWN
            return word, reason("arm_broken", arm=arm.name)
        own = self._own_fault(arm)
        return (ArmWord.WRONG, own) if own else self._beside(arm)

    def _others_have_numbers(self, arm: ArmRun) -> bool:
        """Whether numbers can be expected of an arm: the eager engine or the arm below answers with them."""
        others = [self._arms[name] for name in (EAGER, arm.against) if name in self._arms]
        return any(other.status == "ran" and not other.broken for other in others)

    def _leads_to_itself(self, name: str) -> bool:
        """Whether an arm is compared with itself, by way of others."""
        pending, visited = [name], set[str]()
        while pending:
            arm = self._arms.get(pending.pop())
            below = {arm.against, arm.also} if arm else set[str]()
            if name in below:
                return True
            pending += below - visited
            visited |= below
        return False

    def _root(self, arm: ArmRun) -> tuple[ArmWord, Reason]:
        """An eager engine is right by definition, if it answers with numbers and not with noise."""
        if arm.broken:
            return ArmWord.UNKNOWN, reason("arm_broken", arm=arm.name)
        if (arm.engine.get("mode"), arm.engine.get("cudagraph_mode")) != NOT_COMPILED:
            return ArmWord.UNKNOWN, reason("arm_not_eager", arm=arm.name)
        if arm.noise is None:
            return ArmWord.UNKNOWN, reason("arm_noise_unknown", arm=arm.name)
        if arm.noise.worst * TIMES_NOISE > CEILING:
            return ArmWord.UNKNOWN, reason("arm_noisy", arm=arm.name, noise=arm.noise.worst)
        return ArmWord.RIGHT, reason("arm_root")

    def _beside(self, arm: ArmRun) -> tuple[ArmWord, Reason]:
        """The word of an arm without a fault of its own, given that of the arm below it."""
        below, why_below = self.word(arm.against)
        if arm.distance is None or below is ArmWord.NOT_STARTED:
            why = None if below is ArmWord.RIGHT else _cause(why_below)
            return ArmWord.UNKNOWN, reason("arm_not_compared", why, arm=arm.against)
        word, why = self._compared(arm, arm.distance)
        if word is ArmWord.RIGHT:
            return self._agreeing(arm, why)
        if word is ArmWord.WRONG and below is not ArmWord.RIGHT and arm.name != FLAG_ON:
            return ArmWord.UNKNOWN, reason("apart_from_unsure", _cause(why_below), arm=arm.against)
        return word, why

    def _own_fault(self, arm: ArmRun) -> Reason | None:
        """What is wrong with an arm's numbers whatever it is compared with; None if nothing is."""
        if arm.frozen:
            return reason("arm_frozen", layer=arm.frozen[0], more=len(arm.frozen) - 1)
        floor = max(NOISE_FLOOR, TIMES_NOISE * self._eager_noise())
        if _nats(arm.noise) > floor:
            return reason("arm_noisy", arm=arm.name, noise=_nats(arm.noise))
        return None

    def _compared(self, arm: ArmRun, apart: Distance) -> tuple[ArmWord, Reason]:
        """What the distance to the arm below says."""
        limit = self.limit(arm)
        if limit is None:
            code = "arm_noise_unknown" if _kind(arm) else "arm_not_compared"
            return ArmWord.UNKNOWN, reason(code, arm=arm.against)
        why = _distance_reason(arm, apart, limit)
        if limit.counting(apart) > limit.nats:
            if _may_be_rounding(arm, limit.counting(apart)):
                return ArmWord.UNKNOWN, reason("quantised_apart", why)
            return ArmWord.WRONG, why
        if limit.nats > (SHARP_CEILING if limit.by_worst else CEILING):
            return ArmWord.UNKNOWN, reason("noise_too_large", why)
        return ArmWord.RIGHT, why

    def limit(self, arm: ArmRun) -> Limit | None:
        """How far an arm may be from the one below it; None if nothing is known of the noise, or of its kind."""
        kind, moves = _kind(arm), self._moves_below(arm)
        if kind is None or moves is None:
            return None
        by_worst = kind in BY_WORST
        floor = QUANTISED_FLOOR if by_worst and _is_quantised(arm) else FLOORS[kind]
        return Limit(max(floor, moves), by_worst)

    def _agreeing(self, arm: ArmRun, why: Reason) -> tuple[ArmWord, Reason]:
        """The word of an arm that agrees with the one below, and that of the arm which judges it in float32."""
        below, why_below = self.word(arm.against)
        if below is ArmWord.WRONG:
            return ArmWord.WRONG, reason("as_wrong_as", _cause(why_below), arm=arm.against)
        if below is not ArmWord.RIGHT:
            return ArmWord.UNKNOWN, reason("as_unknown_as", _cause(why_below), arm=arm.against)
        if not arm.also:
            return ArmWord.RIGHT, BLUNT if _compiles(arm) else why
        also = self._arms.get(arm.also)
        needed = arm.also if also is None else also.against
        if needed not in self._arms:
            return ArmWord.UNKNOWN, reason("arm_missing", arm=needed)
        word, why_also = self.word(arm.also)
        if word is ArmWord.WRONG:
            return ArmWord.WRONG, reason("wrong_in_float32", _cause(why_also, IN_FLOAT32))
        return ArmWord.RIGHT, why if word is ArmWord.RIGHT else reason("not_in_float32", _cause(why_also, IN_FLOAT32))

    def _moves_below(self, arm: ArmRun) -> float | None:
        """Nats by which the arm below may move though nothing changed: equal prompts, and the same engine once more.

        None if that is not known.
        """
        below = self._arms.get(arm.against)
        if below is None or below.noise is None:
            return None
        noise = TIMES_NOISE * below.noise.worst
        again = AGAIN.get(below.name)
        if again in {None, arm.name}:
            return noise
        moved = self._arms[again].distance if again in self._arms else None
        return max(noise, TIMES_AGAIN * moved.worst) if moved else None

    def _eager_noise(self) -> float:
        eager = self._arms.get(EAGER)
        return _nats(eager.noise) if eager else 0.0


BLUNT = reason("not_in_float32", reason("arm_missing", arm=COMPILED_FLOAT32))
"""What is said of compiling where the weights have kernels for one dtype only."""


def _compiles(arm: ArmRun) -> bool:
    """Whether an arm is compared with one that is not compiled, and is compiled itself."""
    return _kind(arm) is Kind.COMPILE and arm.config.get(MODE_KEY) != 0


def _kind(arm: ArmRun) -> Kind | None:
    """The kind of an arm; None for one that this release does not know."""
    return next((kind for kind in FLOORS if kind == arm.kind), None)


def _is_quantised(arm: ArmRun) -> bool:
    """Whether an arm's weights are quantised: they have no arms in float32, and their kernels round coarsely."""
    return bool(arm.engine.get("quantization"))


def _may_be_rounding(arm: ArmRun, nats: float) -> bool:
    """Whether rounding alone may move an arm so far from the one below it."""
    return _kind(arm) in ROUGH and _is_quantised(arm) and nats <= ROUGH_CEILING


AGREES = frozenset({"as_wrong_as", "as_unknown_as", "apart_from_unsure", "arm_not_compared"})
"""Codes of reasons that pass on the word of another arm."""
IN_FLOAT32 = AGREES | {"wrong_in_float32", "not_in_float32"}


def _cause(why: Reason, passed_on: frozenset[str] = AGREES) -> Reason:
    """The reason behind those that pass on the word of another arm, so that no ladder nests many of them."""
    while why.code in passed_on and why.because is not None:
        why = why.because
    return why


def _nats(distance: Distance | None) -> float:
    return distance.worst if distance else 0.0


def _distance_reason(arm: ArmRun, distance: Distance, limit: Limit) -> Reason:
    fields: dict[str, FieldValue] = {
        "arm": arm.against,
        "mean": distance.mean,
        "worst": distance.worst,
        "prompt": distance.prompt,
        "threshold": limit.nats,
        "layer": distance.layer,
        "prompts_apart": distance.parted,
        "counts": limit.counts,
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


def _instead(arm: ArmRun) -> Remedy:
    """What an arm sets, with its values for the user's keys: an eager arm changes those that ask for compiling."""
    keys = {key: value for key, value in WITHOUT_COMPILING.items() if key in arm.users}
    return Remedy(arm.name, {**keys, **arm.config}, arm.options)


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
