"""What engines of one launch answered to the same prompts, two held against one another: do the outputs move?

It can take a safe verdict back and never makes one: equal answers show the prompts that were sent, and no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from msgspec.structs import replace

from rules.reason import FieldValue, Reason, reason
from rules.replay import failed_engine
from rules.report import Output, OutputPrompt
from rules.verdict import AGAINST, FLAG, MOVED, Verdict, Word

SAME, UNKNOWN = "same", "unknown"
FLOOR = 0.05
"""Nats. Numbers of bfloat16 are 0.4 % apart, so another order of sums is seen in the outputs though nothing is wrong:
compiled against eager, thin models moved by 0.01 to 0.1 (0.19.1 on a CPU) and by 0.03 to 0.16 (0.26.0 on an H100), so
that `moved` says no more there. Two values of the flag compile nearly alike, and were 0.003 apart at most; where wrong
experts ran for the prompts, by 0.29 to 1.8 (docs/evidence/depths.md)."""
TIMES_NOISE = 10
"""A distance is none of the noise's if it is so many times as large."""
CEILING = 0.5
"""Nats; above it a threshold would pass engines that run other experts, so `same` is not said."""
TAIL, LONGEST_CYCLE = 12, 4
"""Added tokens at the end that must repeat a cycle of up to so many; each then comes three times at least."""
PAIRS = (FLAG, ("flag_on", "eager"), ("flag_off", "eager"), ("as_launched", "eager"))
"""Engine -> the one it is held against."""


@dataclass(frozen=True)
class Distance:
    """How far two engines are from one another, in nats.

    Attributes:
        given: mean absolute difference of the log-probabilities of the prompts' tokens.
        largest: the largest such mean of one prompt.
        made: the same mean for the added tokens of each prompt through the first that differs: until there the engines
            had the same tokens before them.
        alone: as `made`, for the prompts that shared no batch and have no say there: many others would hide them.
        parting: the mean difference at the first added token that differs, over the prompts that have one: it stands
            behind equal tokens, and where two are as likely as each other it is no larger than what else differs. It
            counts between the values of the flag alone: compiling moves single tokens by more than the mean.
        parted: where the first added token differs, as fields of the reason; empty if none does.
    """

    given: float
    largest: float
    made: float
    alone: float
    parting: float
    parted: Mapping[str, FieldValue]

    @property
    def size(self) -> float:
        """What is held against a threshold: a model may treat prompts, batches and single tokens each otherwise."""
        return max(self.given, self.made, self.alone)


def apart(first: str, second: str, measured: Distance) -> float:
    """Nats by which two engines, by their names, are held to be apart."""
    return max(measured.size, measured.parting) if (first, second) == FLAG else measured.size


def judge_outputs(outputs: Sequence[Output]) -> dict[str, tuple[str, Reason]]:
    """A word and its reason for each two engines that are to be compared, by their names."""
    named: dict[str, Output] = {engine.name: engine for engine in outputs}
    pairs = [(first, second) for first, second in PAIRS if first in named and second in named]
    return {f"{first}{AGAINST}{second}": _compared(first, second, named) for first, second in pairs}


def outputs_against(verdict: Verdict, outputs: Sequence[Output]) -> Verdict:
    """The verdict with what engines answered; a safe one under which the flag moves the answers proves nothing more.

    That a compiled engine moved against an eager one is said and decides nothing: compiling changes rounding, too.
    """
    judged = judge_outputs(outputs)
    words: dict[str, str] = {name: word for name, (word, _) in judged.items()}
    reasons: dict[str, Reason] = {name: why for name, (_, why) in judged.items()}
    with_outputs = replace(verdict, outputs=words, output_reasons=reasons)
    flag = AGAINST.join(FLAG)
    if words.get(flag) != MOVED or not verdict.word.safe:
        return with_outputs
    contradiction = reason("output_contradicts", reasons[flag])
    return replace(with_outputs, word=Word.INCONCLUSIVE, reasons=(contradiction, *verdict.reasons))


def _compared(first: str, second: str, named: dict[str, Output]) -> tuple[str, Reason]:
    """The word for two engines, and why."""
    pair = named[first], named[second]
    if gap := _gap(*pair):
        return UNKNOWN, gap
    if len(broken := [engine.name for engine in pair if _is_broken(engine)]) == 1:
        return MOVED, reason("no_numbers", engine=broken[0])
    noise, measured = noise_floor(named, pair[1]), distance(*pair)
    if broken or measured is None:
        return UNKNOWN, reason("no_numbers_in_both")
    if noise is None:
        return UNKNOWN, reason("noise_unknown")
    threshold = max(TIMES_NOISE * noise, FLOOR)
    why = _distances(measured, threshold, noise, _degenerate(pair[0], named["eager"]))
    if apart(first, second, measured) > threshold:
        return MOVED, why
    return (UNKNOWN, reason("noise_too_large", why)) if threshold > CEILING else (SAME, why)


