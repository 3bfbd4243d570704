"""The prompts that every arm of a launch gets. Each wave of them reaches passes in which a known fault shows."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared_worker.vllm_types import Engine, RequestOutput, VllmConfig
from vllm_launch_worker import images, output
from vllm_launch_worker.requests import FIRST_ID, batch, ids, room, steps

FEW, SOME, MANY = 6, 24, 64
"""Numbers of new tokens."""
LONGEST_TEXT = 1000
"""The largest number of characters in the text of an answer."""


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        name: its name, the same in every arm.
        content: token ids, or vLLM's own form of a prompt with an image.
        new: the number of new tokens.
        joins: the step of the wave before which it is sent.
        repeats: the name of an equal prompt, whose answer is compared with this one; empty if there is none.
        forced: whether the engine may choose only `FIRST_ID`, so that all new tokens can be compared. If it chose
            freely, two arms could be compared up to the first different token only.
        scored: whether the log-probabilities of the prompt's own tokens are asked for. For a long prompt they would
            need gigabytes.
    """

    name: str
    content: list[int] | dict[str, Any]
    new: int = SOME
    joins: int = 0
    repeats: str = ""
    forced: bool = True
    scored: bool = True


@dataclass(frozen=True)
class Wave:
    """Prompts that are sent together. A wave starts when the wave before it is answered.

    Attributes:
        prompts: the prompts.
        image: whether one of them holds an image.
    """

    prompts: list[Prompt]
    image: bool = False

    @property
    def watched(self) -> bool:
        """Whether the inputs of experts are compared: only one prompt with text is in its batches."""
        return len(self.prompts) == 1 and not self.image and self.prompts[0].scored


@dataclass
class Answer:
    """The answer to one prompt.

    Attributes:
        prompt: the prompt.
        alone: whether its batches held only this prompt.
        output: vLLM's answer.
        seconds: the seconds of each step of the wave in which no prompt was sent.
    """

    prompt: Prompt
    alone: bool
    output: RequestOutput
    seconds: list[float] = field(default_factory=list)


