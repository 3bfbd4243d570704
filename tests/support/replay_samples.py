"""Test support: what the replay probe finds in engines, as a report keeps it."""

from collections.abc import Sequence
from typing import Any

from reports import layers

THREE = tuple(layers(3))


def ran_as_meant(order: Sequence[str] = THREE, **changes: Any) -> dict[str, Any]:
    """Forty equal passes, replayed from CUDA graphs, in which each call ran the layer that was meant."""
    return {
        "request": "one",
        "called": list(order),
        "ran": list(order),
        "tokens": 8,
        "count": 40,
        "replayed": True,
        "ambiguous": False,
        **changes,
    }


def replay(*passes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An engine that captures CUDA graphs, with these passes; without any, those of `ran_as_meant`."""
    return {
        "name": "flag_on",
        "status": "ran",
        "detail": "",
        "made_at": "2026-11-26T12:00:00+00:00",
        "engine": {"mode": "VLLM_COMPILE", "backend": "inductor", "cudagraph_mode": "FULL_AND_PIECEWISE", "flag": True},
        "changed": ["prompts are token ids: no tokenizer is loaded"],
        "registered": list(THREE),
        "lost": 0,
        "passes": list(passes) or [ran_as_meant()],
        **changes,
    }


WRONG_LAYER = ran_as_meant(ran=[THREE[0], THREE[2], THREE[1]])
"""A pass whose second and third calls ran one another's layer."""
