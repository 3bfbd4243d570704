"""Secrets that stand in clear in the text files of a cache, told by their variables' names alone. Pure.

vLLM writes the values of its own variables into `cache_key_factors.json`; VLLM_API_KEY is among them up to 0.28
(vllm/envs.py, `compile_factors`: 0.29.0 is the first to leave it out).

`tuner/secrets.py` has another rule, on purpose. What is found here is an error and stops an archive, and it is looked
for among all names and paths of vLLM's factors: only a name that says it outright counts, and none that says where a
secret lies. There a wrong guess costs a worker one variable.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = re.compile(r"_API_KEY$|TOKEN(?!IZ)|SECRET|PASSWORD", re.IGNORECASE)
"""A tokenizer is none."""
_PLACE = re.compile(r"_(FILE|PATH|DIR)$|/")
"""Such a variable says where a secret lies; with a slash it is a place itself, such as a source file of vLLM's."""
_PAIR = re.compile(rb'"([A-Z][A-Z0-9_]*)"\s*:\s*"[^"]')
"""A variable with a text that is not empty, in JSON, cut or whole. Numbers are settings: VLLM_MAX_TOKENS_..."""
_SHORTEST = 8
"""Characters of a value that is looked for; shorter ones (`true`, a port) stand everywhere."""


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: *_API_KEY, *TOKEN*, *SECRET*, *PASSWORD*."""
    return bool(_NAME.search(name)) and not _PLACE.search(name)


def secret_values(environ: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """The values to look for, by variable: as they are, and as JSON writes them."""
    named = {name: value for name, value in environ.items() if is_secret(name) and len(value) >= _SHORTEST}
    return {
        name: (value.encode(errors="surrogateescape"), json.dumps(value)[1:-1].encode())
        for name, value in named.items()
    }


def secrets_in(text: bytes, values: Mapping[str, tuple[bytes, ...]]) -> list[str]:
    """Names of the variables whose values stand in a text, sorted: those it names itself, and those of `values`."""
    named = {name for name in (match.decode() for match in _PAIR.findall(text)) if is_secret(name)}
    return sorted(named | {name for name, forms in values.items() if any(form in text for form in forms)})


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
            if is_secret(name) and any(_texts(value)):
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
