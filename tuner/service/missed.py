"""What the service would do with a pod, asked as an API server asks it."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.manifests.managed import SKIP_REASON
from tuner.service.client import Client
from tuner.service.review import API
from tuner.text import brief
from tuner.untrusted.json_text import UnusableError, parse_object

MAX_SHOWN = 300
"""Characters of what the service says."""


def asking(client: Client) -> Callable[[Mapping[str, Any]], str]:
    """A function that asks about a pod, about containers that are the same once."""
    answers: dict[str, str] = {}

    def ask(pod: Mapping[str, Any]) -> str:
        spec = pod.get("spec")
        question = json.dumps({"metadata": {"labels": pod["metadata"]["labels"]}, "spec": _deciding(spec)})
        if question not in answers:
            answers[question] = _answer(client, json.loads(question))
        return answers[question]

    return ask


def _deciding(spec: object) -> dict[str, Any]:
    """The containers, without what differs from pod to pod."""
    lists = spec if isinstance(spec, dict) else {}
    return {name: lists[name] for name in ("containers", "initContainers") if name in lists}


def _answer(client: Client, pod: Mapping[str, Any]) -> str:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "check", "kind": kind, "operation": "CREATE", "object": pod}
    body = json.dumps({"apiVersion": API, "kind": "AdmissionReview", "request": request}).encode()
    answer = client.ask("POST", "/v1/admission", body)
    try:
        response = parse_object(answer.body)["response"]
        patch = json.loads(base64.b64decode(response.get("patch", ""), validate=True) or b"[]")
        return _sentence(patch, pod)
    except (UnusableError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        problem = f"The service {client.name} does not answer a review of admission."
        hint = "Name one of `tuner service run` of this release."
        raise TunerError(problem, hint=hint, kind=ErrorKind.SERVICE) from None


def _sentence(patch: list[dict[str, Any]], pod: Mapping[str, Any]) -> str:
    """What a patch would do, as a sentence."""
    added: list[str] = []
    for operation in patch:
        if operation["op"] == "replace":
            _, _, group, index, vector = operation["path"].split("/")
            before = pod["spec"][group][int(index)][vector]
            added += [word for word in operation["value"] if word not in before]
    if added:
        return f"It would now get {brief(' '.join(added), MAX_SHOWN)}."
    reason = next((_reason(operation) for operation in patch if _reason(operation)), "")
    if reason:
        return f"It would now be left alone: {brief(reason, MAX_SHOWN)}."
    return "Its arguments are right as they are."


def _reason(operation: Mapping[str, Any]) -> str:
    """The skip reason that an operation writes; empty if it writes none."""
    value = operation.get("value")
    if isinstance(value, dict):
        return str(value.get(SKIP_REASON, ""))
    name = SKIP_REASON.replace("/", "~1")
    return str(value) if operation["path"].endswith(f"/{name}") and operation["op"] == "add" else ""
