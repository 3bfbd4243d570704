"""What `tuner check` says of pods that a chart or an operator makes: production-stack, LeaderWorkerSet, and Ray."""

import json
from pathlib import Path

import pytest

from cache.verdicts.store import VerdictStore
from tuner.checks.check import check
from tuner.checks.examine import Knowledge
from tuner.checks.finding import LaunchFinding

IMAGE = "vllm/vllm-openai:v0.19.1"
SUBJECT = {"gpu-count", "shared-memory", "cache-on-emptydir", "startup-probe-short", "liveness-probe-short"}
"""The rules that these manifests are asked."""
TOO_FEW = ["gpu-count error"]
IDLE = ["gpu-count warning"]


def findings(text: str, tmp_path: Path, cold: float | None = None) -> list[LaunchFinding]:
    """What these rules see in a manifest."""
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    checked = check([file], Knowledge(VerdictStore(tmp_path / "store"), cold_start=cold))
    assert checked.launches
    return [finding for finding in checked.findings if finding.rule.id in SUBJECT]


def seen(text: str, tmp_path: Path, cold: float | None = None) -> list[str]:
    """Their ids and levels."""
    return [f"{finding.rule.id} {finding.level}" for finding in findings(text, tmp_path, cold)]


# ---- production-stack


def values(model: str, config: str = "", engine: str = "") -> str:
    """Values of the chart with one model; what is of the model begins at line 7."""
    lines = "".join(f"    {line}\n" for line in [*model.splitlines(), f"vllmConfig: {{{config}}}"])
    return (
        f"servingEngineSpec:\n{engine}  modelSpec:\n  - name: m\n    modelURL: m\n    repository: vllm/vllm-openai\n"
        f"    tag: v0.19.1\n{lines}"
    )


@pytest.mark.parametrize(
    ("model", "config", "expected"),
    [
        ("requestGPU: 1", "tensorParallelSize: 2", TOO_FEW),
        ("requestGPU: 2", "tensorParallelSize: 2", []),
        ("requestGPU: 4", "tensorParallelSize: 2", IDLE),
        ('requestGPU: "1"', "tensorParallelSize: 2", TOO_FEW),
        ("requestGPU: 2", "extraArgs: [--data-parallel-size, '4']", TOO_FEW),
        ("requestGPU: 1\nrequestGPUType: amd.com/gpu", "tensorParallelSize: 2", TOO_FEW),
        ("requestGPU: 1\nrequestGPUType: nvidia.com/mig-4g.71gb", "tensorParallelSize: 2", []),
        ("requestGPU: {{ gpus }}", "tensorParallelSize: 2", []),
        ("requestGPU: 0", "tensorParallelSize: 2", []),
        ("requestCPU: 1", "tensorParallelSize: 2", []),
        ("requestGPU: 1", "tensorParallelSize: $TP", []),
        ("requestGPU: 1", "tensorParallelSize: 1, pipelineParallelSize: 2", []),
        ("requestGPU: 1\nresources: {limits: {nvidia.com/gpu: 2}}", "tensorParallelSize: 2", []),
        ("requestGPU: 2\nresources: {limits: {nvidia.com/gpu: 1}}", "tensorParallelSize: 2", TOO_FEW),
        ("requestGPU: 4\nlmcacheConfig: {cudaVisibleDevices: '0,1'}", "tensorParallelSize: 2", []),
    ],
)
def test_gpus_of_values(model: str, config: str, expected: list[str], tmp_path: Path) -> None:
    """`requestGPU` is compared with the sizes; a slice, a variable and what is left out are not judged."""
    assert seen(values(model.replace("{{ gpus }}", "'{{ gpus }}'"), config), tmp_path) == expected


def test_where_the_gpus_of_values_stand(tmp_path: Path) -> None:
    """The finding has the line of `requestGPU`."""
    (finding,) = findings(values("requestGPU: 1", "tensorParallelSize: 2"), tmp_path)
    assert finding.line == 7
    assert finding.message.startswith("The container asks for 1 GPU, and the launch takes 2 (tensor 2)")


@pytest.mark.parametrize(
    ("model", "config", "small"),
    [
        ("requestGPU: 2", "tensorParallelSize: 2", False),
        ("requestGPU: 2\nshmSize: 20Gi", "tensorParallelSize: 2", False),
        ("requestGPU: 2", "extraArgs: [-tp=2]", True),
        ("requestGPU: 2\nshmSize: 20Gi", "extraArgs: [-tp=2]", True),
        ("requestGPU: 2\nlmcacheConfig: {enablePD: true}", "extraArgs: [-tp=2]", False),
        ("requestGPU: 2\nextraVolumeMounts: [{name: s, mountPath: /dev/shm}]", "extraArgs: [-tp=2]", False),
    ],
)
def test_shared_memory_of_values(model: str, config: str, small: bool, tmp_path: Path) -> None:
    """The chart mounts shared memory for its own `tensorParallelSize`, and not for an argument."""
    assert seen(values(model, config), tmp_path) == (["shared-memory warning"] if small else [])


