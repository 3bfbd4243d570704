"""The kinds of forward pass that are run, and the inputs of each."""

from dataclasses import dataclass, field

from moe_probe_worker.engine import MAX_SEQUENCES, MAX_TOKENS


@dataclass(frozen=True)
class Scenario:
    """One forward pass.

    Attributes:
        name: stable name, as in the report.
        ids: token ids of the batch.
        positions: position of each token in its sequence.
        feed: `ids`, or `embeds` (the model's own embedding first, as vLLM does for multimodal models).
        is_multimodal: for `embeds`: which tokens are replaced by encoder outputs.
    """

    name: str
    ids: list
    positions: list
    feed: str = "ids"
    is_multimodal: list = field(default_factory=list)


def scenarios(vocabulary: int, special: list, multimodal: bool) -> list:
    """Every scenario for a model.

    Args:
        vocabulary: number of token ids.
        special: token ids that the config names.
        multimodal: whether encoder outputs can take the place of tokens.
    """
    plain = [token for token in range(min(vocabulary, 512)) if token not in special] or [0]
    feed = "embeds" if multimodal else "ids"
    found = [*batches(plain, feed), *special_tokens(plain, special, feed)]
    if multimodal:
        return found + encoder_outputs(plain, special or plain[:1])
    return [*found, Scenario("inputs_embeds", take(plain, 17), list(range(17)), "embeds")]


def take(plain: list, count: int) -> list:
    """The first `count` tokens of the endlessly repeated list."""
    return [plain[index % len(plain)] for index in range(count)]


def batches(plain: list, feed: str) -> list:
    """Decode, prefill and mixed batches of ordinary tokens."""
    several = MAX_SEQUENCES
    lengths = {
        "prefill_short": 17,
        "prefill_64": 64,
        "prefill_65": 65,
        "prefill_long": 200,
        "batch_limit": MAX_TOKENS,
    }
    mixed = [40, 90, 130, *range(30)]  # three sequences decode, one prefills
    return [
        Scenario("decode_1", take(plain, 1), [100], feed),
        Scenario(f"decode_{several}", take(plain, several), [20 * (row + 1) for row in range(several)], feed),
        *(Scenario(name, take(plain, count), list(range(count)), feed) for name, count in lengths.items()),
        Scenario("mixed_batch", take(plain, len(mixed)), mixed, feed),
    ]


def special_tokens(plain: list, special: list, feed: str) -> list:
    """Each named token alone in a decode step, and inside a prefill of ordinary ones."""
    return [
        scenario
        for token in special
        for scenario in (
            Scenario(f"token_{token}_decode", [token], [100], feed),
            Scenario(f"token_{token}_prefill", [*take(plain, 4), token, *take(plain, 4)], list(range(9)), feed),
        )
    ]


def encoder_outputs(plain: list, placeholders: list) -> list:
    """Encoder outputs among text and alone, in the place of each token the config names."""
    found = []
    for token in placeholders:
        mask = [False] * 4 + [True] * 8 + [False] * 4
        ids = [token if replaced else word for replaced, word in zip(mask, take(plain, 16), strict=True)]
        found.append(Scenario(f"encoder_mixed_{token}", ids, list(range(16)), "embeds", mask))
        found.append(Scenario(f"encoder_only_{token}", [token] * 8, list(range(8)), "embeds", [True] * 8))
    return found
