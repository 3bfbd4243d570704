"""A LeaderWorkerSet: one server over several nodes (commit 060ab4d of 2026-08-21)."""

from dataclasses import replace
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, manifest
from tuner.exports.pod import REQUESTS, claim, container, escaped, pod, pod_notes, resources, service
from tuner.exports.server import Server, image_of, server_of
from tuner.launch.plan import Plan

LABEL = "leaderworkerset.sigs.k8s.io/name"


def as_leader_worker_set(plan: Plan, choices: Choices) -> str:
    """The set, the leader's Service, and a claim that all nodes share where a cache root is set.

    Every rank gets the same arguments, so the same decision, and its rank in front of them, so that the user's own
    come last and win.

    Raises:
        TunerError: the devices cannot be divided over the nodes.
    """
    server = server_of(plan, choices)
    nodes = choices.nodes or server.serving.pipeline_parallel_size
    if server.devices % nodes:
        message = f"{server.devices} devices cannot be divided over {nodes} nodes."
        raise TunerError(message, hint="Choose --nodes to fit the parallel sizes.", kind=ErrorKind.USAGE)
    image = image_of(plan, choices)
    group = {
        "size": nodes,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {
            "metadata": {"labels": {"role": "leader"}, "annotations": annotations(plan)},
            "spec": _leader(server, image, nodes),
        },
        "workerTemplate": {"metadata": {"annotations": annotations(plan)}, "spec": _worker(server, image, nodes)},
    }
    document = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": server.name, "annotations": annotations(plan)},
        "spec": {"replicas": 1, "leaderWorkerTemplate": group},
    }
    front = service(server, {LABEL: server.name, "role": "leader"})
    # LeaderWorkerSet makes a headless Service of the set's own name for its pods.
    front["metadata"]["name"] = f"{server.name}-leader"
    return manifest(plan, [*claim(server, "ReadWriteMany"), document, front], [*server.notes, *pod_notes(server)])


def _leader(server: Server, image: str, nodes: int) -> dict[str, Any]:
    whole = container(_ranked(server), "vllm", image)
    return _pod(
        server, {**whole, "args": _args(server, "0", nodes), **resources(server, server.devices // nodes, REQUESTS)}
    )


def _worker(server: Server, image: str, nodes: int) -> dict[str, Any]:
    """Without ports and probes: a worker answers no requests."""
    whole = container(_ranked(server), "vllm", image)
    for name in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
        del whole[name]
    args = _args(server, "$(LWS_WORKER_INDEX)", nodes, "--headless")
    return _pod(server, {**whole, "args": args, **resources(server, server.devices // nodes, REQUESTS)})


def _pod(server: Server, whole: dict[str, Any]) -> dict[str, Any]:
    return pod(server, [whole], shared_memory=True)


def _ranked(server: Server) -> Server:
    """The server with more than one device, so that its container mounts shared memory."""
    return replace(server, devices=max(server.devices, 2))


def _args(server: Server, rank: str, nodes: int, *more: str) -> list[str]:
    """The arguments of one rank; LeaderWorkerSet sets the variables, Kubernetes expands them."""
    place = ["--nnodes", str(nodes), "--node-rank", rank, "--master-addr", "$(LWS_LEADER_ADDRESS)"]
    ranks = [*place, "--distributed-executor-backend", "mp", *more] if nodes > 1 else []
    model, *others = [escaped(argument) for argument in server.args]
    return [model, *ranks, *others]
