"""Test support: what the output probe finds in engines, as a report keeps it."""

from typing import Any

TOKENS = (5, 9, 2, 7, 1, 8, 3, 6, 4, 0, 11, 15, 13, 12, 19, 10)
"""What an engine adds: no cycle."""


def prompt(name: str = "tokens_7", by: float = 0.0, **changes: Any) -> dict[str, Any]:
    """An answer whose log-probabilities lie `by` nats below those of `prompt()`."""
    return {
        "name": name,
        "repeats": "",
        "alone": False,
        "given": [-1.0 - by, -2.5 - by, -0.25 - by],
        "tokens": list(TOKENS),
        "made": [-0.5 - by] * len(TOKENS),
        **changes,
    }


def output(name: str, by: float = 0.0, noise: float = 0.0, **changes: Any) -> dict[str, Any]:
    """An engine whose answers lie `by` nats below another's; one prompt sent twice is `noise` nats apart."""
    twin = prompt("tokens_7_again", by + noise, repeats="tokens_7")
    return {
        "name": name,
        "status": "ran",
        "detail": "",
        "made_at": "2026-11-26T12:00:00+00:00",
        "engine": {"mode": "VLLM_COMPILE", "backend": "inductor", "cudagraph_mode": "NONE", "flag": name == "flag_on"},
        "changed": ["prompts are token ids: no tokenizer is loaded"],
        "prompts": [prompt(by=by), prompt("tokens_3", by), twin],
        **changes,
    }


def outputs(on: float = 0.0, off: float = 0.0, again: float = 0.0, noise: float = 0.0) -> list[dict[str, Any]]:
    """Four engines, each so many nats from the eager one, whose prompt sent twice is `noise` nats apart."""
    named = {"eager": 0.0, "eager_again": again, "flag_on": on, "flag_off": off}
    return [output(name, by, noise if name == "eager" else 0.0) for name, by in named.items()]
