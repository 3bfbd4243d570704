"""What `tuner check` says of a manifest against its own argument list: GPUs, ports, memory, caches, probes."""

import json
from pathlib import Path

import pytest

from cache.verdicts.store import VerdictStore
from tuner.checks.check import check
from tuner.checks.examine import Knowledge
from tuner.checks.finding import LaunchFinding

IMAGE = "vllm/vllm-openai:v0.19.1"
HOME = "/root"
"""Of the user in vLLM's images."""
OF_MODELS = {"model-unknown", "no-verdict", "version-unknown", "flag-unproved"}
"""Rules that these manifests break as well, and that other tests ask."""
CACHE = f"{HOME}/.cache"
CLAIM = f"[{{name: c, mountPath: {CACHE}}}]", "[{name: c, persistentVolumeClaim: {claimName: c}}]"


class Manifest:
    """A Deployment with one container, complete by itself: its cache lies on a claim."""

    def __init__(self, *args: str, kind: str = "Deployment", image: str = IMAGE) -> None:
        self.args, self.kind, self.image = args, kind, image
        self.container: list[str] = []
        self.pod: list[str] = []
        self.mounts, self.volumes = CLAIM

    def text(self) -> str:
        """The manifest; what is of the container begins at line 11."""
        container = "".join(f"        {line}\n" for line in self.container)
        pod = "".join(f"      {line}\n" for line in self.pod)
        return (
            f"apiVersion: apps/v1\nkind: {self.kind}\nmetadata: {{name: d}}\nspec:\n  template:\n    spec:\n"
            f"      containers:\n      - name: v\n        image: {self.image}\n"
            f"        args: {json.dumps(['--model', 'm', *self.args])}\n{container}"
            f"        volumeMounts: {self.mounts}\n      volumes: {self.volumes}\n{pod}"
        )


