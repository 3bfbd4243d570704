"""What `tuner check` says of containers of Docker and Podman against the arguments of their launch.

Services of Compose, `docker run` and `podman run` in shell text and units, and Quadlet.
"""

from pathlib import Path

import pytest
from fuzz.limit import limited
from hypothesis import given
from hypothesis import strategies as st

from cache.verdicts.store import VerdictStore
from tuner.checks.check import check
from tuner.checks.examine import Knowledge
from tuner.checks.finding import LaunchFinding
from tuner.manifests import container_text
from tuner.manifests.find import launches_in

IMAGE = "vllm/vllm-openai:v0.19.1"
HOME = "/root"
"""Of the user in vLLM's images."""
CACHES = f"{HOME}/.cache"
CACHE = f"{CACHES}/vllm"
SUBJECT = {
    "gpu-count",
    "probe-port",
    "container-port",
    "shared-memory",
    "cache-on-no-volume",
    "cache-on-emptydir",
    "cache-dir-shared",
    "cache-root-shared",
    "startup-probe-short",
}
"""The rules that compare a container with its launch."""
Seen = list[tuple[str, int]]


def findings(text: str, tmp_path: Path, name: str, cold: float | None = None) -> list[LaunchFinding]:
    """What these rules see in a manifest."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    checked = check([file], Knowledge(VerdictStore(tmp_path / "store"), cold_start=cold))
    assert checked.launches
    return [finding for finding in checked.findings if finding.rule.id in SUBJECT]


def seen(text: str, tmp_path: Path, name: str, cold: float | None = None) -> Seen:
    """Their ids and lines."""
    return [(finding.rule.id, finding.line) for finding in findings(text, tmp_path, name, cold)]


def service(*args: str, more: str = "", cache: str = f"cache:{CACHE}") -> str:
    """A Compose file with one service; what is of the service in addition begins at line 6."""
    lines = "".join(f"    {line}\n" for line in more.splitlines())
    volumes = f"    volumes: ['{cache}']\n" if cache else ""
    return f"services:\n  llm:\n    image: {IMAGE}\n    command: {['m', *args]}\n    # more\n{lines}{volumes}"


def compose(
    *args: str, tmp_path: Path, more: str = "", cache: str = f"cache:{CACHE}", cold: float | None = None
) -> Seen:
    """What is seen in this file."""
    return seen(service(*args, more=more, cache=cache), tmp_path, "compose.yaml", cold)


def run(
    options: str, args: str = "", *, tmp_path: Path, engine: str = "docker", cache: str = f"-v cache:{CACHE}"
) -> list[str]:
    """The rules that see something in a command."""
    text = f"{engine} run {options} {cache} {IMAGE} m {args}\n"
    return [rule for rule, _ in seen(text, tmp_path, "run.sh")]


RESERVED = "deploy:\n  resources:\n    reservations:\n      devices:\n      - {%s}"


# ---- Compose: GPUs


@pytest.mark.parametrize(
    ("more", "args", "expected"),
    [
        (RESERVED % "driver: nvidia, count: 1, capabilities: [gpu]", ["-tp", "2"], [("gpu-count", 10)]),
        (RESERVED % "driver: nvidia, count: 2, capabilities: [gpu]", ["-tp", "2"], []),
        (RESERVED % 'driver: nvidia, device_ids: ["0", "1"], capabilities: [gpu]', ["-tp", "4"], [("gpu-count", 10)]),
        (RESERVED % 'device_ids: ["0,1,2,3"], capabilities: [gpu]', ["-tp", "4"], []),
        (RESERVED % 'device_ids: ["0"], capabilities: [gpu]', ["-tp", "1", "-dp", "2"], [("gpu-count", 10)]),
        (RESERVED % "count: 4, capabilities: [gpu]", ["-tp", "2"], [("gpu-count", 10)]),
        ("gpus: [{driver: nvidia, count: 2}]", ["-tp", "2", "-pp", "2"], [("gpu-count", 6)]),
        ("gpus: [{count: 4}]", ["-tp", "2", "-pp", "2"], []),
        ("devices: [nvidia.com/gpu=0]", ["-tp", "2"], [("gpu-count", 6)]),
        ("devices: [nvidia.com/gpu=0, nvidia.com/gpu=1]", ["-tp", "2"], []),
    ],
)
def test_gpus_of_a_service(more: str, args: list[str], expected: Seen, tmp_path: Path) -> None:
    """A number of GPUs other than the launch takes is seen at its line."""
    assert compose(*args, more=f"{more}\nshm_size: 8gb", tmp_path=tmp_path) == expected


@pytest.mark.parametrize(
    "more",
    [
        RESERVED % "driver: nvidia, count: all, capabilities: [gpu]",
        RESERVED % "driver: nvidia, capabilities: [gpu]",
        RESERVED % "driver: nvidia, count: 2, capabilities: [tpu]",
        RESERVED % 'count: "${GPUS:-2}", capabilities: [gpu]',
        RESERVED % 'device_ids: ["${GPU:-0}"], capabilities: [gpu]',
        RESERVED % "device_ids: [MIG-1234], capabilities: [gpu]",
        RESERVED % "device_ids: [all], capabilities: [gpu]",
        RESERVED % "count: 2, device_ids: ['0'], capabilities: [gpu]",
        "gpus: all",
        "gpus: [{count: 1}, {count: 1}]",
        "gpus: [{count: 2}]\nprivileged: true",
        "gpus: [{count: 2}]\nenvironment: {NVIDIA_VISIBLE_DEVICES: all}",
        "devices: [nvidia.com/gpu=all]",
        "devices: [/dev/kfd, /dev/dri]",
        "runtime: nvidia",
        "extends: {file: other.yaml, service: llm}\ngpus: [{count: 2}]",
    ],
)
def test_gpus_of_a_service_that_are_not_known(more: str, tmp_path: Path) -> None:
    """All GPUs, a slice, a variable, and what another file or a privilege adds are not counted."""
    assert compose("-tp", "8", more=f"{more}\nshm_size: 8gb", tmp_path=tmp_path) == []


def test_a_size_that_is_a_variable_of_compose(tmp_path: Path) -> None:
    """It is not judged, and the same as a number is."""
    more = "gpus: [{count: 1}]\nipc: host"
    assert compose("-tp", "${TP:-2}", more=more, tmp_path=tmp_path) == []
    assert compose("-tp", "2", more=more, tmp_path=tmp_path) == [("gpu-count", 6)]


def test_gpus_of_a_service_that_another_extends(tmp_path: Path) -> None:
    """What the extended service of the same file states counts."""
    text = (
        f"services:\n  base:\n    image: {IMAGE}\n    entrypoint: [sleep]\n    ipc: host\n    gpus: [{{count: 2}}]\n"
        f"  llm:\n    extends: base\n    entrypoint: [vllm, serve]\n    command: [m, -tp, '4']\n"
        f"    volumes: ['c:{CACHE}']\n"
    )
    assert seen(text, tmp_path, "compose.yaml") == [("gpu-count", 6)]
    assert seen(text.replace("'4'", "'2'"), tmp_path, "compose.yaml") == []


# ---- Compose: shared memory, ports, cache, health check


@pytest.mark.parametrize(
    ("more", "small"),
    [
        ("", True),
        ("shm_size: 64m", True),
        ("shm_size: 67108864", True),
        ("ipc: private", True),
        ("ipc: shareable", True),
        ("shm_size: 16gb", False),
        ("shm_size: '2G'", False),
        ("shm_size: 17179869184", False),
        ("shm_size: ${SHM:-64m}", False),
        ("ipc: host", False),
        ("ipc: service:other", False),
        ("ipc: ${IPC}", False),
        ("ipc: '{{ ipc }}'", False),
        ("shm_size: '{{ size }}'", False),
        ("tmpfs: /dev/shm", False),
        ("tmpfs: ['/dev/shm:size=8g']", False),
        ("volumes_from: [other]", False),
    ],
)
def test_shared_memory_of_a_service(more: str, small: bool, tmp_path: Path) -> None:
    """Tensor parallelism needs more than the 64 MiB of a container; a size that is not known is not judged."""
    expected = [("shared-memory", 4)] if small else []
    assert compose("--tensor-parallel-size", "2", more=more, tmp_path=tmp_path) == expected
    assert compose("--tensor-parallel-size", "1", more=more, tmp_path=tmp_path) == []


def test_the_remedy_fits_the_form(tmp_path: Path) -> None:
    """A service is told of `shm_size`, a command of `--shm-size`."""
    (finding,) = findings(service("-tp", "2"), tmp_path, "compose.yaml")
    assert finding.message.endswith("and the container has 64 MiB there. Set shm_size, or ipc: host.")
    (finding,) = findings(f"docker run -v c:{CACHE} {IMAGE} m -tp 2\n", tmp_path, "run.sh")
    assert finding.message.endswith("and the container has 64 MiB there. Add --shm-size, or --ipc=host.")


@pytest.mark.parametrize(
    ("more", "args", "wrong"),
    [
        ("ports: ['8000:8080']", [], True),
        ("ports: ['8000:8080']", ["--port", "8080"], False),
        ("ports: ['8080:8000']", [], False),
        ("ports: ['127.0.0.1:8000:8000']", ["--port=9000"], True),
        ("ports: ['${PORT:-8080}:8000']", [], False),
        ("ports: ['8080:${PORT:-8080}']", [], False),
        ("ports: ['8080:8000/udp']", ["--port", "80"], False),
        ("ports: ['8000:80', '9000:90']", [], False),
        ("ports: ['8000-8010:8000-8010']", ["--port", "80"], False),
        ("ports: [{target: 8080, published: 8000}]", [], True),
        ("ports: [{target: 8000, published: 8080}]", [], False),
        ("ports: ['8080:8080']\nnetwork_mode: host", [], False),
        ("ports: ['8080:8080']\nnetwork_mode: '{{ network }}'", [], False),
        ("ports: ['8080:8080']", ["--port", "${PORT}"], False),
    ],
)
def test_the_port_that_a_service_publishes(more: str, args: list[str], wrong: bool, tmp_path: Path) -> None:
    """The container's end of the only published port is that of `--port`."""
    expected = [("container-port", 6)] if wrong else []
    assert compose(*args, more=more, tmp_path=tmp_path) == expected


