"""The scenarios: forward passes that the probe runs, and their inputs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moe_probe_worker.engine import MAX_SEQUENCES, MAX_TOKENS


@dataclass(frozen=True)
class Scenario:
    """One batch, and how it is passed to the model.

    Attributes:
        name: the name in the report. It stays the same between versions.
        ids: token ids of the batch.
        positions: position of each token in its sequence.
        feed: `ids`: token ids; `embeds`: the model's own embeddings of the ids, as vLLM feeds multimodal models.
        is_multimodal: for `embeds`: whether an encoder output replaces each token. Empty means that none is replaced.
        repeats: how many equal passes run. Each has its own forward context.
        optional: whether the model may refuse this input. A launch may never give it.
    """

    name: str
    ids: list[int]
    positions: list[int]
    feed: str = "ids"
    is_multimodal: list[bool] = field(default_factory=list)
    repeats: int = 1
    optional: bool = False


CAPTURE_SIZES = (2, 8, 256)
"""Some batch sizes for which vLLM captures CUDA graphs by default, in tokens.

All sizes are 1, 2, 4, multiples of 8 up to 256, and multiples of 16 up to at most 512 (vllm/config/vllm.py, 0.19.1 and
0.32.0). The probe's config does not list them, because it is eager.
"""
QUICK = 64
"""The most tokens of a quick pass."""
REPEATS = 16
"""Equal passes of each kind. If a model skips one layer in four at random, one pass in 16 still shows a regular
order."""


def scenarios(vocabulary: int, special: list[int], multimodal: bool, longest: int = MAX_TOKENS) -> list[Scenario]:
    """Every scenario for a model.

    Args:
        vocabulary: number of token ids.
        special: token ids that the config names.
        multimodal: whether encoder outputs can replace tokens.
        longest: number of positions that the model takes.
    """
    plain = [token for token in range(min(vocabulary, 512)) if token not in special] or [0]
    feed = "embeds" if multimodal else "ids"
    planned = [
        *batches(plain, feed, longest),
        *long_contexts(plain, feed, longest),
        *runner_made(plain, feed, longest),
        *repeated(plain, feed, longest),
        *special_tokens(plain, special, feed),
    ]
    if multimodal:
        return [*planned, *encoder_outputs(plain, special or plain[:1]), *text_alone(plain)]
    return [*planned, Scenario("inputs_embeds", take(plain, 17), list(range(17)), "embeds", optional=True)]


def learning(planned: list[Scenario]) -> list[Scenario]:
    """A few quick scenarios: the first for each combination of feed and first word of the name."""
    kinds: dict[tuple[str, str], Scenario] = {}
    for scenario in planned:
        if len(scenario.ids) <= QUICK:
            kinds.setdefault((scenario.name.split("_")[0], scenario.feed), scenario)
    return list(kinds.values())


def take(plain: Sequence[int], count: int) -> list[int]:
    """The first `count` tokens of the list, which is repeated if it is too short."""
    return [plain[index % len(plain)] for index in range(count)]


def batches(plain: list[int], feed: str, longest: int) -> list[Scenario]:
    """Decode, prefill and mixed batches of ordinary tokens."""
    several = MAX_SEQUENCES
    lengths = {
        "prefill_short": 17,
        "prefill_64": 64,
        "prefill_65": 65,
        "prefill_long": 200,
        "batch_limit": MAX_TOKENS,
    }
    mixed = [40, 90, 130, *range(30)]  # positions of three decode steps and of a prefill of 30 tokens
    return [
        Scenario("decode_1", take(plain, 1), [100 % longest], feed),
        Scenario(f"decode_{several}", take(plain, several), within(longest, range(20, 20 * several + 1, 20)), feed),
        *(Scenario(name, take(plain, count), within(longest, range(count)), feed) for name, count in lengths.items()),
        Scenario("mixed_batch", take(plain, len(mixed)), within(longest, mixed), feed),
    ]


def within(longest: int, positions: Iterable[int]) -> list[int]:
    """The positions, modulo the length of the longest sequence."""
    return [position % longest for position in positions]


def long_contexts(plain: list[int], feed: str, longest: int) -> list[Scenario]:
    """Decode and prefill at the last positions that the model takes, and at positions before those."""
    several = MAX_SEQUENCES
    spread = [longest * (row + 1) // several - 1 for row in range(several)]
    last = min(17, longest)
    half = min(64, longest - longest // 2)
    return [
        Scenario("position_last_decode", take(plain, 1), [longest - 1], feed),
        Scenario("position_spread_decode", take(plain, several), within(longest, spread), feed),
        Scenario("position_last_prefill", take(plain, last), list(range(longest - last, longest)), feed),
        Scenario("position_half_prefill", take(plain, half), list(range(longest // 2, longest // 2 + half)), feed),
    ]


def runner_made(plain: list[int], feed: str, longest: int) -> list[Scenario]:
    """Batches that vLLM's model runner makes: sizes near those of CUDA graphs, padding, and an idle rank's dummy run.

    A padding token is token 0 at position 0. The forward context counts it like any other token. An idle data-parallel
    rank runs a batch of one such token (`execute_dummy_batch`, vllm/v1/worker/gpu_worker.py).
    """
    sizes: set[int] = set()
    for size in CAPTURE_SIZES:
        sizes |= {size - 1, size, size + 1}
    decodes = []
    for size in sorted(sizes - {1}):
        positions = within(longest, range(100, 100 + size))
        decodes.append(Scenario(f"tokens_{size}", take(plain, size), positions, feed))
    return [
        *decodes,
        Scenario("padded_decode", [*take(plain, 3), *[0] * 5], within(longest, [40, 90, 130, *[0] * 5]), feed),
        Scenario("padded_prefill", [*take(plain, 17), *[0] * 7], [*within(longest, range(17)), *[0] * 7], feed),
        Scenario("data_parallel_idle", [0], [0], feed),
    ]


def repeated(plain: list[int], feed: str, longest: int) -> list[Scenario]:
    """Equal passes, repeated `REPEATS` times to find layers that are skipped at random."""
    return [
        Scenario("repeated_decode", take(plain, 1), [100 % longest], feed, repeats=REPEATS),
        Scenario("repeated_prefill", take(plain, 17), within(longest, range(17)), feed, repeats=REPEATS),
    ]


def special_tokens(plain: list[int], special: list[int], feed: str) -> list[Scenario]:
    """Each special token alone in a decode step, and between ordinary tokens in a prefill."""
    passes = []
    for token in special:
        around = take(plain, 4)
        passes.append(Scenario(f"token_{token}_decode", [token], [100], feed))
        passes.append(Scenario(f"token_{token}_prefill", [*around, token, *around], list(range(9)), feed))
    return passes


def text_alone(plain: list[int]) -> list[Scenario]:
    """Token ids for a multimodal model, as in a launch that takes text only."""
    return [
        Scenario("ids_decode", take(plain, 1), [100], optional=True),
        Scenario("ids_prefill", take(plain, 17), list(range(17)), optional=True),
    ]


def encoder_outputs(plain: list[int], placeholders: list[int]) -> list[Scenario]:
    """Encoder outputs between text tokens and alone. They replace each of the placeholder tokens."""
    passes = []
    for token in placeholders:
        mask = [False] * 4 + [True] * 8 + [False] * 4
        ids = [*take(plain, 16)[:4], *[token] * 8, *take(plain, 16)[12:]]
        passes.append(Scenario(f"encoder_mixed_{token}", ids, list(range(16)), "embeds", mask))
        passes.append(Scenario(f"encoder_only_{token}", [token] * 8, list(range(8)), "embeds", [True] * 8))
    return passes
