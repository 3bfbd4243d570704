"""Requests for the engine. The prompts are token ids, so a tokenizer is not needed."""

from collections.abc import Iterator
from typing import Any

from shared_worker.vllm_types import Engine, RequestOutput, VllmConfig

IDLE_STEPS = 10_000
"""The number of steps in a row without an output after which the probe stops. A prompt of a million tokens takes fewer
steps."""
NEW_TOKENS = 6
FIRST_ID = 16
"""The lowest token id in a prompt. In most vocabularies the special tokens have lower ids."""

Part = tuple["int | dict[str, Any]", int]
"""A prompt, and the engine's step before which it is sent. The prompt is a number of tokens, or vLLM's own form of a
prompt with an image."""
Plans = dict[str, list[Part]]


def plans(config: VllmConfig) -> Plans:
    """Name -> the text requests that fit this engine."""
    most, longest, max_seqs = batch(config), room(config), config.scheduler_config.max_num_seqs
    lengths: dict[str, list[tuple[int, int]]] = {
        "one": [(7, 0)],
        "batch": [(length, 0) for length in (3, 17, 33, 64)[:max_seqs]],
        "joins": [(5, 0), (40, 2)][:max_seqs],
        "many": [(4, 0)] * min(max_seqs, 16),
        "long": [(most + most // 2, 0)],  # longer than a batch, so the engine cuts it into chunks
    }
    fitting: Plans = {}
    for name, parts in lengths.items():
        fitting[name] = [(min(length, longest), step) for length, step in parts]
    return fitting


def room(config: VllmConfig, new_tokens: int = NEW_TOKENS) -> int:
    """The number of tokens in the longest prompt that the engine can answer with `new_tokens` new tokens.

    If the engine does not cut prompts into chunks, it never starts a prompt that is longer than a batch.
    """
    longest = max(1, config.model_config.max_model_len - new_tokens - 1)
    return longest if config.scheduler_config.enable_chunked_prefill else min(longest, batch(config))


def batch(config: VllmConfig) -> int:
    """The number of tokens in the engine's largest batch.

    It may be less than `max_num_batched_tokens`, for two reasons. Draft tokens take a part of the batch. On a CPU and
    with MLA, vLLM raises `max_num_batched_tokens` after it set the scheduler's number (platforms/cpu.py, 0.32.0).
    """
    scheduler = config.scheduler_config
    without_drafts: int | None = getattr(scheduler, "max_num_scheduled_tokens", None)
    return without_drafts or scheduler.max_num_batched_tokens


def send(engine: Engine, name: str, parts: list[Part], vocabulary: int) -> None:
    """Send the requests of one plan, and step the engine until it has answered all of them.

    Args:
        engine: the engine.
        name: the name of the plan.
        parts: the requests of the plan.
        vocabulary: the number of tokens in the vocabulary.

    Raises:
        RuntimeError: see `steps`.
    """
    step, outputs = 0, steps(engine)
    while engine.has_unfinished_requests() or any(joins >= step for _, joins in parts):
        for index, (content, joins) in enumerate(parts):
            if joins == step:
                tokens = content if isinstance(content, dict) else ids(index, content, vocabulary)
                add(engine, f"{name}-{index}", tokens)
        next(outputs)
        step += 1


def add(engine: Engine, name: str, content: list[int] | dict[str, Any]) -> None:
    """Add one request. Its prompt is a list of token ids, or vLLM's own form of a prompt with an image."""
    from vllm import SamplingParams

    prompt = content if isinstance(content, dict) else {"prompt_token_ids": content}
    params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True, temperature=0.0, detokenize=False)
    engine.add_request(name, prompt, params)


def steps(engine: Engine) -> Iterator[list[RequestOutput]]:
    """The outputs of the engine's steps. Each iteration makes one step.

    Raises:
        RuntimeError: `IDLE_STEPS` steps in a row had no output, so the engine does not schedule a request.
    """
    idle = 0
    while idle < IDLE_STEPS:
        outputs = engine.step()
        idle = 0 if outputs else idle + 1
        yield outputs
    raise RuntimeError(f"{IDLE_STEPS:,} steps of the engine in a row brought nothing: it leaves a request waiting")


def ids(index: int, length: int, vocabulary: int) -> list[int]:
    """The token ids of a request.

    Args:
        index: the place of the request in its plan. Requests with different places start with different tokens.
        length: the number of tokens.
        vocabulary: the number of tokens in the vocabulary.
    """
    return [FIRST_ID + (index * 31 + place) % (vocabulary - FIRST_ID) for place in range(length)]
