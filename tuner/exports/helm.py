"""Values for the chart of vLLM's production-stack (helm/, values.schema.json of 2026-08-05)."""

from typing import Any

from tuner.arguments.vllm_options import indexes_of_field
from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, manifest
from tuner.exports.pod import claim_note, escaped, health, home_note, mounts, startup_probe, variables, volumes
from tuner.exports.server import PORT, Server, image_of, server_of
from tuner.launch.plan import Plan

REQUEST = {"requestCPU": 4, "requestMemory": "16Gi"}
"""The chart does not render without them."""


def as_values(plan: Plan, choices: Choices) -> str:
    """The values; each argument is one element of `extraArgs`, which the chart quotes one by one."""
    server = server_of(plan, choices)
    engine = {
        "startupProbe": startup_probe(server),
        **_elsewhere(server),
        "modelSpec": [_model(plan, choices, server)],
    }
    notes = [
        *server.notes,
        *home_note(server),
        *claim_note(server),
        "Helm replaces a list as a whole: put this item of modelSpec into yours, or use it as the only one",
        "the chart always says whether prefixes are cached; here as vLLM does for most models",
        f"the requests for CPU and memory are {REQUEST['requestCPU']} and {REQUEST['requestMemory']}: set the model's",
    ]
    return manifest(plan, [{"servingEngineSpec": engine}], notes)


def _elsewhere(server: Server) -> dict[str, Any]:
    """What the chart must know of a server that does not listen as its defaults say."""
    if (server.port, server.scheme) == (PORT, "HTTP"):
        return {}
    return {"containerPort": server.port, "livenessProbe": health(server), "readinessProbe": health(server)}


def _extra(server: Server) -> list[str]:
    """The arguments that the chart does not write itself: it makes one of `tensorParallelSize`."""
    written = indexes_of_field(server.without_model, "tensor_parallel_size") if server.devices > 1 else set()
    return [argument for index, argument in enumerate(server.without_model) if index not in written]


def _model(plan: Plan, choices: Choices, server: Server) -> dict[str, Any]:
    repository, _, tag = image_of(plan, choices).rpartition(":")
    many = {"tensorParallelSize": server.serving.tensor_parallel_size} if server.devices > 1 else {}
    added_mounts, added_volumes = mounts(server, shared_memory=False), volumes(server, shared_memory=False)
    return {
        "name": server.name,
        "annotations": annotations(plan),
        "repository": repository,
        "tag": tag,
        "modelURL": server.model,
        "replicaCount": 1,
        **REQUEST,
        "requestGPU": server.devices if server.resource else 0,
        **({"requestGPUType": server.resource} if server.resource else {}),
        "vllmConfig": {
            # The chart writes --no-enable-prefix-caching where this is missing; a user's own comes behind it and wins.
            "enablePrefixCaching": True,
            **many,  # mounts shared memory
            "extraArgs": [escaped(argument) for argument in _extra(server)],
        },
        **variables(server),
        **({"extraVolumes": added_volumes["volumes"]} if added_volumes else {}),
        **({"extraVolumeMounts": added_mounts["volumeMounts"]} if added_mounts else {}),
    }