def findings(text: str, tmp_path: Path, *, name: str = "m.yaml", cold: float | None = None) -> list[LaunchFinding]:
    """What the rules of this subject see in a manifest."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    checked = check([file], Knowledge(VerdictStore(tmp_path / "store"), cold_start=cold))
    assert checked.launches
    return [finding for finding in checked.findings if finding.rule.id not in OF_MODELS]


def rules(text: str, tmp_path: Path, *, name: str = "m.yaml", cold: float | None = None) -> list[str]:
    """The ids of these rules."""
    return [finding.rule.id for finding in findings(text, tmp_path, name=name, cold=cold)]


def test_a_sound_manifest_has_no_finding(tmp_path: Path) -> None:
    """GPUs, ports, probes, memory and cache agree with the arguments."""
    manifest = Manifest("--tensor-parallel-size", "2", "--port", "8080")
    manifest.container = [
        "resources: {limits: {nvidia.com/gpu: 2}}",
        "ports: [{containerPort: 8080, name: http}]",
        "startupProbe: {httpGet: {port: http}, failureThreshold: 90}",
        "livenessProbe: {httpGet: {port: 8080}}",
    ]
    manifest.mounts = f"[{{name: c, mountPath: {CACHE}}}, {{name: s, mountPath: /dev/shm}}]"
    manifest.volumes = "[{name: c, persistentVolumeClaim: {claimName: c}}, {name: s, emptyDir: {medium: Memory}}]"
    assert rules(manifest.text(), tmp_path, cold=800) == []


# ---- GPUs


def of_gpus(
    gpus: str, *args: str, tmp_path: Path, kind: str = "Deployment", more: str = "", image: str = IMAGE
) -> list[tuple[str, int]]:
    """Level and line of what is said of GPUs."""
    manifest = Manifest(*args, kind=kind, image=image)
    manifest.container = [f"resources: {{limits: {{{gpus}}}}}", *filter(None, [more])]
    seen = [finding for finding in findings(manifest.text(), tmp_path) if finding.rule.id == "gpu-count"]
    return [(finding.level, finding.line) for finding in seen]


TOO_FEW, IDLE = [("error", 11)], [("warning", 11)]


@pytest.mark.parametrize(
    ("gpus", "args", "expected"),
    [
        ("nvidia.com/gpu: 4", ["--tensor-parallel-size", "8"], TOO_FEW),
        ('nvidia.com/gpu: "4"', ["-tp=8"], TOO_FEW),
        ("amd.com/gpu: 4", ["--tensor_parallel_size=4", "--pipeline-parallel-size", "2"], TOO_FEW),
        ("huawei.com/Ascend910: 8", ["-tp", "8"], []),
        ("gpu.intel.com/i915: 8", ["-tp", "4", "-pp", "2"], []),
        ("nvidia.com/gpu: 8", [], IDLE),
        ("nvidia.com/gpu: 8", ["-tp", "4"], IDLE),
        ("nvidia.com/gpu: 8", ["-tp", "4", "--data-parallel-size", "2"], []),
        ("nvidia.com/gpu: 8", ["--data-parallel-size", "16"], TOO_FEW),
        ("nvidia.com/gpu: 8", ["--data-parallel-size", "16", "--data-parallel-size-local", "8"], []),
        ("nvidia.com/gpu: 8", ["-dp", "16", "-dpl", "4"], IDLE),
        ("nvidia.com/gpu: 1", ["-dp", "16", "--data-parallel-rank", "3"], []),
        ("nvidia.com/gpu: 8", ["-tp", "16", "--nnodes", "2"], []),
        ("nvidia.com/gpu: 4", ["-tp", "16", "--nnodes", "2"], TOO_FEW),
    ],
)
def test_gpus_against_the_sizes(gpus: str, args: list[str], expected: list[object], tmp_path: Path) -> None:
    """Too few GPUs are an error, and idle ones a warning, at the line of the resource."""
    assert of_gpus(gpus, *args, tmp_path=tmp_path) == expected


@pytest.mark.parametrize(
    ("gpus", "args", "kind", "more"),
    [
        ("cpu: 4", ["-tp", "8"], "Deployment", ""),
        ("nvidia.com/mig-1g.10gb: 1", ["-tp", "2"], "Deployment", ""),
        ("nvidia.com/gpu: $(N)", ["-tp", "8"], "Deployment", ""),
        ("nvidia.com/gpu: 4", ["-tp", "$(TP)"], "Deployment", ""),
        ("nvidia.com/gpu: 4", ["-tp", "8", "--distributed-executor-backend", "ray"], "Deployment", ""),
        ("nvidia.com/gpu: 4", ["-tp", "8", "--config", "/etc/v.yaml"], "Deployment", ""),
        ("nvidia.com/gpu: 4", ["-tp", "8"], "LeaderWorkerSet", ""),
        ("nvidia.com/gpu: 4", ["-dp", "8", "--data-parallel-hybrid-lb"], "Deployment", ""),
        ("nvidia.com/gpu: 4", ["-tp", "2"], "Deployment", "env: [{name: CUDA_VISIBLE_DEVICES, value: '0,1'}]"),
        ("nvidia.com/gpu: 4", ["-tp", "2"], "InferenceService", ""),
    ],
)
def test_gpus_that_are_not_known(gpus: str, args: list[str], kind: str, more: str, tmp_path: Path) -> None:
    """A number that is not stated for certain is not judged."""
    assert of_gpus(gpus, *args, tmp_path=tmp_path, kind=kind, more=more) == []


@pytest.mark.parametrize(
    ("image", "gpus", "expected"),
    [
        ("vllm/vllm-openai:v0.19.1", "0", TOO_FEW),
        ("vllm/vllm-openai-rocm:v0.19.1", "0", TOO_FEW),
        ("vllm/vllm-openai-cpu:v0.19.1", "0", []),
        ("vllm/vllm-openai-cpu:v0.19.1", "1", []),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.19.1", "0", []),
        ("example.com/vllm-openai:v0.19.1", "0", []),
        ("example.com/vllm-openai:v0.19.1", "1", TOO_FEW),
    ],
)
def test_an_image_that_takes_no_gpu(image: str, gpus: str, expected: list[object], tmp_path: Path) -> None:
    """A launch on a CPU takes none, and an image of another name may be for a CPU."""
    assert of_gpus(f"nvidia.com/gpu: {gpus}", "-tp", "2", tmp_path=tmp_path, image=image) == expected


def test_shared_memory_of_a_tpu(tmp_path: Path) -> None:
    """One process may drive all its chips."""
    for image, is_small in ((IMAGE, True), ("vllm/vllm-tpu:v0.19.0", False)):
        manifest = Manifest("-tp", "2", image=image)
        manifest.container = ["command: [vllm, serve]"]
        assert ("shared-memory" in rules(manifest.text(), tmp_path)) == is_small


@pytest.mark.parametrize(
    ("kind", "workers", "expected"),
    [
        ("Deployment", "", TOO_FEW),
        ("InferenceService", "", TOO_FEW),
        ("InferenceService", "workerSpec: {size: 4}", []),
        ("ServingRuntime", "", TOO_FEW),
        ("ServingRuntime", "workerSpec: {}", []),
        ("RuntimeProfile", "", []),
    ],
)
def test_gpus_where_an_operator_makes_the_pods(kind: str, workers: str, expected: list[object], tmp_path: Path) -> None:
    """One that is not known, or has workers, may spread the launch over several pods."""
    manifest = Manifest("-tp", "8", "-pp", "4", kind=kind)
    manifest.container, manifest.pod = ["resources: {limits: {nvidia.com/gpu: 8}}"], [workers] if workers else []
    seen = [finding for finding in findings(manifest.text(), tmp_path) if finding.rule.id == "gpu-count"]
    assert [(finding.level, finding.line) for finding in seen] == expected


def test_gpus_of_a_pod_of_several(tmp_path: Path) -> None:
    """A LeaderWorkerSet that states its nodes, or the ranks of a pod, is judged pod by pod."""
    spread = ("--data-parallel-size", "16", "--data-parallel-size-local", "8")
    assert of_gpus("nvidia.com/gpu: 4", *spread, tmp_path=tmp_path, kind="LeaderWorkerSet") == TOO_FEW
    assert of_gpus("nvidia.com/gpu: 8", *spread, tmp_path=tmp_path, kind="LeaderWorkerSet") == []


def test_a_script_that_names_ray_is_not_judged(tmp_path: Path) -> None:
    """Ray may bring the GPUs of other pods."""
    manifest = Manifest()
    text = manifest.text().replace(
        'args: ["--model", "m"]', 'command: [bash, -c, "ray start --head; vllm serve m -tp 16"]'
    )
    text = text.replace(
        "        volumeMounts", "        resources: {limits: {nvidia.com/gpu: 8}}\n        volumeMounts"
    )
    assert "gpu-count" not in rules(text, tmp_path)


# ---- ports


@pytest.mark.parametrize(
    ("args", "probe", "wrong"),
    [
        ([], "readinessProbe: {httpGet: {port: 8000}}", False),
        ([], "readinessProbe: {httpGet: {port: 8080}}", True),
        (["--port", "8080"], "livenessProbe: {tcpSocket: {port: 8000}}", True),
        (["--port=8080"], "startupProbe: {httpGet: {port: 8080}}", False),
        (["--port", "$(PORT)"], "readinessProbe: {httpGet: {port: 8080}}", False),
        (["--uds", "/s"], "readinessProbe: {httpGet: {port: 8080}}", False),
        ([], "readinessProbe: {httpGet: {port: 80, host: example.org}}", False),
        ([], "readinessProbe: {exec: {command: [x]}}", False),
        ([], "readinessProbe: {httpGet: {port: web}}", False),
    ],
)
def test_a_probe_of_another_port(args: list[str], probe: str, wrong: bool, tmp_path: Path) -> None:
    """It is an error at the port's line; a port that is not known is not judged."""
    manifest = Manifest(*args)
    manifest.container = [probe]
    seen = [(finding.rule.id, finding.level, finding.line) for finding in findings(manifest.text(), tmp_path)]
    assert seen == ([("probe-port", "error", 11)] if wrong else [])


