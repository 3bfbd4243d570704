"""The output probe: the engine of a launch as it is, and what it answers to prompts that every engine gets."""

import math
from pathlib import Path

from vllm_launch_worker import engine
from vllm_launch_worker.requests import FIRST_ID, ids, room, steps

SCALED = "vllm_launch_worker.scaled.Scaled"
NEW_TOKENS = 24
LENGTHS = (3, 7, 17, 33, 48, 64)
REPEATED = (17, 33)
"""Lengths whose prompt is sent twice in the same batch: how far the two answers differ is noise."""
ALONE = "tokens_17_alone"
"""Sent once all others are answered: its added tokens are passes of one token, which a model may treat otherwise. They
are given, `FIRST_ID` each time, so that all of them can be compared: where engines choose, the first that differs ends
the comparison, and the likeliest tokens of two engines may be as likely although others ran."""
DIGITS = 6
"""Decimals of a log-probability; below them lies the rounding of a 32-bit float."""


def observe(request: dict, control: Path) -> dict:
    """Start the engine of a launch, unwatched, and ask for tokens and their log-probabilities.

    Args:
        request: see `engine.configured`.
        control: a folder of this process alone.

    Returns:
        `prompts`: see `told`; `engine`: what the launch became; `changed`: what is otherwise than in the launch.

    Raises:
        RuntimeError: the engine cannot be started here, or did not answer everything.
    """
    config, changed = engine.configured(request, control, SCALED)
    made = engine.started(config)
    asked = prompts(config)
    answers = answered(made, asked)
    drawn = made.collective_rpc("weights_drawn")[0]
    engine.ended(made)
    return {
        "prompts": [told(name, *asked[name], answers[name]) for name in asked],
        "engine": engine.became(config),
        "changed": [*changed, *drawn],
    }


def prompts(config) -> dict:
    """By name: the name of the prompt that this one repeats, and token ids; no longer than there is room for."""
    longest, vocabulary = room(config, NEW_TOKENS), config.model_config.get_vocab_size()
    made = {}
    for index, length in enumerate(LENGTHS):
        own = ids(index, min(length, longest), vocabulary)
        made[f"tokens_{length}"] = ("", own)
        if length in REPEATED:
            made[f"tokens_{length}_again"] = (f"tokens_{length}", own)
    return made | {ALONE: ("", made["tokens_17"][1])}


def answered(made, asked: dict) -> dict:
    """Send all prompts but one at once, so that they share batches, then that one; each one's whole answer, by name.

    Raises:
        RuntimeError: the engine did not answer everything.
    """
    together = {name: tokens for name, (_, tokens) in asked.items() if name != ALONE}
    answers = of_batch(made, together) | of_batch(made, {ALONE: asked[ALONE][1]}, allowed_token_ids=[FIRST_ID])
    if len(answers) < len(asked):
        raise RuntimeError(f"the engine answered {len(answers)} of {len(asked)} prompts")
    return answers


def of_batch(made, batch: dict, **more) -> dict:
    """Send prompts at once, with more sampling parameters if any; each one's whole answer, by name."""
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
        **more,
    )
    for name, tokens in batch.items():
        made.add_request(name, {"prompt_token_ids": tokens}, params.clone())
    found, outputs = {}, steps(made)
    while made.has_unfinished_requests():
        found.update({one.request_id: one for one in next(outputs) if one.finished})
    return found


def told(name: str, repeats: str, tokens: list, answer) -> dict:
    """An answer as plain values.

    Returns:
        `alone`: whether no other shared its batches; `given`: the log-probability of each token of the prompt after the
        first, in nats, None where it is no finite number; `tokens`: those that were added; `made`: the log-probability
        of each.
    """
    made = answer.outputs[0]
    given = (answer.prompt_logprobs or [])[1:]
    return {
        "name": name,
        "repeats": repeats,
        "alone": name == ALONE,
        "given": [plain(one[token]) for one, token in zip(given, tokens[1:], strict=False)],
        "tokens": list(made.token_ids),
        "made": [plain(one[token]) for one, token in zip(made.logprobs, made.token_ids, strict=False)],
    }


def plain(found):
    """A log-probability, rounded."""
    value = float(found.logprob)
    return round(value, DIGITS) if math.isfinite(value) else None
