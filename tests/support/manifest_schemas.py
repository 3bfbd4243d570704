"""Test support: the published schemas, closed so that a misspelt key is found, and what they say against manifests."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from exported import PATCHES
from manifest_argv import patch_in, patched

from tuner.exports.formats import Format

SCHEMAS = Path(__file__).parents[1] / "schemas"
MINORS = ("1.37", "1.36", "1.35", "1.34")
"""The latest minor release of Kubernetes that kubernetes-validate has, and three older ones."""
DEFINITIONS = {
    "InferenceService": ("kserve_inferenceservices", "v1beta1"),
    "LLMInferenceService": ("kserve_llminferenceservices", "v1alpha2"),
    "LeaderWorkerSet": ("lws_leaderworkersets", "v1"),
}
"""Kind -> file of its definition and the version that is exported."""
CORE = {"ConfigMap", "Deployment", "Job", "PersistentVolumeClaim", "Service"}


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


@cache
def definition(file: str, version: str) -> dict[str, Any]:
    """The closed schema of one version of a custom resource."""
    text = gzip.decompress((SCHEMAS / f"{file}.yaml.gz").read_bytes())
    loaded = next(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    one = next(entry for entry in loaded["spec"]["versions"] if entry["name"] == version)
    found: dict[str, Any] = closed(one["schema"]["openAPIV3Schema"])
    return found


@cache
def chart() -> dict[str, Any]:
    """The closed schema of the chart's values."""
    found: dict[str, Any] = closed(json.loads((SCHEMAS / "production-stack_values.schema.json").read_text()))
    return found


def core_complaints(document: dict[str, Any], minor: str) -> list[str]:
    """What Kubernetes' own schema of a minor release says, strictly."""
    try:
        kubernetes_validate.validate(document, minor, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


def manifests(form: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What reaches the cluster: patches applied to a Deployment there is."""
    return [patched(patch_in(documents))] if form in PATCHES else documents


def manifest_complaints(form: str, documents: list[dict[str, Any]]) -> list[str]:
    """What the schemas say against an exported manifest: core kinds in every minor, others by their definition."""
    found = []
    for document in manifests(form, documents):
        if form == Format.HELM_PRODUCTION_STACK:
            found += complaints(document, chart())
        elif document["kind"] in CORE:
            found += [said for minor in MINORS for said in core_complaints(document, minor)]
        else:
            file, version = DEFINITIONS[document["kind"]]
            assert document["apiVersion"].endswith(f"/{version}")
            found += complaints(document, definition(file, version))
    return found
