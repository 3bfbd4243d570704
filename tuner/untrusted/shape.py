"""Whether a stored report and verdict are of the shape that readers rely on, without judging again.

The checksum of a record finds damage; this finds what somebody put there under a checksum that is right. Whoever judges
reads a report with `rules.report`, which needs pydantic and 300 ms: a look-up of what was judged before has no such
time. Pure.
"""

from collections.abc import Mapping
from typing import Any

NAMED = {"name": str, "status": str, "detail": (str, None)}
ENGINE = {**NAMED, "made_at": str, "engine": dict, "changed": [str]}
REPLAY = {**ENGINE, "passes": [{"count": int, "replayed": bool}]}
OUTPUT = {**ENGINE, "prompts": [dict]}
TEXTS = {str: str}
"""A text by each name, whatever the names are."""
RANK = {"name": str, "status": str, "registered": [str], "calls": [str]}
PROOF = {
    "key": str,
    "arguments": [str],
    "platform": str,
    "made_at": str,
    "worker": str,
    "ranks": [RANK],
    "variables": TEXTS,
    "fields": [str],
    "sources": TEXTS,
}
REPORT = {
    "flag": dict,
    "registered": [str],
    "observation_method": str,
    "planned": [str],
    "scenarios": [NAMED],
    "assumptions": [{"kind": str, "detail": str}],
    "seconds": dict,
    "whole": ({"status": str, "detail": (str, None), "registered": [str]}, None),
    "replays": ([REPLAY], None),
    "outputs": ([OUTPUT], None),
    "proofs": ([PROOF], None),
}
"""What is shown of a report or decides a launch. A type, a list or tuple of such values, an object, `TEXTS`, or one of
several."""
WITNESS = {
    "scenario": str,
    "registered": [str],
    "executed": [str],
    "other_scenario": str,
    "other_executed": [str],
}
CODE = {"code": str, "condition": int, "fields": dict}
VERDICT = {
    "word": str,
    "reasons": [str],
    "witness": (WITNESS, None),
    "codes": ([CODE], None),
    "proofs": (dict, None),
    "compile": (str, None),
    "compile_reasons": ([str], None),
    "replays": (TEXTS, None),
    "replay_reasons": (TEXTS, None),
    "outputs": (TEXTS, None),
    "output_reasons": (TEXTS, None),
}
"""What `rules.verdict.Verdict.from_dict` reads; what an older release did not write is left out."""


def readable(report: Mapping[str, Any], verdict: Mapping[str, Any]) -> bool:
    """Whether all that is shown of a report and its verdict is there, and of its type."""
    return fits(report, REPORT) and fits(verdict, VERDICT)


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value is of a shape; see `REPORT`."""
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if shape == TEXTS:
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if isinstance(shape, Mapping):
        return isinstance(value, dict) and all(fits(value.get(name), inner) for name, inner in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list | tuple) and all(fits(item, shape[0]) for item in value)
    return value is None if shape is None else isinstance(value, shape)