def _gap(first: Output, second: Output) -> Reason | None:
    """Why two engines cannot be compared; None if they can."""
    for engine in (first, second):
        if engine.status != "ran":
            return reason("engine_of_two", failed_engine(engine.detail), engine=engine.name)
        if engine.name == "flag_on" and engine.engine.get("flag") is not True:
            return reason("flag_switched_off")
    alike = [(prompt.name, len(prompt.given)) for prompt in first.prompts]
    same = alike == [(prompt.name, len(prompt.given)) for prompt in second.prompts]
    return None if same else reason("other_prompts")


def _is_broken(engine: Output) -> bool:
    return any(None in (*prompt.given, *prompt.made) for prompt in engine.prompts)


def distance(first: Output, second: Output) -> Distance | None:
    """How far two engines are apart on their prompts, which agree; None if nothing was compared."""
    return _apart(list(zip(first.prompts, second.prompts, strict=True)))


def noise_floor(named: dict[str, Output], reference: Output) -> float | None:
    """Nats by which answers move though nothing changed.

    The same engine started twice, and, in these and in the reference, the same prompt twice in one batch. What is held
    against the reference has no say: a broken engine may be noisy. None if the eager engine did not answer twice.
    """
    first, again = named.get("eager"), named.get("eager_again")
    if first is None or again is None or _gap(first, again):
        return None
    twins = [_apart(_twins(engine)) for engine in (first, again, reference)]
    distances = [distance(first, again), *twins]
    return max((nats.size for nats in distances if nats), default=None)


def _twins(engine: Output) -> list[tuple[OutputPrompt, OutputPrompt]]:
    """Each prompt that repeats another of the same batch, and that one."""
    named = {prompt.name: prompt for prompt in engine.prompts}
    return [(prompt, named[prompt.repeats]) for prompt in engine.prompts if prompt.repeats in named]


def _apart(pairs: Sequence[tuple[OutputPrompt, OutputPrompt]]) -> Distance | None:
    over_prompts = [_differences(first.given, second.given) for first, second in pairs]
    over_added = _added([pair for pair in pairs if not pair[0].alone])
    over_alone = _added([pair for pair in pairs if pair[0].alone])
    if not any((*over_prompts, *over_added, *over_alone)):
        return None
    largest = max(map(_mean, over_prompts))
    parting, parted = _parted(pairs)
    return Distance(_overall(over_prompts), largest, _overall(over_added), _overall(over_alone), parting, parted)


def _added(pairs: Sequence[tuple[OutputPrompt, OutputPrompt]]) -> list[list[float]]:
    """The differences of the added tokens of each prompt, as far as they have the same past."""
    return [_differences(first.made[: _shared(first, second)], second.made) for first, second in pairs]


def _differences(first: Sequence[float | None], second: Sequence[float | None]) -> list[float]:
    pairs = zip(first, second, strict=False)
    return [abs(mine - its) for mine, its in pairs if mine is not None and its is not None]


def _overall(differences: Sequence[Sequence[float]]) -> float:
    """The mean over the tokens of all prompts."""
    return _mean(list(chain.from_iterable(differences)))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _shared(first: OutputPrompt, second: OutputPrompt) -> int:
    """How many added tokens had the same tokens before them in both."""
    pairs = enumerate(zip(first.tokens, second.tokens, strict=False), 1)
    return next((at for at, (mine, its) in pairs if mine != its), min(len(first.tokens), len(second.tokens)))


def _parted(pairs: Sequence[tuple[OutputPrompt, OutputPrompt]]) -> tuple[float, dict[str, FieldValue]]:
    """How far apart the prompts are at the first added token that differs, and where that is."""
    parted = [(_shared(first, second), first, second) for first, second in pairs if first.tokens != second.tokens]
    if not parted:
        return 0.0, {}
    ends = [_differences(first.made[at - 1 : at], second.made[at - 1 : at]) for at, first, second in parted]
    apart_there = _overall(ends)
    at, name = min((at, first.name) for at, first, _ in parted)
    place: dict[str, FieldValue] = {"parted": len(parted), "prompts": len(pairs), "token": at, "prompt": name}
    return apart_there, place | {"parting": apart_there}


def _distances(measured: Distance, threshold: float, noise: float, cycle: Mapping[str, FieldValue]) -> Reason:
    fields: dict[str, FieldValue] = {
        "prompt_tokens": measured.given,
        "added_tokens": measured.made,
        "alone": measured.alone,
        "threshold": threshold,
        "noise": noise,
        "largest": measured.largest,
    }
    return Reason("distance", None, {**fields, **measured.parted, **cycle})


def _degenerate(engine: Output, eager: Output) -> dict[str, FieldValue]:
    """The first prompt on which an engine ends up in a cycle and the eager one does not, as fields of a reason."""
    sound = {prompt.name for prompt in eager.prompts if not cycle(prompt.tokens)}
    caught = [(prompt.name, cycle(prompt.tokens)) for prompt in engine.prompts if prompt.name in sound]
    return next(({"stuck": name, "cycle": length} for name, length in caught if length), {})


def cycle(tokens: Sequence[int]) -> int:
    """How many tokens the end of a sequence repeats again and again; 0 if it does not."""
    tail = tokens[-TAIL:]
    if len(tail) < TAIL:
        return 0
    return next((n for n in range(1, LONGEST_CYCLE + 1) if tail[n:] == tail[:-n]), 0)