def test_a_probe_of_a_named_port(tmp_path: Path) -> None:
    """The name stands for the number that the container states."""
    manifest = Manifest("--port", "9000")
    manifest.container = [
        "ports: [{containerPort: 8000, name: web}, {containerPort: 9000, name: api}]",
        "readinessProbe: {httpGet: {port: web}}",
    ]
    (finding,) = findings(manifest.text(), tmp_path)
    assert finding.rule.id == "probe-port"
    assert finding.message.startswith("The readinessProbe asks port web (8000), and vLLM listens at 9000")
    manifest.container[1] = "readinessProbe: {httpGet: {port: api}}"
    assert rules(manifest.text(), tmp_path) == []


@pytest.mark.parametrize(
    "script",
    [
        "nginx -c /etc/nginx.conf; vllm serve m",
        "/usr/sbin/nginx && exec vllm serve m",
        "service nginx start; vllm serve m",
        "python3 -m http.server 80 & vllm serve m",
        "if [ $A = 1 ]; then vllm serve m -tp 8; else vllm serve m --port 80; fi",
    ],
)
def test_a_script_in_which_another_program_may_listen(script: str, tmp_path: Path) -> None:
    """It may answer the probe; of several launches one alone may be meant."""
    manifest = Manifest()
    manifest.container = [
        "ports: [{containerPort: 80}]",
        "readinessProbe: {httpGet: {port: 80}}",
        "resources: {limits: {nvidia.com/gpu: 1}}",
    ]
    text = manifest.text().replace('args: ["--model", "m"]', f"command: [sh, -c, {json.dumps(script)}]")
    asked = {"container-port", "probe-port", "gpu-count"}
    assert not asked & {*rules(text, tmp_path)}
    assert asked & {*rules(text.replace(json.dumps(script), '"vllm serve m --uvicorn-log-level info"'), tmp_path)}


