"""How long a server may take to start before it is given up. Pure."""

import math

PERIOD_S = 10
"""Between two questions of a startupProbe."""
UNMEASURED_S = 3600
"""Large MoE models have taken 2219 s to compile (vLLM issue 34399), and llm-d's guides allow an hour."""
LEAST_S = 600
TIMES = 3
"""A start is slower while a node pulls images, reads weights from afar, or starts several pods at once."""


def budget(cold: float | None) -> int:
    """Seconds that a startupProbe should wait, a multiple of `PERIOD_S`.

    A shorter one kills a cold start and throws its compile cache away. It is made from the cold start alone: whatever
    empties a cache makes the next start cold.

    Args:
        cold: seconds that a cold start of this launch was measured to take; None: it was not measured.
    """
    if cold is None:
        return UNMEASURED_S
    return max(LEAST_S, math.ceil(TIMES * cold / PERIOD_S) * PERIOD_S)


def budget_sentence(cold: float) -> str:
    """Why it is as long."""
    return f"a start may take {budget(cold)} s: {TIMES} times the {cold:.0f} s of a cold one, {LEAST_S} s at least"