def test_a_port_that_a_service_of_the_same_network_has(tmp_path: Path) -> None:
    """Another service that lives in this network may listen there."""
    text = service(more="ports: ['80:80']")
    assert seen(text, tmp_path, "compose.yaml") == [("container-port", 6)]
    joined = f"{text}  proxy:\n    image: p\n    network_mode: service:llm\n"
    assert seen(joined, tmp_path, "compose.yaml") == []


@pytest.mark.parametrize(
    ("cache", "more", "expected"),
    [
        (f"hub:{CACHE}", "", []),
        (f"./c:{CACHE}:rw", "", []),
        (f"${{FOLDER:-/srv}}/.cache:{CACHES}", "", []),
        (f"C:\\\\cache:{CACHE}", "", []),
        (HOME, "", []),
        (f"~/.cache/huggingface:{CACHES}/huggingface", "", [("cache-on-no-volume", 3)]),
        ("", "", [("cache-on-no-volume", 3)]),
        ("", f"tmpfs: {CACHE}", [("cache-on-emptydir", 6)]),
        ("", f"tmpfs: ['{CACHE}:size=4g']", [("cache-on-emptydir", 6)]),
        ("./c:${CACHE_FOLDER}", "", []),
        ("", "volumes_from: [other]", []),
        ("", "env_file: .env", []),
        ("", "user: '1000:1000'", []),
        ("", "user: root", [("cache-on-no-volume", 3)]),
        ("", "build: .", []),
        ("./c:/data", "environment: {VLLM_CACHE_ROOT: /data/v}", []),
        ("./c:/data", "environment: [VLLM_CACHE_ROOT=/other]", [("cache-on-no-volume", 3)]),
        ("./c:/data", "environment: ['VLLM_CACHE_ROOT=${ROOT}']", []),
    ],
)
def test_the_cache_of_a_service(cache: str, more: str, expected: Seen, tmp_path: Path) -> None:
    """It goes with the container unless it lies on a volume; what is not known is not judged."""
    assert compose(more=more, cache=cache, tmp_path=tmp_path) == expected