@pytest.mark.parametrize("more", ["initContainers: [{name: proxy, image: p, restartPolicy: Always}]", ""])
def test_a_port_that_another_container_may_have(more: str, tmp_path: Path) -> None:
    """A sidecar may answer the probe."""
    manifest = Manifest()
    manifest.container = ["ports: [{containerPort: 80}]", "readinessProbe: {httpGet: {port: 80}}"]
    manifest.pod = [more] if more else []
    assert rules(manifest.text(), tmp_path) == ([] if more else ["container-port", "probe-port"])


@pytest.mark.parametrize(
    ("ports", "wrong"),
    [
        ("[{containerPort: 8000}]", False),
        ("[{containerPort: 8080, name: http}]", True),
        ("[{containerPort: 8080}, {containerPort: 9090}]", False),
        ("[{containerPort: 8080, protocol: UDP}]", False),
        ("[]", False),
    ],
)
def test_the_port_that_a_container_states(ports: str, wrong: bool, tmp_path: Path) -> None:
    """It is a warning where it is the only one."""
    manifest = Manifest()
    manifest.container = [f"ports: {ports}"]
    seen = [(finding.rule.id, finding.level) for finding in findings(manifest.text(), tmp_path)]
    assert seen == ([("container-port", "warning")] if wrong else [])


# ---- shared memory


@pytest.mark.parametrize(
    ("args", "volume", "pod", "small"),
    [
        (["-tp", "2"], "", "", True),
        (["-tp", "1"], "", "", False),
        (["-tp", "$(TP)"], "", "", False),
        (["-tp", "2"], "emptyDir: {medium: Memory}", "", False),
        (["-tp", "2"], "emptyDir: {}", "", True),
        (["-tp", "2"], "hostPath: {path: /dev/shm}", "", False),
        (["-tp", "2"], "", "hostIPC: true", False),
        (["-tp", "2"], "", "hostIPC: false", True),
    ],
)
def test_shared_memory(args: list[str], volume: str, pod: str, small: bool, tmp_path: Path) -> None:
    """Tensor parallelism needs more than a container has by itself."""
    manifest = Manifest(*args)
    manifest.pod = [pod] if pod else []
    if volume:
        manifest.mounts = f"[{{name: c, mountPath: {CACHE}}}, {{name: s, mountPath: /dev/shm}}]"
        manifest.volumes = f"[{{name: c, persistentVolumeClaim: {{claimName: c}}}}, {{name: s, {volume}}}]"
    assert rules(manifest.text(), tmp_path) == (["shared-memory"] if small else [])


# ---- the compile cache


