"""Launches that share a cache root, and differ in something that the key of the compile cache leaves out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rules.compile_variables import RELEASES
from rules.releases import named_release, numbers_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import (
    are_known,
    are_seen,
    cache_folder,
    fills_a_cache,
    options_of,
    place_of,
)

_LIMITS = "--limit-mm-per-prompt"
_APART = frozenset({"--host", "--port", "--served-model-name", "--api-key", _LIMITS, "--speculative-config", "-sc"})
"""Options that the key leaves out, or that are compared by themselves."""
_TOKENS = "num_speculative_tokens"
_PARALLEL_DRAFT, _SIZED_FROM = "dflash", (0, 28)
"""The method whose graph has the number of tokens as a size, and the first series where it has
(vllm/model_executor/models/qwen3_dflash2.py)."""


@dataclass(frozen=True)
class _Unkeyed:
    """What a launch says that changes its compiled code, and that the key leaves out.

    Source: `compute_hash` of `ModelConfig` (`limit_mm_per_prompt` is one of its `ignored_factors`) and of
    `SpeculativeConfig` (vllm/config/model.py and speculative.py, 0.14.1 to 0.33.0). All factors of LoRA that change
    compiled code are in the key (vllm/config/lora.py).

    Attributes:
        without: kinds of input that are limited to 0: with all of them the model is called with token ids, and
            otherwise with embeddings (vllm/multimodal/registry.py, `supports_multimodal_inputs`).
        tokens: how many tokens a parallel draft proposes, which is a size in its graph; None for other drafts, whose
            graph is run once for each token.
    """

    without: frozenset[str]
    tokens: str | None


def _problems(launches: Sequence[Examined]) -> Iterator[tuple[Examined, Problem]]:
    groups: dict[tuple[object, ...], list[tuple[Examined, _Unkeyed]]] = {}
    for examined in launches:
        key, unkeyed = _key(examined), _unkeyed(examined)
        if key is not None and unkeyed is not None:
            groups.setdefault(key, []).append((examined, unkeyed))
    for group in groups.values():
        for examined, unkeyed in group:
            other = next((member for member in group if member[1] != unkeyed), None)
            if other is not None:
                yield examined, Problem(_message(unkeyed, *other))


def _message(mine: _Unkeyed, other: Examined, theirs: _Unkeyed) -> str:
    what = _LIMITS if mine.without != theirs.without else _TOKENS
    shares = f"The compile cache is shared with {other.path}:{other.launch.line}, which differs in {what}"
    return f"{shares}; vLLM's key leaves that out, so code of the other may run. Give each a VLLM_CACHE_ROOT."


def _key(examined: Examined) -> tuple[object, ...] | None:
    """What two launches have in common that may run each other's code; None where it is not known."""
    version, place, arguments = named_release(examined.version), _place(examined), examined.arguments
    if version is None or version.release not in map(numbers_of, RELEASES) or place is None or arguments is None:
        return None
    if not fills_a_cache(examined) or not are_seen(examined) or any(word.unknown for word in examined.launch.words):
        return None
    options = sorted((name, values) for name, values in options_of(examined.launch) if _names(name) not in _APART)
    variables = sorted(
        (name, value or "")
        for name, value in examined.launch.env.items()
        if name.startswith("VLLM_") and name != "VLLM_CACHE_ROOT"
    )
    draft = {key: value for key, value in (arguments.serving.speculative or {}).items() if key != _TOKENS}
    whole = json.dumps([options, variables, draft], sort_keys=True, default=str)
    return (place, examined.version, examined.launch.image, arguments.model, whole)


def _place(examined: Examined) -> str | None:
    """Where the compile cache lies for certain; None where that is not known, or where it has no key at all."""
    launch, folder = examined.launch, cache_folder(examined)
    if folder is None or (examined.arguments and examined.arguments.compilation_config.get("cache_dir")):
        return None
    if launch.pod is not None:
        return place_of(examined, folder)
    near = str(PurePath(examined.path).parent)
    return f"{near} {folder}" if launch.image is None and launch.env.get("VLLM_CACHE_ROOT") else None


def _unkeyed(examined: Examined) -> _Unkeyed | None:
    """None where it is not known."""
    without = _limited_to_none(examined)
    if without is None or examined.arguments is None or not are_known(examined, "speculative"):
        return None
    draft, version = examined.arguments.serving.speculative or {}, named_release(examined.version)
    sized = draft.get("method") == _PARALLEL_DRAFT and version is not None and version.release >= _SIZED_FROM
    return _Unkeyed(without, str(draft.get(_TOKENS)) if sized else None)


def _limited_to_none(examined: Examined) -> frozenset[str] | None:
    """The kinds of input that are limited to 0; None where the limits cannot be read."""
    limits: dict[str, object] = {}
    for name, values in options_of(examined.launch):
        if _names(name) == _LIMITS:
            stated = _limits(name, values)
            if stated is None:
                return None
            limits |= stated
    return frozenset(kind for kind, limit in limits.items() if _is_none(limit))


def _limits(name: str, values: Sequence[str]) -> dict[str, object] | None:
    """The limits that one use of the option states; None where they cannot be read."""
    if not values:
        return None
    if name != _LIMITS:
        return {name.removeprefix(f"{_LIMITS}.").removesuffix(".count"): values[-1]}
    try:
        stated = json.loads(values[-1])
    except (ValueError, RecursionError):
        return None
    return stated if isinstance(stated, dict) else None


def _is_none(limit: object) -> bool:
    count = limit.get("count") if isinstance(limit, dict) else limit
    return str(count) == "0"


def _names(option: str) -> str:
    """The option that a dotted spelling sets a key of."""
    return option.partition(".")[0]


RULE = Rule(
    "cache-root-shared",
    Severity.WARNING,
    "Launches share a cache root, and differ in something that vLLM's key leaves out.",
    of_launches=_problems,
)