def test_a_volume_that_is_a_mapping(tmp_path: Path) -> None:
    """Its `type` and `target` count."""
    tmpfs, volume = (f"volumes: [{{type: {kind}, source: c, target: {CACHE}}}]" for kind in ("tmpfs", "volume"))
    assert compose(more=tmpfs, cache="", tmp_path=tmp_path) == [("cache-on-emptydir", 6)]
    assert compose(more=volume, cache="", tmp_path=tmp_path) == []


@pytest.mark.parametrize(
    ("test", "wrong"),
    [
        ('["CMD", "curl", "-f", "http://localhost:8080/health"]', True),
        ('["CMD", "curl", "-f", "http://localhost:8000/health"]', False),
        ('["CMD-SHELL", "curl -sf http://127.0.0.1/health || exit 1"]', True),
        ("curl --fail http://localhost:8080/v1/models > /dev/null 2>&1 || exit 1", True),
        ("wget -qO- http://0.0.0.0:8000/health || exit 1", False),
        ('["CMD", "bash", "-c", "wget --spider http://localhost:9000/health"]', True),
        ('["CMD-SHELL", "curl -f http://localhost:8080/health || true"]', False),
        ('["CMD-SHELL", "curl -f http://localhost:8080/a || curl -f http://localhost:8000/b"]', False),
        ('["CMD-SHELL", "curl -f http://localhost:$$PORT/health"]', False),
        ('["CMD-SHELL", "curl -f http://localhost:${PORT}/health"]', False),
        ('["CMD", "curl", "-f", "http://router:8080/health"]', False),
        ('["CMD", "python3", "-c", "import app"]', False),
        ('["NONE"]', False),
    ],
)
def test_the_port_that_a_health_check_asks(test: str, wrong: bool, tmp_path: Path) -> None:
    """It is that of `--port`; a command that may ask elsewhere is not judged."""
    more = f"healthcheck:\n  test: {test}"
    assert compose(more=more, tmp_path=tmp_path) == ([("probe-port", 7)] if wrong else [])


