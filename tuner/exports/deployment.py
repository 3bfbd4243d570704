"""A Deployment: whole, as a patch of one there is, as a kustomize component, for llm-d; and the ConfigMap."""

from typing import Any

from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, manifest
from tuner.exports.file import vllm_config
from tuner.exports.pod import (
    claim,
    claim_note,
    container,
    launch,
    mounts,
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
    pod = {
        # A Service named vllm-… would put VLLM_… variables into the server, which reads VLLM_PORT as a number.
        "enableServiceLinks": False,
        "containers": [container(server, CONTAINER, image_of(plan, choices))],
        **volumes(server, shared_memory=many),
    }
    spec = {
        "replicas": 1,
        "progressDeadlineSeconds": server.startup_seconds + 600,
        # A claim on one node cannot follow a second pod to another.
        **({"strategy": {"type": "Recreate"}} if server.cache_root else {}),
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    deployment = {**_deployment(server.name, plan), "spec": spec}
    return manifest(plan, [*claim(server, "ReadWriteOnce"), deployment, service(server, labels)], server.notes)


def as_patch(plan: Plan, choices: Choices) -> str:
    """A strategic merge patch."""
    server = server_of(plan, choices)
    patch = _patch(plan, server, choices.container or CONTAINER)
    return manifest(plan, [patch], [*server.notes, *claim_note(server)])


def as_llm_d(plan: Plan, choices: Choices) -> str:
    """The same patch for the names of llm-d's guides."""
    server = server_of(plan, choices, LLM_D["name"])
    patch = _patch(plan, server, choices.container or LLM_D["container"])
    return manifest(plan, [patch], [*server.notes, *claim_note(server)])


def as_kustomize(plan: Plan, choices: Choices) -> str:
    """A component with the patch in it: one file, `kustomization.yaml`."""
    from tuner.yaml_text import Block, dump_documents  # noqa: PLC0415  PyYAML is slow to import

    server = server_of(plan, choices)
    patch = _patch(plan, server, choices.container or CONTAINER)
    target = {"group": "apps", "version": "v1", "kind": "Deployment", "name": server.name}
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"target": target, "patch": Block(dump_documents([patch]))}],
    }
    return manifest(plan, [component], [*server.notes, *claim_note(server)])


def _patch(plan: Plan, server: Server, container_name: str) -> dict[str, Any]:
    """Only what the launch decides: image, devices and shared memory stay as they are."""
    changed = {
        "name": container_name,
        **launch(server),
        # Merged key by key, another kind of probe there would be joined by ours, which Kubernetes refuses.
        "startupProbe": {"$patch": "replace", **startup_probe(server)},
        **mounts(server, shared_memory=False),
    }
    pod = {"containers": [changed], **volumes(server, shared_memory=False)}
    return {**_deployment(server.name, plan), "spec": {"template": {"spec": pod}}}


def _deployment(name: str, plan: Plan) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(name, plan)}


def _metadata(name: str, plan: Plan) -> dict[str, Any]:
    return {"name": name, "annotations": annotations(plan)}
