"""Requests for the engine: prompts of token ids, so that no tokenizer is needed."""

from collections.abc import Iterator
from typing import Any

from shared_worker.vllm_types import Engine, RequestOutput, VllmConfig

IDLE_STEPS = 10_000
"""After so many steps in a row without an output we stop waiting; a prompt of a million tokens takes fewer."""
NEW_TOKENS = 6
FIRST_ID = 16
"""Most vocabularies keep their special tokens below it."""

Part = tuple["int | dict[str, Any]", int]
"""The length of a prompt, or a prompt with an image, and the step at which it joins."""
Plans = dict[str, list[Part]]


def plans(config: VllmConfig) -> Plans:
    """The requests that fit an engine, by name; none with an image."""
    most, longest, max_seqs = batch(config), room(config), config.scheduler_config.max_num_seqs
    lengths: dict[str, list[tuple[int, int]]] = {
        "one": [(7, 0)],
        "batch": [(length, 0) for length in (3, 17, 33, 64)[:max_seqs]],
        "joins": [(5, 0), (40, 2)][:max_seqs],
        "many": [(4, 0)] * min(max_seqs, 16),
        "long": [(most + most // 2, 0)],  # more than a batch: the engine cuts it into chunks
    }
    fitting: Plans = {}
    for name, parts in lengths.items():
        fitting[name] = [(min(length, longest), step) for length, step in parts]
    return fitting


def room(config: VllmConfig, added: int = NEW_TOKENS) -> int:
    """Tokens of the longest prompt to which an engine can add this many tokens.

    Where the engine does not cut prompts into chunks, a prompt larger than a batch would wait for ever.
    """
    longest = max(1, config.model_config.max_model_len - added - 1)
    return longest if config.scheduler_config.enable_chunked_prefill else min(longest, batch(config))


def batch(config: VllmConfig) -> int:
    """Tokens of an engine's largest batch.

    It may be less than `max_num_batched_tokens`: drafts take a part of it. For a model with MLA a CPU raises that
    number after the scheduler's own number was set (platforms/cpu.py, 0.32.0).
    """
    scheduler = config.scheduler_config
    scheduled: int | None = getattr(scheduler, "max_num_scheduled_tokens", None)
    return scheduled or scheduler.max_num_batched_tokens


def send(engine: Engine, name: str, parts: list[Part], vocabulary: int) -> None:
    """Send the requests of one plan, and step the engine until it has answered all."""
    from vllm import SamplingParams

    step, outputs = 0, steps(engine)
    while engine.has_unfinished_requests() or any(joins >= step for _, joins in parts):
        for index, (content, joins) in enumerate(parts):
            if joins == step:
                prompt = content if isinstance(content, dict) else {"prompt_token_ids": ids(index, content, vocabulary)}
                params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True, temperature=0.0, detokenize=False)
                engine.add_request(f"{name}-{index}", prompt, params)
        next(outputs)
        step += 1


def steps(engine: Engine) -> Iterator[list[RequestOutput]]:
    """The outputs of the engine's steps; each iteration is a step.

    Raises:
        RuntimeError: the engine steps and brings nothing: it does not schedule a request.
    """
    idle = 0
    while idle < IDLE_STEPS:
        outputs = engine.step()
        idle = 0 if outputs else idle + 1
        yield outputs
    raise RuntimeError(f"{IDLE_STEPS:,} steps of the engine in a row brought nothing: it leaves a request waiting")


def ids(index: int, length: int, vocabulary: int) -> list[int]:
    """The tokens of a request.

    Args:
        index: place of the request in its plan; requests with different places begin with different tokens.
        length: number of tokens.
        vocabulary: number of tokens in the vocabulary.
    """
    return [FIRST_ID + (index * 31 + place) % (vocabulary - FIRST_ID) for place in range(length)]