@pytest.mark.parametrize(
    ("check", "waits"),
    [
        ("", 90),
        ("interval: 10s, retries: 6", 60),
        ("start_period: 5m", 390),
        ("start_period: 9m, interval: 20s, retries: 4", None),
        ("start_period: '${START:-10s}'", None),
        ("retries: '${RETRIES}'", None),
        ("disable: true", None),
    ],
)
def test_how_long_a_health_check_waits(check: str, waits: int | None, tmp_path: Path) -> None:
    """It is the start period, and the interval so many times as `retries` says; 600 s are needed here."""
    more = f"healthcheck: {{test: [CMD, curl, 'http://localhost:8000/health'], {check}}}"
    seen_here = findings(service(more=more), tmp_path, "compose.yaml", cold=600)
    assert [finding.line for finding in seen_here] == ([] if waits is None else [6])
    for finding in seen_here:
        assert finding.message.startswith(f"The health check calls the container unhealthy after {waits} s, and")


# ---- docker run


@pytest.mark.parametrize(
    ("options", "args", "expected"),
    [
        ("--gpus 2 --ipc=host", "-tp 4", ["gpu-count"]),
        ("--gpus=4 --ipc host", "-tp 4", []),
        ("--gpus '\"device=0,1\"' --ipc=host", "-tp 4", ["gpu-count"]),
        ("--gpus '\"device=0,1\"' --ipc=host", "-tp 2", []),
        ("--gpus device=0 --shm-size 8g", "-tp 2", ["gpu-count"]),
        ("--gpus count=2,driver=nvidia", "-tp 1", ["gpu-count"]),
        ("--gpus all --ipc=host", "-tp 8", []),
        ("--gpus $N --ipc=host", "-tp 8", []),
        ("--gpus device=$N --ipc=host", "-tp 8", []),
        ("--gpus 2 --privileged --ipc=host", "-tp 8", []),
        ("--gpus 2 -e NVIDIA_VISIBLE_DEVICES=all --ipc=host", "-tp 8", []),
        ("--gpus 2 --ipc=host", "-tp $TP", []),
        ("--gpus 2 --ipc=host $MORE", "-tp 8", []),
        ("--device /dev/davinci0 --device /dev/davinci_manager --ipc=host", "-tp 2", ["gpu-count"]),
        ("--device /dev/davinci0 --device /dev/davinci1 --ipc=host", "-tp 2", []),
        ("--device=/dev/kfd --device=/dev/dri --ipc=host", "-tp 8", []),
        ("", "-tp 2", ["shared-memory"]),
        ("--shm-size=64m", "-tp 2", ["shared-memory"]),
        ("--shm-size=1g", "-tp 2", []),
        ("--shm-size $SHM", "-tp 2", []),
        ("--ipc container:other", "-tp 2", []),
        ("--tmpfs /dev/shm:rw", "-tp 2", []),
        ("-v /dev/shm:/dev/shm", "-tp 2", []),
        ("--mount type=tmpfs,destination=/dev/shm", "-tp 2", []),
        ("-v $SHM", "-tp 2", []),
        ("-p 80:8080", "", ["container-port"]),
        ("-p 80:8080", "--port 8080", []),
        ("-p8080:8080", "", ["container-port"]),
        ("--publish 127.0.0.1:80:8000", "", []),
        ("-p 80:8080 --network host", "", []),
        ("-p 80:8080 --net=container:other", "", []),
        ("-p 80:$PORT", "", []),
        ("-p 80:8080 -p 90:9090", "", []),
        ("--health-cmd 'curl -f http://localhost:80/health || exit 1'", "", ["probe-port"]),
        ("--health-cmd 'curl -f http://localhost:8000/health || exit 1'", "", []),
    ],
)
def test_a_command_of_docker(options: str, args: str, expected: list[str], tmp_path: Path) -> None:
    """GPUs, shared memory, ports and health check are those of the options."""
    assert run(options, args, tmp_path=tmp_path) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ["cache-on-no-volume"]),
        (f"-v $HOME/.cache/huggingface:{CACHES}/huggingface", ["cache-on-no-volume"]),
        (f"-v ${{FOLDER:-/srv}}/c:{CACHE}", []),
        (f"-v $(pwd)/c:{CACHES}", []),
        (f"-v ~/.cache:{CACHES}", []),
        ("-v /c:$WHERE", []),
        ("-v /data -e VLLM_CACHE_ROOT=/data/c", []),
        (f"--mount type=bind,source=/c,target={CACHE}", []),
        (f"--mount type=tmpfs,target={CACHE}", ["cache-on-emptydir"]),
        (f"--tmpfs {CACHES}", ["cache-on-emptydir"]),
        ("--volumes-from other", []),
        ("--env-file v.env", []),
        ("-u 1000", []),
        ("-u root", ["cache-on-no-volume"]),
        ("$OPTIONS", []),
        ('"${OPTIONS[@]}"', []),
    ],
)
def test_the_cache_of_a_command(options: str, expected: list[str], tmp_path: Path) -> None:
    """It goes with the container unless it lies on a volume; what is not known is not judged."""
    assert run(options, cache="", tmp_path=tmp_path) == expected