@pytest.mark.parametrize(
    ("args", "mount", "more", "lost"),
    [
        ([], f"{CACHE}/huggingface", "", True),
        ([], f"{CACHE}/vllm", "", False),
        ([], f"{CACHE}/vllm/torch_compile_cache", "", False),
        ([], HOME, "", False),
        (["--enforce-eager"], "/data", "", False),
        (["-cc.mode=0"], "/data", "", False),
        (["-cc", '{"cache_dir": "/data/c"}'], "/data", "", False),
        ([], "/data", "env: [{name: VLLM_CACHE_ROOT, value: /data/v}]", False),
        ([], "/data", "env: [{name: VLLM_CACHE_ROOT, value: /other}]", True),
        ([], f"{CACHE}/vllm", "env: [{name: VLLM_CACHE_ROOT, value: ~/.cache/vllm/tuner-proof/0}]", False),
        ([], "/data", "env: [{name: VLLM_CACHE_ROOT, value: ~/.cache/vllm/tuner-proof/0}]", True),
        ([], "/data", "env: [{name: VLLM_CACHE_ROOT, value: ~/v}, {name: HOME, value: /data}]", False),
        ([], "/data", "env: [{name: VLLM_CACHE_ROOT, valueFrom: {}}]", False),
        ([], "/data", "env: [{name: VLLM_DISABLE_COMPILE_CACHE, value: '1'}]", False),
        ([], "/data", "envFrom: [{secretRef: {name: s}}]", False),
        ([], "/data", "securityContext: {runAsUser: 1000}", False),
        ([], "/data", "securityContext: {runAsUser: 0}", True),
    ],
)
def test_a_cache_on_no_volume(args: list[str], mount: str, more: str, lost: bool, tmp_path: Path) -> None:
    """The container's own file system goes with the container; what is not known is not judged."""
    manifest = Manifest(*args)
    manifest.mounts = f"[{{name: c, mountPath: {mount}}}]"
    manifest.container = [more] if more else []
    assert rules(manifest.text(), tmp_path) == (["cache-on-no-volume"] if lost else [])


@pytest.mark.parametrize(
    ("kind", "image", "lost"),
    [
        ("Deployment", "registry.example/vllm/vllm-openai:v0.19.1", True),
        ("StatefulSet", IMAGE, True),
        ("Job", IMAGE, False),
        ("InferenceService", IMAGE, False),
        ("Deployment", "example.org/my-model:1", False),
    ],
)
def test_where_a_cache_is_looked_for(kind: str, image: str, lost: bool, tmp_path: Path) -> None:
    """A Job runs once, an operator adds volumes, and an image of one's own may bring its cache."""
    manifest = Manifest(kind=kind, image=image)
    manifest.mounts = "[]"
    text = manifest.text().replace("args: [", 'command: ["vllm", "serve"]\n        args: [')
    assert rules(text, tmp_path) == (["cache-on-no-volume"] if lost else [])


def test_hidden_arguments_may_keep_a_launch_from_compiling(tmp_path: Path) -> None:
    """`--enforce-eager` may be among them, and an eager launch has no cache to lose."""
    manifest = Manifest()
    manifest.mounts = "[]"
    text = manifest.text()
    assert "cache-on-no-volume" in rules(text, tmp_path)
    hidden = text.replace('args: ["--model", "m"]', 'command: [sh, -c, "vllm serve m $EXTRA"]')
    assert hidden != text
    assert "cache-on-no-volume" not in rules(hidden, tmp_path)


def test_the_message_names_the_cache_root(tmp_path: Path) -> None:
    """It says where the cache lies, and what comes of it."""
    manifest = Manifest()
    manifest.mounts = "[]"
    (finding,) = findings(manifest.text(), tmp_path)
    lies = f"The compile cache {CACHE}/vllm lies on the container's own file system: every new pod compiles again."
    assert finding.message.startswith(lies)


# ---- a livenessProbe without a startupProbe


