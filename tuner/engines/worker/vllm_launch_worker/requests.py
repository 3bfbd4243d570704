"""What is sent to the engine: prompts of token ids, so that no tokenizer is needed."""

from collections.abc import Iterator

IDLE_STEPS = 10_000
"""Steps in a row that bring nothing, after which nothing is awaited; a prompt of a million tokens takes fewer."""
NEW_TOKENS = 6
FIRST_ID = 16
"""Below it most vocabularies keep their special tokens."""


def plans(config) -> dict:
    """The requests that fit an engine, by name: each a list of (length of the prompt, step at which it joins)."""
    most, longest, max_seqs = batch(config), room(config), config.scheduler_config.max_num_seqs
    made = {
        "one": [(7, 0)],
        "batch": [(length, 0) for length in (3, 17, 33, 64)[:max_seqs]],
        "joins": [(5, 0), (40, 2)][:max_seqs],
        "many": [(4, 0)] * min(max_seqs, 16),
        "long": [(most + most // 2, 0)],  # more than a batch: it is cut into chunks
    }
    return {name: [(min(length, longest), step) for length, step in parts] for name, parts in made.items()}


def room(config, added: int = NEW_TOKENS) -> int:
    """Tokens of the longest prompt to which an engine can add so many.

    Where prompts are not cut into chunks, one that is larger than a batch would wait for ever.
    """
    longest = max(1, config.model_config.max_model_len - added - 1)
    return longest if config.scheduler_config.enable_chunked_prefill else min(longest, batch(config))


def batch(config) -> int:
    """Tokens of an engine's largest batch.

    It may be less than `max_num_batched_tokens`: drafts take their part, and for a model with MLA a CPU raises that
    number after the scheduler's own was set (platforms/cpu.py, 0.32.0).
    """
    scheduler = config.scheduler_config
    return getattr(scheduler, "max_num_scheduled_tokens", None) or scheduler.max_num_batched_tokens


def send(engine, name: str, parts: list, vocabulary: int) -> None:
    """Send the requests of one plan and step the engine until all are answered.

    In place of a length, `parts` may have a prompt with an image (`images.plans`).
    """
    from vllm import SamplingParams

    step, outputs = 0, steps(engine)
    while engine.has_unfinished_requests() or any(joins >= step for _, joins in parts):
        for index, (length, joins) in enumerate(parts):
            if joins == step:
                prompt = length if isinstance(length, dict) else {"prompt_token_ids": ids(index, length, vocabulary)}
                params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True, temperature=0.0, detokenize=False)
                engine.add_request(f"{name}-{index}", prompt, params)
        next(outputs)
        step += 1


def steps(engine) -> Iterator[list]:
    """Step the engine whenever the next outputs are asked for.

    Raises:
        RuntimeError: it steps and brings nothing: it does not schedule what it was sent.
    """
    idle = 0
    while idle < IDLE_STEPS:
        found = engine.step()
        idle = 0 if found else idle + 1
        yield found
    raise RuntimeError(f"{IDLE_STEPS:,} steps of the engine in a row brought nothing: it leaves a request waiting")


def ids(index: int, length: int, vocabulary: int) -> list:
    """The tokens of a plan's request by its place there."""
    return [FIRST_ID + (index * 31 + place) % (vocabulary - FIRST_ID) for place in range(length)]