@pytest.mark.parametrize(
    "image",
    ["vllm/vllm-openai:v0.6.6", "vllm/vllm-openai-cpu:v0.19.1", "vllm/vllm-openai-nonroot:v0.19.1", "me/image:1"],
)
def test_an_image_whose_cache_is_not_known(image: str, tmp_path: Path) -> None:
    """A vLLM 0.6 does not compile, a CPU keeps nothing, and images may have another home or bring a cache."""
    assert seen(f"docker run {image} vllm serve m\n", tmp_path, "run.sh") == []
    assert seen(f"docker run {IMAGE} m\n", tmp_path, "run.sh") == [("cache-on-no-volume", 1)]


def test_a_mode_without_a_cache(tmp_path: Path) -> None:
    """Mode 3 alone keeps what it compiled."""
    assert run("", "-cc.mode=1", cache="", tmp_path=tmp_path) == []
    assert run("", "-cc.mode=3", cache="", tmp_path=tmp_path) == ["cache-on-no-volume"]


def test_podman_numbers_a_gpu(tmp_path: Path) -> None:
    """`podman run --gpus 1` is the GPU of that number; devices are counted for both."""
    assert run("--gpus 1 --ipc=host", "-tp 2", tmp_path=tmp_path, engine="podman") == []
    assert run("--device nvidia.com/gpu=0 --ipc=host", "-tp 2", tmp_path=tmp_path, engine="podman") == ["gpu-count"]
    assert run("--device nvidia.com/gpu=all --ipc=host", "-tp 2", tmp_path=tmp_path, engine="podman") == []


