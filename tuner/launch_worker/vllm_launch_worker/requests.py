"""What is sent to the engine: prompts of token ids, so that no tokenizer is needed."""

from collections.abc import Iterator

NEW_TOKENS = 6
FIRST_ID = 16
"""Below it most vocabularies keep their special tokens."""


def plans(max_model_len: int, max_tokens: int, max_seqs: int) -> dict:
    """Requests by name: each a list of (length of the prompt, step at which it joins).

    Args:
        max_model_len: positions of the engine.
        max_tokens: tokens of its largest batch; a longer prompt is cut into chunks.
        max_seqs: sequences of its largest batch.
    """
    longest = max_model_len - NEW_TOKENS - 1
    made = {
        "one": [(7, 0)],
        "batch": [(length, 0) for length in (3, 17, 33, 64)[:max_seqs]],
        "joins": [(5, 0), (40, 2)][:max_seqs],
        "many": [(4, 0)] * min(max_seqs, 16),
        "long": [(min(longest, max_tokens + max_tokens // 2), 0)],
    }
    return {name: [(min(length, longest), step) for length, step in parts] for name, parts in made.items()}


def send(engine, name: str, parts: list, vocabulary: int) -> Iterator[None]:
    """Send the requests of one plan and step the engine until all are answered; yields before each step.

    In place of a length, `parts` may have a prompt with an image (`images.plans`).
    """
    from vllm import SamplingParams

    step = 0
    while engine.has_unfinished_requests() or any(joins >= step for _, joins in parts):
        for index, (length, joins) in enumerate(parts):
            if joins == step:
                prompt = length if isinstance(length, dict) else {"prompt_token_ids": ids(index, length, vocabulary)}
                params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True, temperature=0.0, detokenize=False)
                engine.add_request(f"{name}-{index}", prompt, params)
        yield
        engine.step()
        step += 1


def ids(index: int, length: int, vocabulary: int) -> list:
    """The tokens of a plan's request by its place there."""
    return [FIRST_ID + (index * 31 + place) % (vocabulary - FIRST_ID) for place in range(length)]