@pytest.mark.parametrize(
    ("probes", "cold", "short"),
    [
        (["livenessProbe: {initialDelaySeconds: 240, periodSeconds: 5, failureThreshold: 3}"], 600, True),
        (["livenessProbe: {initialDelaySeconds: 240, periodSeconds: 5, failureThreshold: 3}"], 255, False),
        (["livenessProbe: {initialDelaySeconds: 240, periodSeconds: 5, failureThreshold: 3}"], None, False),
        (["livenessProbe: {initialDelaySeconds: $(X)}"], 600, False),
        (["livenessProbe: {periodSeconds: nan}"], 600, False),
        (["livenessProbe: {periodSeconds: inf, failureThreshold: 0}"], 600, False),
        (["livenessProbe: {initialDelaySeconds: -1}"], 600, False),
        (["readinessProbe: {initialDelaySeconds: 1}"], 600, False),
        (["livenessProbe: {}", "startupProbe: {failureThreshold: 60}"], 600, False),
    ],
)
def test_a_liveness_probe_alone(probes: list[str], cold: float | None, short: bool, tmp_path: Path) -> None:
    """It ends a container that starts longer than it waits."""
    manifest = Manifest()
    manifest.container = probes
    seen = findings(manifest.text(), tmp_path, cold=cold)
    assert [finding.rule.id for finding in seen] == (["liveness-probe-short"] if short else [])
    if short:
        assert "ends the container after 255 s" in seen[0].message
        assert seen[0].line == 11


# ---- the key of the compile cache


@pytest.mark.parametrize(
    ("version", "variable", "field", "counts"),
    [
        ("0.19.1", "VLLM_NIXL_SIDE_CHANNEL_HOST", "Deployment status.podIP", True),
        ("0.22.0", "VLLM_NIXL_SIDE_CHANNEL_HOST", "Deployment status.podIP", False),
        ("0.99.0", "VLLM_NIXL_SIDE_CHANNEL_HOST", "Deployment status.podIP", False),
        ("0.19.1", "VLLM_HOST_IP", "Deployment status.podIP", False),
        ("0.19.1", "OTHER_HOST", "Deployment status.podIP", False),
        ("0.19.1", "VLLM_PROCESS_NAME_PREFIX", "Deployment metadata.name", True),
        ("0.19.1", "VLLM_PROCESS_NAME_PREFIX", "StatefulSet metadata.name", False),
        ("0.19.1", "VLLM_PROCESS_NAME_PREFIX", "Deployment metadata.namespace", False),
        ("0.30.0", "VLLM_P2P_SIDE_CHANNEL_HOST", "Deployment status.hostIP", True),
    ],
)
def test_a_variable_of_the_pod_in_the_key(
    version: str, variable: str, field: str, counts: bool, tmp_path: Path
) -> None:
    """What counts is known for each release; what is not known is not judged."""
    kind, path = field.split()
    manifest = Manifest(kind=kind, image=f"vllm/vllm-openai:v{version}")
    manifest.container = [f"env: [{{name: {variable}, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}]"]
    seen = [(finding.rule.id, finding.line) for finding in findings(manifest.text(), tmp_path)]
    assert seen == ([("cache-key-per-pod", 11)] if counts else [])


def test_a_variable_that_names_one_of_the_pod(tmp_path: Path) -> None:
    """`$(POD_IP)` is as the field itself; the message names the first release that leaves the variable out."""
    manifest = Manifest()
    fields = "{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"
    manifest.container = [f"env: [{fields}, {{name: VLLM_NIXL_SIDE_CHANNEL_HOST, value: $(POD_IP)}}]"]
    (finding,) = findings(manifest.text(), tmp_path)
    assert finding.message.startswith("VLLM_NIXL_SIDE_CHANNEL_HOST is status.podIP, and vLLM 0.19.1 puts it in the key")
    assert "vLLM 0.22.0 leaves it out." in finding.message


def test_a_launch_that_does_not_compile_has_no_key(tmp_path: Path) -> None:
    """Nothing is looked up with `--enforce-eager`."""
    manifest = Manifest("--enforce-eager")
    field = "{name: VLLM_NIXL_SIDE_CHANNEL_HOST, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"
    manifest.container = [f"env: [{field}]"]
    assert rules(manifest.text(), tmp_path) == []


NO_IMAGES, NO_VIDEO = '{"image": 0}', '{"image": 1, "video": 0}'
DRAFT = '{"method": "%s", "model": "d", "num_speculative_tokens": %d}'


