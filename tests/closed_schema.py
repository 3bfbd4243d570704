"""Test support: JSON Schemas that take no key they do not list, so that a check against them finds a misspelt one."""

from typing import Any

import jsonschema


def closed(schema: Any) -> Any:
    """The same schema, in which an object has the properties that are listed and no others.

    Kubernetes' extensions say where that does not hold, and where a number or a text may stand.
    """
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    kept = {key: closed(value) for key, value in schema.items() if not str(key).startswith("x-kubernetes-")}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        opened = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
        return kept if opened else {**kept, "additionalProperties": False}
    return kept


def complaints(document: Any, schema: dict[str, Any]) -> list[str]:
    """What a schema says against a document."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]
