"""A Deployment, a patch of an existing Deployment, and the ConfigMap."""

from typing import Any

from tuner.exports.choices import Choices, Wrap
from tuner.exports.evidence import annotations, manifest
from tuner.exports.file import vllm_config
from tuner.exports.pod import (
    claim,
    claim_note,
    container,
    home_note,
    launch,
    mounts,
    pod,
    pod_notes,
    service,
    startup_probe,
    volumes,
)
from tuner.exports.server import Server, image_of, server_of
from tuner.launch.plan import Plan

CONTAINER = "vllm"
LLM_D = {"name": "decode", "container": "modelserver"}
"""Names in llm-d's guides (guides/optimized-baseline/modelserver/gpu/vllm/base/patch-vllm.yaml, 2026)."""


def as_configmap(plan: Plan, choices: Choices) -> str:
    """A ConfigMap with the `--config` file under the key `serve.yaml`."""
    from tuner.yaml_text import Block  # noqa: PLC0415  PyYAML is slow to import

    text, notes = vllm_config(plan)
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(server_of(plan, choices).name, plan),
        "data": {"serve.yaml": Block(text)},
    }
    return manifest(plan, [document], notes)


def as_deployment(plan: Plan, choices: Choices) -> str:
    """All that serves the model in an empty namespace."""
    server = server_of(plan, choices)
    labels = {"app.kubernetes.io/name": server.name}
    many = server.devices > 1
    serving = pod(server, [container(server, CONTAINER, image_of(plan, choices))], shared_memory=many)
    spec = {
        "replicas": 1,
        "progressDeadlineSeconds": server.startup_seconds + 600,
        # A claim on one node cannot follow a second pod to another.
        **({"strategy": {"type": "Recreate"}} if server.cache_root else {}),
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels, "annotations": annotations(plan)}, "spec": serving},
    }
    deployment = {**_deployment(server.name, plan), "spec": spec}
    notes = [*server.notes, *pod_notes(server)]
    return manifest(plan, [*claim(server, "ReadWriteOnce"), deployment, service(server, labels)], notes)


def as_patch(plan: Plan, choices: Choices) -> str:
    """A strategic merge patch: as it is, in a kustomize component, or for the names of llm-d's guides."""
    from tuner.yaml_text import Block, dump_documents  # noqa: PLC0415  PyYAML is slow to import

    names = LLM_D if choices.wrap is Wrap.LLM_D else {}
    server = server_of(plan, choices, names.get("name"))
    document = _patch(plan, server, choices.container or names.get("container", CONTAINER))
    if choices.wrap is Wrap.KUSTOMIZE:
        target = {"group": "apps", "version": "v1", "kind": "Deployment", "name": server.name}
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "patches": [{"target": target, "patch": Block(dump_documents([document]))}],
        }
    return manifest(plan, [document], [*server.notes, *home_note(server), *claim_note(server)])


def _patch(plan: Plan, server: Server, container_name: str) -> dict[str, Any]:
    """Only what the launch decides: image, devices and shared memory stay as they are."""
    changed = {
        "name": container_name,
        **launch(server),
        # Merged key by key, another kind of probe there would be joined by ours, which Kubernetes refuses.
        "startupProbe": {"$patch": "replace", **startup_probe(server)},
        **mounts(server, shared_memory=False),
    }
    template = {
        "metadata": {"annotations": annotations(plan)},
        "spec": {"containers": [changed], **volumes(server, shared_memory=False)},
    }
    return {**_deployment(server.name, plan), "spec": {"template": template}}


def _deployment(name: str, plan: Plan) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(name, plan)}


def _metadata(name: str, plan: Plan) -> dict[str, Any]:
    return {"name": name, "annotations": annotations(plan)}
