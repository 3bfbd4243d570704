"""The output probe: starts the engine of a launch as it is, and sends it the prompts that every engine gets."""

import math
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Engine, RequestOutput, VllmConfig
from vllm_launch_worker import engine
from vllm_launch_worker.requests import FIRST_ID, ids, room, steps

SCALED = "vllm_launch_worker.scaled.Scaled"
NEW_TOKENS = 24
LENGTHS = (3, 7, 17, 33, 48, 64)
REPEATED = (17, 33)
"""Lengths whose prompt is sent twice in the same batch: the difference between the two answers is noise."""
ALONE = "tokens_17_alone"
"""Sent after all others are answered. Its added tokens are passes of one token, which a model may treat differently.
Each of them must be `FIRST_ID`, so that all can be compared: where engines choose tokens, the first different token
ends the comparison, and the likeliest tokens of two engines may be equally likely although different experts ran."""
DIGITS = 6
"""Decimals of a log-probability; below them lies the rounding of a 32-bit float."""


def observe(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Start the engine of a launch, unwatched, and ask for tokens and their log-probabilities.

    Args:
        request: see `engine.configured`.
        control: a folder that only this process uses.

    Returns:
        `prompts`: see `described`; `engine`: see `engine.became`; `changed`: what differs from the launch, in words.

    Raises:
        RuntimeError: the engine cannot be started on this machine, or did not answer every prompt.
    """
    config, changed = engine.configured(request, control, SCALED)
    llm = engine.started(config)
    requests = prompts(config)
    answers = answered(llm, requests)
    drawn = llm.collective_rpc("weights_drawn")[0]
    engine.ended(llm)
    return {
        "prompts": [described(name, *requests[name], answers[name]) for name in requests],
        "engine": engine.became(config),
        "changed": [*changed, *drawn],
    }


def prompts(config: VllmConfig) -> dict[str, tuple[str, list[int]]]:
    """Name -> name of the prompt that this one repeats, and token ids. None is longer than the engine has room for."""
    longest, vocabulary = room(config, NEW_TOKENS), config.model_config.get_vocab_size()
    requests: dict[str, tuple[str, list[int]]] = {}
    for index, length in enumerate(LENGTHS):
        tokens = ids(index, min(length, longest), vocabulary)
        requests[f"tokens_{length}"] = ("", tokens)
        if length in REPEATED:
            requests[f"tokens_{length}_again"] = (f"tokens_{length}", tokens)
    requests[ALONE] = ("", requests["tokens_17"][1])
    return requests


def answered(llm: Engine, requests: dict[str, tuple[str, list[int]]]) -> dict[str, RequestOutput]:
    """Send all prompts but `ALONE` at once, so that they share batches, then that one; name -> its whole answer.

    Raises:
        RuntimeError: the engine did not answer every prompt.
    """
    together = {name: tokens for name, (_, tokens) in requests.items() if name != ALONE}
    alone = {ALONE: requests[ALONE][1]}
    answers = of_batch(llm, together) | of_batch(llm, alone, allowed_token_ids=[FIRST_ID])
    if len(answers) < len(requests):
        raise RuntimeError(f"the engine answered {len(answers)} of {len(requests)} prompts")
    return answers


def of_batch(llm: Engine, batch: dict[str, list[int]], **options: Any) -> dict[str, RequestOutput]:
    """Send prompts at once, with further sampling parameters if any; name -> its whole answer."""
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
    answers: dict[str, RequestOutput] = {}
    outputs = steps(llm)
    while llm.has_unfinished_requests():
        for answer in next(outputs):
            if answer.finished:
                answers[answer.request_id] = answer
    return answers


def described(name: str, repeats: str, tokens: list[int], answer: RequestOutput) -> dict[str, Any]:
    """An answer as plain values.

    Returns:
        `alone`: whether no other prompt shared its batches; `given`: the log-probability of each token of the prompt
        after the first, in nats, None where it is not a finite number; `tokens`: the added tokens; `made`: the
        log-probability of each added token.
    """
    completion = answer.outputs[0]
    return {
        "name": name,
        "repeats": repeats,
        "alone": name == ALONE,
        "given": log_probabilities((answer.prompt_logprobs or [])[1:], tokens[1:]),
        "tokens": list(completion.token_ids),
        "made": log_probabilities(completion.logprobs, completion.token_ids),
    }


def log_probabilities(candidates: list[Any], tokens: list[int]) -> list[float | None]:
    """The log-probability of each token, rounded; None where it is not a finite number.

    Args:
        candidates: of each position, token -> vLLM's `Logprob`.
        tokens: of each position.
    """
    numbers: list[float | None] = []
    for by_token, token in zip(candidates, tokens, strict=False):
        value = float(by_token[token].logprob)
        numbers.append(round(value, DIGITS) if math.isfinite(value) else None)
    return numbers
