"""A warm-up for people and for programs. Pure."""

from typing import Any

from msgspec import structs

from tuner.compile_cache.size import size_text
from tuner.compile_cache.warm import Warmed
from tuner.launch.startup_budget import PERIOD_S, budget
from tuner.text import line

SCHEMA_VERSION = 1


def warmed_document(warmed: Warmed) -> dict[str, Any]:
    """The JSON document of one warm-up."""
    return {
        "schema_version": SCHEMA_VERSION,
        "cache_root": str(warmed.root),
        **structs.asdict(warmed.record),
        "kept": list(warmed.present),
        "startup_seconds": _startup(warmed),
        "reason": warmed.reason,
        "notes": list(warmed.notes),
    }


def warmed_text(warmed: Warmed) -> str:
    """A few lines: what was made, and what a second start did with it."""
    record = warmed.record
    outcome = {True: "hit", False: "miss", None: "not said"}[record.hit]
    proof = f" ({record.proof})" if record.proof else ""
    rows = [
        ("cache root", str(warmed.root)),
        ("entries", f"{len(record.entries)}, {size_text(record.size)}"),
        *(("", f"{entry}{' (was there before)' if entry in warmed.present else ''}") for entry in record.entries),
        ("cold start", f"{record.cold_seconds:.0f} s"),
        ("second start", f"{record.warm_seconds:.0f} s, {outcome}{proof}"),
        ("startupProbe", f"periodSeconds {PERIOD_S}, failureThreshold {_startup(warmed) // PERIOD_S}"),
    ]
    return "\n".join(line(name, value) for name, value in rows)


def _startup(warmed: Warmed) -> int:
    """How long a startupProbe should wait, in seconds, the cache being empty."""
    return budget(warmed.record.cold_seconds)