def test_a_pod_of_podman_has_its_own_ports_and_memory(tmp_path: Path) -> None:
    """They are those of the pod, which the command does not state."""
    assert run("--pod p --health-cmd 'curl http://localhost:80/'", "-tp 2", tmp_path=tmp_path, engine="podman") == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("run.sh", f"# serve\ndocker run \\\n  -p 80:8080 \\\n  -v c:{CACHE} \\\n  {IMAGE} m\n", 3),
        ("README.md", f"# Serve\n\n```sh\ndocker run \\\n  -v c:{CACHE} -p 80:8080 {IMAGE} m\n```\n", 5),
        ("r.yaml", f"guide: |\n  Serve:\n\n  ```sh\n  docker run -p 80:8080 -v c:{CACHE} {IMAGE} m\n  ```\n", 5),
        ("v.service", f"[Service]\nExecStart=/usr/bin/docker run -p 80:8080 -v c:{CACHE} {IMAGE} m\n", 2),
        ("in.sh", f"ssh node 'docker run -p 80:8080 -v c:{CACHE} {IMAGE} m'\n", 1),
    ],
)
def test_where_a_command_of_docker_stands(name: str, text: str, line: int, tmp_path: Path) -> None:
    """A finding has the line of the option in the file."""
    assert seen(text, tmp_path, name) == [("container-port", line)]
    assert seen(text.replace("80:8080", "80:8000"), tmp_path, name) == []


def test_caches_of_containers_that_share_a_folder(tmp_path: Path) -> None:
    """`cache_dir` is shared where the same volume lies below it, and not by its name alone."""
    command = "docker run -v %s:/c " + f"{IMAGE} %s -cc.cache_dir=/c/d\n"
    same = command % ("data", "a") + command % ("data", "b")
    assert seen(same, tmp_path, "run.sh") == [("cache-dir-shared", 1), ("cache-dir-shared", 2)]
    assert seen(command % ("one", "a") + command % ("two", "b"), tmp_path, "run.sh") == []


# ---- Quadlet

