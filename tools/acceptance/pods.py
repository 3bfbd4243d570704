"""Pods of the run, and how two stored pods are compared. Pure."""

import copy
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from tools.acceptance.service import IMAGE
from tuner.manifests.managed import ANNOTATIONS, LABEL, MANAGED

UNSAFE, SAFE = "baidu/ERNIE-4.5-VL-28B-A3B-PT", "mistralai/Mixtral-8x7B-v0.1"
"""Models of the examples. The shipped catalogue has the verdict `conditional` on the first, `uniform` on the second."""
SERVE = ["vllm", "serve"]
MODULE = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
_NOTHING = object()
"""Fills the shorter of two lists; no value in a document is equal to it."""
OFF, ON = '{"fast_moe_cold_start": false}', '{"fast_moe_cold_start": true}'
ROOT = "VLLM_CACHE_ROOT"
VARIABLES = [
    {"name": "A", "value": "ü & <b>"},
    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
]
UNSAFE_BY_HAND = "an unsafe `true` of the user's own"


def container(*args: str, **fields: Any) -> dict[str, Any]:
    """A container that serves."""
    return {"name": "vllm", "image": IMAGE, "command": SERVE, "args": list(args), **fields}


def pod_of(*containers: dict[str, Any], **labels: str) -> dict[str, Any]:
    """A pod with these labels, and without the label of admission."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "llm-", "labels": {"app": "llm", **labels}},
        "spec": {"containers": list(containers)},
    }


PODS: dict[str, dict[str, Any]] = {
    "an unsafe model": pod_of(container(UNSAFE)),
    "with a compilation config": pod_of(container(UNSAFE, "--compilation-config", '{"mode": 3, "note": "ü"}')),
    "with a dotted option": pod_of(container(UNSAFE, "-cc.cudagraph_mode=PIECEWISE", "--max-model-len", "8")),
    "with `<`, `&` and `ü` in its arguments": pod_of(container(UNSAFE, "--served-model-name", "a & b", "<ü>")),
    "as a module": pod_of(container("--model", UNSAFE, command=MODULE)),
    "in `command` alone": pod_of({"name": "vllm", "image": IMAGE, "command": [*SERVE, UNSAFE]}),
    "beside another container": pod_of({"name": "proxy", "image": "proxy:1"}, container(UNSAFE)),
    "right already": pod_of(container(UNSAFE, "--compilation-config", OFF)),
    UNSAFE_BY_HAND: pod_of(container(UNSAFE, "--compilation-config", ON)),
    "a safe model": pod_of(container(SAFE)),
    "a safe model, with other variables": pod_of(container(SAFE, env=VARIABLES)),
    "a safe model, with a cache root of the user's": pod_of(container(SAFE, env=[{"name": ROOT, "value": "/cache"}])),
    "a safe model, with `envFrom`": pod_of(container(SAFE, envFrom=[{"secretRef": {"name": "s", "optional": True}}])),
    "a safe model, read-only": pod_of(container(SAFE, securityContext={"readOnlyRootFilesystem": True})),
    "an unknown model": pod_of(container("somebody/unknown")),
    "in a script": pod_of(container(f"exec vllm serve {UNSAFE}", command=["sh", "-c"])),
    "without vLLM": pod_of({"name": "web", "image": "web:1", "args": ["--port", "80"]}),
}
"""Kind -> a pod without the label of admission; it is created as it is, and with the label."""


def labelled(pod: Mapping[str, Any], value: str = MANAGED, **others: str) -> dict[str, Any]:
    """The same pod with the label of admission."""
    asking: dict[str, Any] = copy.deepcopy(dict(pod))
    asking["metadata"]["labels"] |= {LABEL: value, **others}
    return asking


def another_launch(number: int) -> dict[str, Any]:
    """A labelled pod with a launch that pods of other numbers do not have; no number is below -1000."""
    return labelled(pod_of(container(UNSAFE, "--max-model-len", str(1001 + number))))


def copy_to_create(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A stored pod as a user would create it anew: without the fields that the API server filled in."""
    metadata = {name: pod["metadata"][name] for name in ("labels", "annotations") if name in pod["metadata"]}
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "llm-", **metadata}}
    return copy.deepcopy({**head, "spec": pod["spec"]})


def annotations_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """The annotations of admission that a pod has."""
    annotations = pod["metadata"].get("annotations") or {}
    return {name: annotations[name] for name in ANNOTATIONS if name in annotations}


def without_admission(stored_pod: Mapping[str, Any]) -> dict[str, Any]:
    """A stored pod without what admission labels and writes, and without the fields that differ from pod to pod."""
    pod = copy_to_create(stored_pod)
    pod["metadata"]["labels"].pop(LABEL, None)
    others = {name: text for name, text in pod["metadata"].pop("annotations", {}).items() if name not in ANNOTATIONS}
    if others:
        pod["metadata"]["annotations"] = others
    return pod


def differences(left: object, right: object, path: str = "") -> Iterator[str]:
    """The places, such as `/spec/containers/0/args/1`, in which two documents differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted({*left, *right}):
            if name not in left or name not in right:
                yield f"{path}/{name}"
            else:
                yield from differences(left[name], right[name], f"{path}/{name}")
    elif isinstance(left, list) and isinstance(right, list):
        for index, (before, after) in enumerate(zip_longest(left, right, fillvalue=_NOTHING)):
            yield from differences(before, after, f"{path}/{index}")
    elif left != right:
        yield path
