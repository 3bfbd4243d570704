"""The prompts whose answers `tuner tune` compares between engines. The replay probe sends them, too."""

import math
from typing import Any

from shared_worker.vllm_types import Engine, VllmConfig
from vllm_launch_worker.requests import FIRST_ID, ids, room, steps

NEW_TOKENS = 24
LENGTHS = (3, 7, 17, 33, 48, 64)
REPEATED = (17, 33)
"""The lengths whose prompt is sent twice in the same batch. The difference between the two answers is noise."""
ALONE = "tokens_17_alone"
"""The name of the prompt that is sent alone, after all others are answered.

Each of its new tokens is a pass of one token, and a model may treat such a pass differently. The engine may only choose
`FIRST_ID`, so that all new tokens can be compared. If engines chose tokens freely, the comparison would end at the
first different token. Also, two different tokens may have the same log-probability although different experts ran."""
DIGITS = 6
"""The number of decimals of a log-probability. Further decimals are rounding errors of a 32-bit float."""


def prompts(config: VllmConfig) -> dict[str, tuple[str, list[int]]]:
    """Name of each prompt -> the name of the prompt that it repeats, or an empty string, and its token ids.

    Prompts are cut to the length for which the engine has room.
    """
    longest, vocabulary = room(config, NEW_TOKENS), config.model_config.get_vocab_size()
    requests: dict[str, tuple[str, list[int]]] = {}
    for index, length in enumerate(LENGTHS):
        tokens = ids(index, min(length, longest), vocabulary)
        requests[f"tokens_{length}"] = ("", tokens)
        if length in REPEATED:
            requests[f"tokens_{length}_again"] = (f"tokens_{length}", tokens)
    requests[ALONE] = ("", requests["tokens_17"][1])
    return requests


def send(llm: Engine, requests: dict[str, tuple[str, list[int]]]) -> None:
    """Send all prompts except `ALONE` at once, so that they share batches. Then send `ALONE`.

    Raises:
        RuntimeError: the engine did not answer every prompt.
    """
    together = {name: tokens for name, (_, tokens) in requests.items() if name != ALONE}
    alone = {ALONE: requests[ALONE][1]}
    answered_names = send_batch(llm, together) | send_batch(llm, alone, allowed_token_ids=[FIRST_ID])
    if answered_names < requests.keys():
        raise RuntimeError(f"the engine answered {len(answered_names)} of {len(requests)} prompts")


def send_batch(llm: Engine, batch: dict[str, list[int]], **options: Any) -> set[str]:
    """Send prompts at once.

    Args:
        llm: the engine.
        batch: name of each prompt -> its token ids.
        options: further sampling parameters.

    Returns:
        The names of the prompts that the engine answered.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        max_tokens=NEW_TOKENS,
        ignore_eos=True,
        temperature=0.0,
        detokenize=False,
        logprobs=0,
        prompt_logprobs=0,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **options,
    )
    for name, tokens in batch.items():
        llm.add_request(name, {"prompt_token_ids": tokens}, params.clone())
    answered_names: set[str] = set()
    outputs = steps(llm)
    while llm.has_unfinished_requests():
        answered_names |= {answer.request_id for answer in next(outputs) if answer.finished}
    return answered_names


def log_probabilities(candidates: list[Any], tokens: list[int]) -> list[float | None]:
    """The log-probability of each token, in nats and rounded. None if it is not a finite number.

    Args:
        candidates: for each position, a mapping from token to vLLM's `Logprob`.
        tokens: the token of each position.
    """
    numbers: list[float | None] = []
    for by_token, token in zip(candidates, tokens, strict=False):
        value = float(by_token[token].logprob)
        numbers.append(round(value, DIGITS) if math.isfinite(value) else None)
    return numbers
