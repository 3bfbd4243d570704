"""A Job that fills the compile cache of a server before its first pod starts. Pure."""

from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, manifest
from tuner.exports.pod import (
    CONTAINER_SECURITY,
    REQUESTS,
    claim_note,
    escaped,
    mounts,
    own_variables,
    pod,
    pod_notes,
    resources,
)
from tuner.exports.server import Server, image_of, server_of
from tuner.launch.cache_root import CACHE_ROOT, require_no_tls
from tuner.launch.plan import Plan

PRODUCT = "nvidia.com/gpu.product"
"""Label of a node, set by NVIDIA's GPU feature discovery: the GPU's name with dashes for spaces."""


def as_warm_job(plan: Plan, choices: Choices) -> str:
    """A Job that runs `tuner cache warm` with the server's arguments, claim and kind of GPU.

    It succeeds only if a second start loaded all that the first one compiled.

    Raises:
        TunerError: no cache root is named, or no image that holds the tuner; or the launch has certificates.
    """
    server = server_of(plan, choices)
    if server.cache_root is None:
        raise TunerError(
            "No cache root is named, so there is no cache to fill.",
            hint="Name where it is mounted: --cache-root.",
            kind=ErrorKind.USAGE,
        )
    if choices.image is None:
        raise TunerError(
            "vLLM's own images hold no tuner.",
            hint="Name one that holds both with --image IMAGE:TAG.",
            kind=ErrorKind.USAGE,
        )
    require_no_tls(server.without_model)
    containers = [_container(server, image_of(plan, choices))]
    warming = {
        "restartPolicy": "Never",
        **_selector(plan),
        **pod(server, containers, shared_memory=server.devices > 1),
    }
    spec = {
        "backoffLimit": 1,
        "activeDeadlineSeconds": 2 * server.startup_seconds + 600,  # two starts, and what is computed before them
        "template": {"metadata": {"annotations": annotations(plan)}, "spec": warming},
    }
    metadata = {"name": f"{server.name}-warm", "annotations": annotations(plan)}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    once = "run it before the server starts: a ReadWriteOnce claim is held by one node"
    return manifest(plan, [job], [*server.notes, *pod_notes(server), *claim_note(server), once])


def _container(server: Server, image: str) -> dict[str, Any]:
    args = [server.model, "--cache-root", str(server.cache_root), "--", *server.without_model]
    return {
        "name": "warm",
        "image": image,
        "command": ["tuner", "cache", "warm"],
        "args": [escaped(argument) for argument in args],
        **_variables(server),
        **resources(server, server.devices, REQUESTS),
        "securityContext": CONTAINER_SECURITY,
        **mounts(server, shared_memory=server.devices > 1, home=True),
    }


def _variables(server: Server) -> dict[str, Any]:
    """Those of the server, of which vLLM counts HOME in its keys through 0.26; the tool sets the cache root itself."""
    return {"env": [variable for variable in own_variables(server)["env"] if variable["name"] != CACHE_ROOT]}


def _selector(plan: Plan) -> dict[str, Any]:
    """Another kind of GPU would fill the cache with code that the server cannot load."""
    environment = plan.subject.environment
    if environment.platform != "cuda" or not environment.gpu:
        return {}
    return {"nodeSelector": {PRODUCT: environment.gpu.replace(" ", "-")}}
