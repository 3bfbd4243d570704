"""KServe's two resources (commit aaac4e294 of 2026-08-21)."""

import shlex
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, manifest
from tuner.exports.pod import (
    USER,
    claim_note,
    container,
    home_note,
    mounts,
    patience,
    pod,
    pod_notes,
    resources,
    variables,
    volumes,
)
from tuner.exports.server import Server, image_of, is_folder, server_of
from tuner.launch.plan import Plan


def as_inference_service(plan: Plan, choices: Choices) -> str:
    """An InferenceService whose predictor brings its container.

    KServe's vLLM runtime hands `predictor.model.args` to `bash -c` as a bare `$@`, which splits every argument at its
    blanks (config/runtimes/kserve-vllmserver.yaml); a predictor's own container gets them as they are.
    """
    server = server_of(plan, choices)
    many = server.devices > 1
    predictor = {
        "minReplicas": 1,
        **pod(server, [container(server, "kserve-container", image_of(plan, choices))], shared_memory=many),
    }
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": server.name, "annotations": annotations(plan)},
        "spec": {"predictor": predictor},
    }
    return manifest(plan, [document], [*server.notes, *pod_notes(server), *claim_note(server)])


def as_llm_inference_service(plan: Plan, choices: Choices) -> str:
    """An LLMInferenceService: model, port and served name are its template's, the other arguments ours.

    Raises:
        TunerError: the model is a folder, and no URI says where KServe finds it.
    """
    server = server_of(plan, choices)
    served_name = server.name if is_folder(plan, choices) else server.model
    spec = {
        "model": {"uri": choices.model_uri or _hub_uri(plan, choices, server), "name": served_name},
        "replicas": 1,
        "template": _template(plan, choices, server),
    }
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": server.name, "annotations": annotations(plan)},
        "spec": spec,
    }
    notes = [
        "KServe's template names model, port and served name",
        *server.notes,
        *home_note(server),
        *claim_note(server),
    ]
    return manifest(plan, [_literal(document)], notes)


def _template(plan: Plan, choices: Choices, server: Server) -> dict[str, Any]:
    """What is merged over KServe's own template.

    Its script ends in `eval "exec vllm serve … ${VLLM_ADDITIONAL_ARGS} $@"`: a shell reads the arguments once more, so
    each is quoted for it. Of the probe only the budget is set: whether it asks by HTTPS is the template's to know.
    """
    # KServe runs its server as no root; vLLM's image has no user for that, and torch asks for one's name.
    default_image = choices.image is None
    user = {"USER": "nonroot"} if default_image else {}
    main = {
        "name": "main",
        "image": image_of(plan, choices),
        **({"securityContext": {"runAsNonRoot": True, "runAsUser": USER}} if default_image else {}),
        **variables(server, **user, VLLM_ADDITIONAL_ARGS=shlex.join(server.without_model)),
        **resources(server, server.devices),
        "startupProbe": patience(server),
        **mounts(server, shared_memory=False),  # the template mounts shared memory
    }
    group = {"securityContext": {"fsGroup": USER}} if default_image and server.cache_root else {}
    return {"containers": [main], **group, **volumes(server, shared_memory=False)}


def _hub_uri(plan: Plan, choices: Choices, server: Server) -> str:
    if is_folder(plan, choices):
        raise TunerError(
            f"KServe cannot fetch the folder {server.model}.",
            hint="Say where it finds the model with --model-uri, such as pvc://CLAIM/FOLDER or hf://ORGANISATION/NAME.",
            kind=ErrorKind.USAGE,
        )
    revision = server.serving.revision
    return f"hf://{server.model}" + (f":{revision}" if revision else "")


def _literal(value: Any) -> Any:
    """The same value, with `{{` written so that KServe's Go template over the whole resource gives it back."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value.replace("{{", "{{`{{`}}") if isinstance(value, str) else value
