"""An explanation as text."""

import json
from collections.abc import Sequence
from typing import Any

from tuner.explain import Explanation
from tuner.factors_difference import Difference, Effect

SAID = {
    Effect.KEY: "moves the key",
    Effect.LOAD: "compiles again",
    Effect.MAYBE: "may compile again",
    Effect.NONE: "does not count",
}
MOST = 12
"""Differences that are shown; the JSON document holds all."""
WIDTH = 60


def explanation_text(explanation: Explanation) -> str:
    """The answer, why, the folders, and what differs with its fix."""
    prediction, record = explanation.prediction, explanation.record
    lines = [f"cache: {prediction.answer}", *(f"  {reason}" for reason in prediction.reasons)]
    lines += [f"key: {key.key} {key.module} ({key.function})" for key in prediction.keys]
    lines.append(f"root: {explanation.root}")
    if record is None:
        return "\n".join([*lines, "compared with: nothing, no warm-up of this model is on record here"])
    lines.append(f"compared with: {record.digest[:12]} of {record.made_at}, {record.model}")
    return "\n".join([*lines, *_differences(explanation.differences)])


def _differences(found: Sequence[Difference]) -> list[str]:
    if not found:
        return ["differences: none"]
    lines = ["differences:"]
    for one in found[:MOST]:
        lines.append(f"  {SAID[one.effect]}: {one.kind} {one.name}: {_short(one.before)} -> {_short(one.after)}")
        lines += [f"    {one.fix}"] if one.fix else []
    rest = len(found) - MOST
    return [*lines, f"  and {rest} more; --json shows all"] if rest > 0 else lines


def _short(value: Any) -> str:
    text = "(none)" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
