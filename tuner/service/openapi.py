"""The description of the service in the form of OpenAPI 3.1, made from its endpoints and the shapes that it reads."""

import re
from collections.abc import Sequence
from typing import Any

from msgspec.json import schema_components

from tuner import __version__
from tuner.service.endpoint import Access, Endpoint
from tuner.service.probes import Beat, Claim, NewLaunches
from tuner.service.request import DecisionRequest
from tuner.service.review import Review

_BODIES: dict[str, type] = {
    "/v1/decisions": DecisionRequest,
    "/v1/admission": Review,
    "/v1/probes": NewLaunches,
    "/v1/probes/claim": Claim,
    "/v1/probes/{id}/heartbeat": Beat,
}
"""Path -> the shape of what is sent there; other paths take bundles."""
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}
_ANSWERS = {
    "/v1/decisions": "The document of `tuner plan --json`. Without a proof of this launch `proof` is `missing`, and "
    "`differs` says what keeps the nearest one from counting.",
    "/v1/changes": "Lines of JSON: `sequence`, and `line`, which is the line of a bundle.",
    "/v1/admission": "An AdmissionReview of admission.k8s.io/v1 with a response.",
    "/": "A page of HTML.",
    "/v1/verdicts/{key}.html": "A page of HTML.",
    "/metrics": "Text.",
}


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    references, components = schema_components(list(_BODIES.values()), ref_template="#/components/schemas/{name}")
    bodies = dict(zip(_BODIES, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint)
        if endpoint.limit:
            shape = bodies.get(endpoint.path)
            taken = {"application/json": {"schema": shape}} if shape else _LINES
            operation["requestBody"] = {"required": True, "content": taken}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    security = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "tuner service", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": security},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    in_path = re.findall(r"{(\w+)}", endpoint.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path]
    for name, text in endpoint.query.items():
        parameters.append({"name": name, "in": "query", "description": text, "schema": {"type": "string"}})
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": _ANSWERS.get(endpoint.path, "A JSON document.")},
            "default": {"description": "A JSON document with `error`: its `kind`, `message` and `hint`."},
        },
    }
    if endpoint.access is not Access.OPEN:
        operation["security"] = [{"token": []}]
    return operation