@pytest.mark.parametrize(
    ("version", "one", "other", "shared"),
    [
        ("0.25.1", ["--limit-mm-per-prompt", NO_IMAGES], [], True),
        ("0.25.1", ["--limit-mm-per-prompt", NO_IMAGES], ["--limit_mm_per_prompt.image=0"], False),
        ("0.25.1", ["--limit-mm-per-prompt.image", "0"], ["--limit-mm-per-prompt", NO_VIDEO], True),
        ("0.25.1", ["--limit-mm-per-prompt", '{"image": 2}'], ["--limit-mm-per-prompt", '{"image": 4}'], False),
        ("0.25.1", ["--limit-mm-per-prompt", '{"image": {"count": 0}}'], [], True),
        ("0.25.1", ["--limit-mm-per-prompt", "$(LIMITS)"], [], False),
        ("0.25.1", ["--limit-mm-per-prompt", NO_IMAGES, "--port", "1"], ["--port", "2"], True),
        ("0.25.1", ["--limit-mm-per-prompt", NO_IMAGES, "--max-model-len", "1"], ["--max-model-len", "2"], False),
        ("0.25.1", ["--limit-mm-per-prompt", NO_IMAGES], ["--language-model-only"], False),
        ("0.99.0", ["--limit-mm-per-prompt", NO_IMAGES], [], False),
        ("0.32.0", ["--speculative-config", DRAFT % ("dflash", 7)], ["-sc", DRAFT % ("dflash", 9)], True),
        ("0.32.0", ["--speculative-config", DRAFT % ("dflash", 7)], ["-sc", DRAFT % ("dflash", 7)], False),
        ("0.25.1", ["--speculative-config", DRAFT % ("dflash", 7)], ["-sc", DRAFT % ("dflash", 9)], False),
        ("0.32.0", ["--speculative-config", DRAFT % ("eagle3", 3)], ["-sc", DRAFT % ("eagle3", 5)], False),
        ("0.32.0", ["--enable-lora", "--max-cpu-loras", "4"], ["--enable-lora", "--max-cpu-loras", "8"], False),
    ],
)
def test_a_cache_root_that_launches_share(
    version: str, one: list[str], other: list[str], shared: bool, tmp_path: Path
) -> None:
    """Both are warned that differ in what the key leaves out and agree in all that it holds."""
    texts = [Manifest(*args, image=f"vllm/vllm-openai:v{version}").text() for args in (one, other)]
    seen = [(finding.rule.id, finding.line) for finding in findings("---\n".join(texts), tmp_path)]
    assert seen == ([("cache-root-shared", 8), ("cache-root-shared", 21)] if shared else [])


@pytest.mark.parametrize(
    ("volume", "same"),
    [
        ("persistentVolumeClaim: {claimName: other}", False),
        ("hostPath: {path: /cache}", False),
        ("persistentVolumeClaim: {claimName: c}", True),
    ],
)
def test_cache_roots_on_other_volumes(volume: str, same: bool, tmp_path: Path) -> None:
    """Only launches whose caches lie on the same claim or folder run each other's code."""
    one, other = Manifest("--limit-mm-per-prompt", NO_IMAGES), Manifest()
    other.volumes = f"[{{name: c, {volume}}}]"
    text = f"{one.text()}---\n{other.text()}"
    assert rules(text, tmp_path) == (["cache-root-shared"] * 2 if same else [])


def test_a_cache_root_of_commands(tmp_path: Path) -> None:
    """Commands of one script share the root that both name."""
    text = (
        "export VLLM_CACHE_ROOT=/c\nexport VLLM_USE_V1=1\n"
        "vllm serve m --limit-mm-per-prompt '{\"image\": 0}'\nvllm serve m\n"
    )
    file = tmp_path / "s.sh"
    file.write_text(text, encoding="utf-8")
    checked = check([file], Knowledge(VerdictStore(tmp_path / "store"), vllm_version="0.25.1"))
    shared = [finding.line for finding in checked.findings if finding.rule.id == "cache-root-shared"]
    assert shared == [3, 4]
