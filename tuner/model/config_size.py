"""Whether a config is one that cutting ends with. Pure.

Apart from `shrink.py`, which is a part of every verdict's key: a bound on hostile input must not make verdicts miss.
"""

from typing import Any

from tuner.errors import TunerError
from tuner.model.shrink import LIMITS, text_nodes
from tuner.model.shrink_layers import layer_key, numbers

MAX_WORK = 1_000_000
"""Layers times fields, over all parts of a config: cutting compares each layer by each field, at 10^6 for a second or
two. Published configs have 10^4 at most."""


def check_config_size(config: dict[str, Any]) -> None:
    """Refuse a config that names so many layers, in so many fields or parts, that cutting it would take minutes.

    Raises:
        TunerError: it does.
    """
    counts = [(len(node), numbers(node.get(layer_key(node)))) for node in text_nodes(config)]
    # Cutting itself refuses more layers, and names the key.
    work = sum(fields * max([0, *(one for one in layers if one <= LIMITS["layers"])]) for fields, layers in counts)
    if work > MAX_WORK:
        raise TunerError(
            f"The config names {work:,} pairs of a layer and a field, and at most {MAX_WORK:,} are looked at.",
            hint="Correct config.json; nothing was probed or stored.",
            kind="model",
        )