QUADLET = f"[Container]\nImage={IMAGE}\nExec=m -tp 2\nVolume=%h/.cache:{CACHES}:Z\n"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", [("shared-memory", 3)]),
        ("ShmSize=8g", []),
        ("ShmSize=64m", [("shared-memory", 3)]),
        ("PodmanArgs=--ipc=host", []),
        ("PodmanArgs=--shm-size 8g", []),
        ("Pod=v.pod", []),
        ("ShmSize=8g\nPublishPort=80:8080", [("container-port", 6)]),
        ("ShmSize=8g\nPublishPort=80:8000", []),
        ("ShmSize=8g\nPublishPort=80:8080\nNetwork=host", []),
        ("ShmSize=8g\nAddDevice=nvidia.com/gpu=0", [("gpu-count", 6)]),
        ("ShmSize=8g\nAddDevice=nvidia.com/gpu=all", []),
        ("ShmSize=8g\nHealthCmd=curl -f http://localhost:8080/health", [("probe-port", 6)]),
        ("ShmSize=8g\nHealthCmd=curl -f http://localhost:8000/health", []),
    ],
)
def test_a_container_of_quadlet(more: str, expected: Seen, tmp_path: Path) -> None:
    """Its entries are options of `podman run` under other names."""
    assert seen(f"{QUADLET}{more}\n", tmp_path, "v.container") == expected


def test_the_cache_of_a_container_of_quadlet(tmp_path: Path) -> None:
    """It lies on a volume, or goes with the container; another user has another home."""
    text = QUADLET.replace("-tp 2", "").replace(f"Volume=%h/.cache:{CACHES}:Z", "Tmpfs=/tmp")
    assert seen(text, tmp_path, "v.container") == [("cache-on-no-volume", 3)]
    assert seen(f"{text}UserNS=keep-id\n", tmp_path, "v.container") == []
    assert seen(f"{text}EnvironmentFile=v.env\n", tmp_path, "v.container") == []


def test_volumes_that_aliases_multiply() -> None:
    """Many services with one long list of volumes are refused, and not read for long."""
    volumes = ", ".join(f"'v{number}:/v{number}'" for number in range(1000))
    services = "".join(f"  s{number}: {{image: {IMAGE}, volumes: *v}}\n" for number in range(200))
    with pytest.raises(ValueError, match="its commands, volumes and ports make more than 100000 words"):
        list(launches_in("compose.yaml", f"x-volumes: &v [{volumes}]\nservices:\n{services}"))


def test_a_service_of_a_workflow(tmp_path: Path) -> None:
    """Its container runs for one job, and has volumes and ports that its options do not state."""
    text = (
        "jobs:\n  t:\n    services:\n      llm:\n        image: vllm/vllm-openai:v0.19.1\n"
        "        options: -p 80:8080\n        command: --model m -tp 2\n"
    )
    assert seen(text, tmp_path, "w.yaml") == []


# ---- texts of others

TEXTS = st.text(alphabet=st.sampled_from("a0:/,=\"'$%{}[]()<>|& .~\\\n-") | st.characters(), max_size=60)


@given(TEXTS)
def test_any_text_of_an_option(text: str) -> None:
    """It is read or not known: a volume has a place, and a number is small and not negative."""
    for read in (container_text.volume_of_text, container_text.volume_of_fields, container_text.tmpfs_of):
        volume = read(text, 1)
        assert volume is None or volume.path.startswith("/")
    counts = [container_text.gpus_of_option(text), container_text.listed_gpus([text]), container_text.size_of(text)]
    assert all(count is None or count >= 0 for count in counts)
    port = container_text.asked_port(text)
    assert not port or port.isdecimal()
    assert ":".join(container_text.parts_of(text)) == text


@pytest.mark.parametrize("part", ["${", "[", ":", "=,", '"', "||", "> ", "curl ", "http://localhost", "1h", "/"])
def test_a_long_text_of_an_option(part: str) -> None:
    """Reading it ends: no part of it is read again for each of its characters."""
    text = part * (200_000 // len(part))
    with limited(120):
        container_text.volume_of_text(text, 1)
        container_text.volume_of_fields(text, 1)
        container_text.asked_port(f"curl {text}")
        container_text.gpus_of_option(text)
        container_text.seconds_of(text, 1)
        container_text.size_of(text)