@pytest.mark.parametrize(
    ("storage", "root", "lost"),
    [
        ("pvcStorage: {emptyDir: {}}", "/data/vllm", True),
        ("pvcStorage: 50Gi", "/data/vllm", False),
        ("pvcStorage: {emptyDir: {}}", "/cache", False),
    ],
)
def test_the_cache_of_values(storage: str, root: str, lost: bool, tmp_path: Path) -> None:
    """`pvcStorage` is mounted at /data, and may be an emptyDir."""
    model = f"{storage}\nenv: [{{name: VLLM_CACHE_ROOT, value: {root}}}]"
    assert seen(values(model), tmp_path) == (["cache-on-emptydir warning"] if lost else [])


@pytest.mark.parametrize(
    ("probe", "short"),
    [
        ("initialDelaySeconds: 300", False),
        ("initialDelaySeconds: 300, periodSeconds: 10", False),
        ("initialDelaySeconds: 300, periodSeconds: 10, failureThreshold: 3", True),
        ("initialDelaySeconds: 300, periodSeconds: 10, failureThreshold: 60", False),
    ],
)
def test_a_probe_of_values(probe: str, short: bool, tmp_path: Path) -> None:
    """Numbers that are left out are the chart's own, and not those of Kubernetes."""
    text = values("requestGPU: 1", engine=f"  startupProbe: {{{probe}}}\n")
    assert seen(text, tmp_path, cold=600) == (["startup-probe-short warning"] if short else [])
    text = values("requestGPU: 1", engine="  livenessProbe: {initialDelaySeconds: 1, failureThreshold: 1}\n")
    assert seen(text, tmp_path, cold=600) == []


@pytest.mark.parametrize(
    ("model", "config", "expected"),
    [
        ("replicaCount: 2\nrequestGPU: 2", "tensorParallelSize: 2, pipelineParallelSize: 4", TOO_FEW),
        ("replicaCount: 3\nrequestGPU: 2", "tensorParallelSize: 2, pipelineParallelSize: 4", []),
        ("replicaCount: 9\nrequestGPU: 2", "tensorParallelSize: 2, pipelineParallelSize: 4", []),
        ("replicaCount: $N\nrequestGPU: 2", "tensorParallelSize: 2, pipelineParallelSize: 4", []),
    ],
)
def test_values_of_a_ray_cluster(model: str, config: str, expected: list[str], tmp_path: Path) -> None:
    """A head of two GPUs and its workers are one cluster."""
    ray = "raySpec: {enabled: true, headNode: {requestGPU: 2}}"
    assert seen(values(f"{model}\n{ray}", config), tmp_path) == expected


# ---- LeaderWorkerSet


def worker_set(args: list[str], size: str = "2", leader: str = "8", worker: str = "8") -> str:
    """A set whose leader launches over Ray; the leader's GPUs stand at line 12."""
    command = json.dumps(["vllm", "serve", "m", "--distributed-executor-backend", "ray", *args])
    memory = "[{name: s, mountPath: /dev/shm}]"

    def pod(gpus: str, more: str) -> str:
        return (
            f"      spec:\n        containers:\n        - image: {IMAGE}\n          {more}\n"
            f"          resources: {{limits: {{{gpus}}}}}\n"
            f"          volumeMounts: {memory}\n        volumes: [{{name: s, emptyDir: {{medium: Memory}}}}]\n"
        )

    return (
        "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: s}\nspec:\n"
        f"  leaderWorkerTemplate:\n    size: {size}\n    leaderTemplate:\n"
        + pod(leader if ":" in leader else f"nvidia.com/gpu: {leader}", f"command: {command}")
        + "    workerTemplate:\n"
        + pod(worker if ":" in worker else f"nvidia.com/gpu: {worker}", "command: [sleep]")
    )


@pytest.mark.parametrize(
    ("args", "pods", "expected"),
    [
        (["-tp", "8", "-pp", "4"], ("2", "8", "8"), TOO_FEW),
        (["-tp", "8", "-pp", "2"], ("2", "8", "8"), []),
        (["-tp", "8", "-pp", "2"], ("2", "8", "4"), TOO_FEW),
        (["-tp", "8"], ("1", "4", "8"), TOO_FEW),
        (["-tp", "8"], ("4", "8", "8"), []),
        (["-tp", "$(TP)", "-pp", "4"], ("2", "8", "8"), []),
        (["-tp", "8", "-pp", "4", "-dp", "2"], ("2", "8", "8"), []),
        (["-tp", "8", "-pp", "4"], ("$SIZE", "8", "8"), []),
        (["-tp", "8", "-pp", "4"], ("2", "8", "cpu: 4"), []),
        (["-tp", "8", "-pp", "4"], ("2", "8", "nvidia.com/mig-1g.10gb: 7"), []),
        (["-tp", "8", "-pp", "4"], ("2", "google.com/tpu: 4", "google.com/tpu: 4"), []),
    ],
)
def test_gpus_of_a_group(args: list[str], pods: tuple[str, str, str], expected: list[str], tmp_path: Path) -> None:
    """A leader and its workers have too few GPUs together; a number that is not known is not judged.

    Of a group: its size, the resources of the leader, and those of a worker.
    """
    assert seen(worker_set(args, *pods), tmp_path) == expected


