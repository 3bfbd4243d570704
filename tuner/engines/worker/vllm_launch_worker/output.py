"""The output probe: starts the engine of a launch without stamps, and sends it the same prompts as every engine."""

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
"""The lengths whose prompt is sent twice in the same batch. The difference between the two answers is noise."""
ALONE = "tokens_17_alone"
"""The name of the prompt that is sent alone, after all others are answered.

Each of its new tokens is a pass of one token, and a model may treat such a pass differently. The engine may only choose
`FIRST_ID`, so that all new tokens can be compared. If engines chose tokens freely, the comparison would end at the
first different token. Also, two different tokens may have the same log-probability although different experts ran."""
DIGITS = 6
"""The number of decimals of a log-probability. Further decimals are rounding errors of a 32-bit float."""


def observe(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Start the engine of a launch, without stamps, and ask for tokens and their log-probabilities.

    Args:
        request: see `engine.configured`.
        control: a folder that only this process uses.

    Returns:
        `prompts`: see `described`. `engine`: see `engine.became`. `changed`: one sentence for each difference from the
        launch.

    Raises:
        RuntimeError: the engine cannot be started on this machine, or did not answer every prompt.
    """
    config, changed = engine.configured(request, control, SCALED)
    llm = engine.started(config)
    requests = prompts(config)
    answers = answered(llm, requests)
    weight_notes = llm.collective_rpc("weights_drawn")[0]
    engine.ended(llm)
    return {
        "prompts": [described(name, *requests[name], answers[name]) for name in requests],
        "engine": engine.became(config),
        "changed": [*changed, *weight_notes],
    }


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


def answered(llm: Engine, requests: dict[str, tuple[str, list[int]]]) -> dict[str, RequestOutput]:
    """Send all prompts except `ALONE` at once, so that they share batches. Then send `ALONE`.

    Returns:
        Name of each prompt -> its complete answer.

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
    """Send prompts at once.

    Args:
        llm: the engine.
        batch: name of each prompt -> its token ids.
        options: further sampling parameters.

    Returns:
        Name of each prompt -> its complete answer.
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
        `name` and `repeats`: see `prompts`. `alone`: whether its batches held only this prompt. `given`: the
        log-probability of each prompt token after the first, in nats. `tokens`: the new tokens. `made`: the
        log-probability of each new token, in nats. A log-probability is None if it is not a finite number.
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
