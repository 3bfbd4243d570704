"""Names that hold a secret in what vLLM says its cache keys were computed from. Pure."""

import re
from collections.abc import Iterator
from typing import Any

FACTORS = "cache_key_factors.json"
"""vLLM writes it beside a compiled graph, with the values of its environment variables; up to 0.28.0 also that of
VLLM_API_KEY (vllm/envs.py, compile_factors; 0.29.0 leaves it out)."""
_SECRET = re.compile(r"_API_KEY$|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


def secret_names(document: Any) -> list[str]:
    """Names in a JSON value, at any depth, that sound like a secret and have a text that is not empty.

    Numbers and truth values are none: VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE is 163840.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    return sorted(set(_named(document)))


def _named(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            if _SECRET.search(name) and any(_texts(value)):
                yield name
            else:
                yield from _named(value)
    elif isinstance(document, list):
        for value in document:
            yield from _named(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