def test_a_leader_that_is_as_its_workers(tmp_path: Path) -> None:
    """Without a `leaderTemplate` each pod is of the template of the workers; the message counts all of them."""
    whole = worker_set(["-tp", "8", "-pp", "4"])
    begin, end = whole.index("    leaderTemplate"), whole.index("    workerTemplate")
    text = whole[:begin] + whole[begin:end].replace("leaderTemplate", "workerTemplate")
    (finding,) = findings(text, tmp_path)
    assert finding.message.startswith(
        "The pods of a group have 16 GPUs, and the launch takes 32 (tensor 8, pipeline 4): vLLM does not start."
    )
    assert finding.line == 12


# ---- Ray


def service(engine: str, group: str = "replicas: 1", head: str = "'0'", worker: str = "4", more: str = "") -> str:
    """A RayService with one model and one group of workers."""
    return (
        "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: r}\nspec:\n  serveConfigV2: |\n"
        "    applications:\n    - name: llm\n      args:\n        llm_configs:\n"
        "        - model_loading_config: {model_id: m}\n"
        f"          engine_kwargs: {{{engine}}}\n{more}"
        "  rayClusterConfig:\n    headGroupSpec:\n"
        f"      rayStartParams: {{num-gpus: {head}}}\n      template: {{spec: {{containers: [{{image: r}}]}}}}\n"
        f"    workerGroupSpecs:\n    - {{{group}, rayStartParams: {{}}, template: {{spec: {{containers: [\n"
        f"        {{image: r, resources: {{limits: {{nvidia.com/gpu: {worker}}}}}}}]}}}}}}\n"
    )


EIGHT = "tensor_parallel_size: 4, pipeline_parallel_size: 2"


@pytest.mark.parametrize(
    ("engine", "pods", "expected"),
    [
        (EIGHT, ("replicas: 1", "'0'", "4"), TOO_FEW),
        (EIGHT, ("replicas: 2", "'0'", "4"), []),
        (EIGHT, ("replicas: 1, maxReplicas: 2", "'0'", "4"), []),
        (EIGHT, ("replicas: 1, minReplicas: 1, maxReplicas: 1", "'0'", "4"), TOO_FEW),
        (EIGHT, ("replicas: 1, numOfHosts: 2", "'0'", "4"), []),
        (EIGHT, ("minReplicas: 1", "'0'", "4"), []),
        (EIGHT, ("replicas: 1", "'4'", "4"), []),
        (EIGHT, ("replicas: 1", "'0'", "$GPUS"), []),
        (f"{EIGHT}, data_parallel_size: 2", ("replicas: 1", "'0'", "4"), []),
        ("tensor_parallel_size: 4", ("replicas: 1", "'0'", "4"), []),
    ],
)
def test_gpus_of_a_ray_service(engine: str, pods: tuple[str, str, str], expected: list[str], tmp_path: Path) -> None:
    """A model that is larger than the whole cluster may become never starts."""
    assert seen(service(engine, *pods), tmp_path) == expected


def bundles(text: str) -> str:
    """The placement group of a model in a RayService."""
    return f"          placement_group_config: {{bundles: [{text}]}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{GPU: 1}, {GPU: 1}", TOO_FEW),
        ("{CPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}", []),
        ("{GPU: 1}, {GPU: 1}, {GPU: 1}, {GPU: 1}", []),
        ("{GPU: 4}", []),
        ("{CPU: 1}", []),
        ("{GPU: 0.5}, {GPU: 0.5}", []),
    ],
)
def test_gpus_of_a_placement_group(text: str, expected: list[str], tmp_path: Path) -> None:
    """VLLM takes one GPU of each bundle; other bundles are not judged."""
    four = service("tensor_parallel_size: 4", more=bundles(text))
    assert seen(four, tmp_path) == expected


def test_a_ray_cluster_whose_head_serves(tmp_path: Path) -> None:
    """`vllm serve` in the head's container takes the GPUs of all its pods."""
    text = (
        "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: r}\nspec:\n  headGroupSpec:\n"
        "    rayStartParams: {}\n"
        f"    template: {{spec: {{containers: [{{image: {IMAGE},\n"
        "      command: [vllm, serve, m, -tp, '8', --distributed-executor-backend, ray],\n"
        "      resources: {limits: {nvidia.com/gpu: 2}}}]}}\n"
        "  workerGroupSpecs:\n  - {replicas: 1, template: {spec: {containers: [{image: r,\n"
        "      resources: {limits: {nvidia.com/gpu: 4}}}]}}}\n"
    )
    (finding,) = findings(text, tmp_path)
    assert (finding.rule.id, finding.line) == ("gpu-count", 9)
    assert finding.message.startswith("The pods of the Ray cluster have 6 GPUs, and the launch takes 8")
    assert seen(text.replace("replicas: 1", "replicas: 2"), tmp_path) == []