def waves(config: VllmConfig) -> list[Wave]:
    """All waves that fit this engine. They depend only on sizes that are the same in every arm."""
    vocabulary, longest, most = config.model_config.get_vocab_size(), room(config, MANY), batch(config)
    seats = config.scheduler_config.max_num_seqs

    def text(index: int, length: int) -> list[int]:
        return ids(index, min(length, longest), vocabulary)

    text_waves = [Wave(together(config))]
    text_waves += [Wave([Prompt(f"one_token_{index}", text(index + 40, 1), FEW)]) for index in range(3)]
    text_waves += [Wave([Prompt(f"alone_17_{index}", text(index + 50, 17), FEW)]) for index in range(3)]
    text_waves.append(Wave([Prompt("alone_17_again", text(50, 17), FEW, repeats="alone_17_0")]))
    text_waves.append(Wave([Prompt("long_answer", text(60, 5), MANY)]))
    for count in (3, 5, 11):  # between the sizes that vLLM captures: 1, 2, 4, 8, 16 and so on
        size = min(count, seats)
        text_waves.append(Wave([Prompt(f"of_{count}_{index}", text(70 + index, 4)) for index in range(size)]))
    arrivals = [(9, 0, SOME), (3, 2, FEW), (21, 4, SOME), (1, 7, FEW)][:seats]
    staggered = [Prompt(f"joins_{step}", text(90 + step, length), new, joins=step) for length, step, new in arrivals]
    text_waves.append(Wave(staggered))
    text_waves.append(Wave([Prompt("full_batch", text(110, most), FEW, scored=False)]))
    if longest > most:
        text_waves.append(Wave([Prompt("longer_than_a_batch", text(111, most + most // 2), FEW, scored=False)]))
    return [*text_waves, *with_images(config)]


def together(config: VllmConfig) -> list[Prompt]:
    """Prompts of several lengths that share batches, two of them twice. The engine chooses their new tokens freely."""
    prompts = []
    for name, (repeats, tokens) in output.prompts(config).items():
        if name != output.ALONE:
            prompts.append(Prompt(name, tokens, repeats=repeats, forced=False))
    return prompts


def with_images(config: VllmConfig) -> Iterator[Wave]:
    """The waves with a picture, if the engine takes pictures."""
    for name, parts in images.plans(config).items():
        prompts = []
        for index, (content, joins) in enumerate(parts):
            tokens = content if isinstance(content, dict) else ids(index, content, config.model_config.get_vocab_size())
            prompts.append(Prompt(f"{name}_{index}", tokens, FEW, joins=joins, scored=False))
        yield Wave(prompts, image=True)


def send_wave(llm: Engine, wave: Wave) -> dict[str, Answer]:
    """Send the prompts of a wave, and step the engine until it has answered all of them.

    Returns:
        The answers by the names of their prompts.

    Raises:
        RuntimeError: the engine did not answer every prompt.
    """
    waiting = list(wave.prompts)
    answers: dict[str, RequestOutput] = {}
    seconds: list[float] = []
    outputs, step = steps(llm), 0
    while waiting or llm.has_unfinished_requests():
        are_joining = send_due(llm, waiting, step)
        begin = time.perf_counter()
        answers |= {answer.request_id: answer for answer in next(outputs) if answer.finished}
        if not are_joining:
            seconds.append(time.perf_counter() - begin)
        step += 1
    missing = [prompt.name for prompt in wave.prompts if prompt.name not in answers]
    if missing:
        raise RuntimeError(f"the engine did not answer {', '.join(missing)}")
    is_alone = len(wave.prompts) == 1
    return {prompt.name: Answer(prompt, is_alone, answers[prompt.name], seconds) for prompt in wave.prompts}


def send_due(llm: Engine, waiting: list[Prompt], step: int) -> bool:
    """Send the prompts that join before this step, and remove them from the list. Returns whether there were any."""
    due = [prompt for prompt in waiting if prompt.joins <= step]
    for prompt in due:
        send(llm, prompt)
        waiting.remove(prompt)
    return bool(due)


def send(llm: Engine, prompt: Prompt) -> None:
    """Send one prompt."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        max_tokens=prompt.new,
        ignore_eos=True,
        temperature=0.0,
        detokenize=False,
        logprobs=1,
        prompt_logprobs=0 if prompt.scored else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
        allowed_token_ids=[FIRST_ID] if prompt.forced else None,
    )
    content = prompt.content
    llm.add_request(prompt.name, content if isinstance(content, dict) else {"prompt_token_ids": content}, params)


def as_values(answer: Answer, tokenizer: Any) -> dict[str, Any]:
    """An answer as plain values.

    Args:
        answer: the answer.
        tokenizer: that of the engine; None if it has none.

    Returns:
        `name` and `repeats`: see `Prompt`. `alone`: whether its batches held only this prompt. `given`: the
        log-probability of each prompt token after the first, in nats; empty if they were not asked for. `tokens`: the
        new tokens. `made`: the log-probability of each new token, in nats. A log-probability is None if it is not a
        finite number. `likeliest`: the token that the engine would have added at each step if it chose freely. `text`:
        the text of these tokens; empty without a tokenizer.
    """
    completion = answer.output.outputs[0]
    likeliest = [likeliest_token(candidates) for candidates in completion.logprobs]
    given: list[float | None] = []
    if isinstance(answer.prompt.content, list) and answer.prompt.scored:
        candidates = (answer.output.prompt_logprobs or [])[1:]
        given = output.log_probabilities(candidates, answer.prompt.content[1:])
    return {
        "name": answer.prompt.name,
        "repeats": answer.prompt.repeats,
        "alone": answer.alone,
        "given": given,
        "tokens": list(completion.token_ids),
        "made": output.log_probabilities(completion.logprobs, completion.token_ids),
        "likeliest": likeliest,
        "text": tokenizer.decode(likeliest)[:LONGEST_TEXT] if tokenizer is not None else "",
    }


def likeliest_token(candidates: dict[int, Any]) -> int:
    """The token with the largest log-probability; a number that is not finite counts as the smallest.

    Args:
        candidates: token -> vLLM's `Logprob`.
    """

    def number(token: int) -> float:
        value: float = candidates[token].logprob
        return value if math.isfinite(value) else -math.inf

    return max(candidates, key=number)


def finite(value: float) -> float | None:
    """The number; None if it is not finite."""
    return value if math.isfinite(value) else None
