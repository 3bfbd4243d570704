"""JSON documents of a sweep."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.launch.document import SCHEMA_VERSION

if TYPE_CHECKING:
    from tuner.probe.candidates import Candidate


def registry_document(
    results: Sequence[tuple["Candidate", Mapping[str, Any]]],
    needing: Sequence["Candidate"],
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    """The document of a whole registry: each result with its architecture, and the counts."""
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [{**document, "candidate": candidate_part(candidate)} for candidate, document in results],
        "needs_config": [candidate_part(candidate) | {"reason": candidate.reason} for candidate in needing],
        "summary": dict(summary),
    }


def candidate_part(candidate: "Candidate") -> dict[str, Any]:
    """An architecture that vLLM registers, and the source of its configuration."""
    return {name: getattr(candidate, name) for name in ("architecture", "category", "moe", "source")}
