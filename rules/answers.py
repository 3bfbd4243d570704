"""How far the answers of two engines to the same prompts are apart, in nats."""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from statistics import fmean
from typing import Any

from msgspec import Struct, ValidationError, convert

from rules.errors import ReportError
from rules.report import Distance, Finite, Text, Texts

NEARLY = 1e-3
"""Relative difference from which on two measured inputs of experts count as different."""
LONGEST_TEXT = 400
"""Characters of an answer that are stored."""


class Prompt(Struct, frozen=True):
    """What an engine answered to one prompt; log-probabilities are in nats.

    Attributes:
        name: of the prompt, the same in every engine.
        repeats: name of an equal prompt; empty where there is none.
        alone: no other prompt shared its batches.
        given: log-probability of each token of the prompt after the first; None where it was not a finite number. Empty
            for a prompt that was not scored.
        tokens: those that the engine added.
        made: log-probability of each of these.
        likeliest: the tokens that the engine would have added, each after those that it did add.
        text: that of these tokens; empty without a tokenizer.
    """

    name: Text
    repeats: str
    alone: bool
    given: tuple[Finite | None, ...]
    tokens: tuple[int, ...]
    made: tuple[Finite | None, ...]
    likeliest: tuple[int, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a prompt has no answer")
        if len(self.tokens) != len(self.made):
            raise ValueError("a prompt has as many added tokens as log-probabilities of them")

    @property
    def is_broken(self) -> bool:
        """Whether a log-probability is not a finite number."""
        return None in (*self.given, *self.made)

    @property
    def shape(self) -> tuple[str, str, bool, int, int]:
        """What is the same in every engine that got this prompt and answered it in full."""
        return (self.name, self.repeats, self.alone, len(self.given), len(self.tokens))


class Input(Struct, frozen=True):
    """What entered one MoE call while a prompt was alone in its batches.

    Attributes:
        prompt: its name.
        rank: number of the process.
        layer: name of the MoE layer.
        number: of the pass, counted from 1.
        size: sum of the absolute values of the hidden states, over the rows of real tokens; None if it is not finite.
        mix: a sum in which each number has a weight of its own.
    """

    prompt: str
    rank: int
    layer: str
    number: int
    size: Finite | None
    mix: Finite | None


class Answers(Struct, frozen=True):
    """All answers of an engine, and what entered its experts."""

    prompts: tuple[Prompt, ...]
    inputs: tuple[Input, ...]

    def __post_init__(self) -> None:
        if len({prompt.name for prompt in self.prompts}) != len(self.prompts):
            raise ValueError("a prompt is named twice")

    @property
    def is_broken(self) -> bool:
        """Whether a log-probability is not a finite number."""
        return any(prompt.is_broken for prompt in self.prompts)


def read_answers(data: Mapping[str, Any]) -> Answers:
    """The answers in what a worker sent.

    Raises:
        ReportError: they are damaged.
    """
    try:
        return convert({"prompts": data.get("prompts"), "inputs": data.get("inputs")}, Answers)
    except ValidationError as error:
        raise ReportError(f"an engine's answers are damaged: {error!s:.200}", hint="run the command again") from None


def distance(first: Answers, second: Answers) -> Distance | None:
    """How far two engines are apart.

    None if they did not answer the same prompts in full, or if a prompt has no number in both.
    """
    others = {prompt.name: prompt for prompt in second.prompts}
    if {prompt.shape for prompt in first.prompts} != {prompt.shape for prompt in second.prompts}:
        return None
    apart = _over([(prompt, others[prompt.name]) for prompt in first.prompts])
    if apart is None:
        return None
    return Distance(apart.mean, apart.worst, apart.prompt, apart.parted, _first_layer(first.inputs, second.inputs))


def parting_texts(own: Answers, below: Answers) -> Texts | None:
    """What two engines would say to the prompt in which they are furthest apart, of those that they answer otherwise.

    None if they would say the same to each prompt.
    """
    others = {prompt.name: prompt for prompt in below.prompts}
    apart: list[tuple[float, Prompt, Prompt]] = []
    for prompt in own.prompts:
        other = others.get(prompt.name)
        if other is not None and prompt.likeliest and other.likeliest and prompt.likeliest != other.likeliest:
            apart.append((fmean(_differences(prompt, other) or [0.0]), prompt, other))
    if not apart:
        return None
    _, mine, its = max(apart, key=itemgetter(0))
    are_numbers = not (mine.text or its.text)
    texts = (_numbers(mine), _numbers(its)) if are_numbers else (mine.text, its.text)
    return Texts(mine.name, texts[0][:LONGEST_TEXT], texts[1][:LONGEST_TEXT], are_numbers)


def _numbers(prompt: Prompt) -> str:
    return " ".join(map(str, prompt.likeliest))


def noise(engine: Answers) -> Distance | None:
    """How far equal prompts of one engine are apart; None if it got none."""
    named = {prompt.name: prompt for prompt in engine.prompts}
    return _over([(prompt, named[prompt.repeats]) for prompt in engine.prompts if prompt.repeats in named])


def frozen_layers(engine: Answers, reference: Answers) -> tuple[str, ...]:
    """MoE layers whose input is the same for different prompts, where the reference has different inputs.

    Compared are prompts that were alone in their batches and made passes of equal size. An input that is the same for
    all of them to the last bit was not made from them.
    """
    own, sound = _by_call(engine.inputs), _by_call(reference.inputs)
    frozen: list[str] = []
    for call, values in own.items():
        if _all_equal(values) and len(set(sound.get(call, []))) > 1 and call[1] not in frozen:
            frozen.append(call[1])
    return tuple(frozen)


def _over(pairs: Sequence[tuple[Prompt, Prompt]]) -> Distance | None:
    """The distance over pairs of answers; None without pairs, or if a pair has no number in both."""
    compared = {first.name: _differences(first, second) for first, second in pairs}
    if not compared or not all(compared.values()):
        return None
    means = {name: fmean(values) for name, values in compared.items()}
    worst = max(means, key=lambda name: means[name])
    parted = sum(first.tokens != second.tokens for first, second in pairs)
    return Distance(fmean(list(chain.from_iterable(compared.values()))), means[worst], worst, parted)


def _differences(first: Prompt, second: Prompt) -> list[float]:
    """The differences of two answers, as far as they have the same past.

    An added token that differs counts: until there both engines had the same tokens before them.
    """
    shared = _shared(first, second)
    mine, its = (*first.given, *first.made[:shared]), (*second.given, *second.made[:shared])
    return [abs(own - other) for own, other in zip(mine, its, strict=False) if own is not None and other is not None]


def _shared(first: Prompt, second: Prompt) -> int:
    """How many added tokens had the same tokens before them in both."""
    for index, (mine, its) in enumerate(zip(first.tokens, second.tokens, strict=False)):
        if mine != its:
            return index + 1
    return min(len(first.tokens), len(second.tokens))


def _first_layer(first: Sequence[Input], second: Sequence[Input]) -> str:
    """The first MoE layer whose input differs by more than rounding."""
    others = {(each.prompt, each.rank, each.layer, each.number): each for each in second}
    for each in first:
        other = others.get((each.prompt, each.rank, each.layer, each.number))
        if other is not None and _differ(each, other):
            return each.layer
    return ""


def _differ(first: Input, second: Input) -> bool:
    if first.size is None or second.size is None or first.mix is None or second.mix is None:
        return first != second
    scale = max(abs(first.size), abs(second.size))
    return max(abs(first.size - second.size), abs(first.mix - second.mix)) > NEARLY * scale


Call = tuple[int, str, int, str]
"""Process, layer, number of the pass, and the kind of prompts whose passes have the same size."""


def _by_call(inputs: Sequence[Input]) -> dict[Call, list[tuple[float, float]]]:
    """The measured inputs of each call, one for each prompt of its kind; what is not a finite number is left out."""
    calls: dict[Call, list[tuple[float, float]]] = {}
    for each in inputs:
        kind, _, number = each.prompt.rpartition("_")
        if number.isdigit() and each.size is not None and each.mix is not None:
            calls.setdefault((each.rank, each.layer, each.number, kind), []).append((each.size, each.mix))
    return calls


def _all_equal(values: Sequence[tuple[float, float]]) -> bool:
    return len(values) > 1 and len(set(values)) == 1
