"""Whether a config is small enough to be cut in seconds. Pure.

It stands apart from `shrink.py`, which counts in the key of every verdict: a new bound on hostile input must not make
stored verdicts miss.
"""

from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.model.shrink import LIMITS, text_nodes
from tuner.model.shrink_layers import layer_count, numbers

MAX_WORK = 1_000_000
"""Layers times fields, over all parts of a config. Cutting compares each layer by each field, which takes a second or
two at 10^6. Published configs have 10^4 at most."""


def check_config_size(config: dict[str, Any]) -> None:
    """Refuse a config with so many layers, fields or parts that cutting it would take minutes.

    Raises:
        TunerError: it has too many.
    """
    work = sum(len(node) * _layer_count(node) for node in text_nodes(config))
    if work > MAX_WORK:
        raise TunerError(
            f"The config names {work:,} pairs of a layer and a field, and at most {MAX_WORK:,} are looked at.",
            hint="Correct config.json; nothing was probed or stored.",
            kind=ErrorKind.MODEL,
        )


def _layer_count(node: dict[str, Any]) -> int:
    """The number of layers; 0 for one that `shrink` itself refuses with the name of the key."""
    counts = numbers(layer_count(node))
    return max([0, *(count for count in counts if count <= LIMITS["layers"])])
