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
    """The document of a whole registry: each result with the architecture it is about, and the counts."""
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [{**document, "candidate": candidate_part(one)} for one, document in results],
        "needs_config": [candidate_part(one) | {"reason": one.reason} for one in needing],
        "summary": dict(summary),
    }


def candidate_part(candidate: "Candidate") -> dict[str, Any]:
    """An architecture that vLLM registers, and where its configuration comes from."""
    return {name: getattr(candidate, name) for name in ("architecture", "category", "moe", "source")}
