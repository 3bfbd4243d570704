"""A vLLM launch as a manifest states it: the arguments, each with its place, and what surrounds them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

OWN_SHARED_MEMORY = 2**26
"""Bytes at /dev/shm that a container has by itself: 64 MiB in Docker, Podman and containerd."""


STACK = "production-stack"
"""The shape of launches in values of production-stack's chart."""
RAY_SERVE = "Ray Serve LLM"
"""The shape of launches in configurations of Ray Serve."""
WHOLE = frozenset(
    {
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "LeaderWorkerSet",
        "Pod",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
    }
)
"""Kinds that run pods as they are written; operators and charts add volumes, variables, ports and probes of their own.
"""


class Form(StrEnum):
    """How an argument list is written, which decides how it may be edited."""

    BLOCK = "block"
    """A YAML list, one item a line."""
    FLOW = "flow"
    """A YAML list in brackets."""
    JSON = "json"
    """A list of JSON, such as the exec form of a Dockerfile."""
    SHELL = "shell"
    """Words of a command line."""


@dataclass(frozen=True)
class ArgumentList:
    """The place in a file that holds arguments.

    Attributes:
        form: how it is written.
        start: offset at which it begins; tells two lists of one file apart.
        shell_quoted: a shell reads each item once more, as KServe's template does (`eval "… $@"`).
        plain_yaml: it is a YAML text without quotes, in which neither `: ` nor ` #` may stand.
    """

    form: Form
    start: int
    shell_quoted: bool = False
    plain_yaml: bool = False


@dataclass(frozen=True)
class Argument:
    """One argument.

    Attributes:
        text: its value; substitutions that cannot be made stay as written.
        line: where it is written, from 1.
        start: offset of what is written for it, quotes included.
        stop: offset behind that.
        owner: the list it is written in; None where it cannot be edited here.
        unknown: it holds a substitution, so its value is not known.
    """

    text: str
    line: int
    start: int = 0
    stop: int = 0
    owner: ArgumentList | None = None
    unknown: bool = False


@dataclass(frozen=True)
class VariablePlace:
    """Where one more variable of a pod's container would be written, and what stands around its name and its value.

    Attributes:
        at: offset at which all of it goes.
        before: in front of the name.
        between: between the name and the value.
        behind: behind the value.
        quote: what the value is quoted with, `'` or `"`; empty: with nothing, if it needs nothing.
    """

    at: int
    before: str
    between: str
    behind: str
    quote: str = ""


class Runtime(StrEnum):
    """What states a container."""

    KUBERNETES = "Kubernetes"
    """A pod, or what an operator or a chart makes a pod of."""
    COMPOSE = "Compose"
    """A service of Docker Compose."""
    COMMAND = "docker run"
    """A command of Docker, Podman or nerdctl."""
    QUADLET = "Quadlet"
    """A container of systemd."""


@dataclass(frozen=True)
class Volume:
    """A volume, as mounted in the container that launches.

    Attributes:
        path: where it is mounted.
        name: the volume's name, or the folder that is mounted.
        kind: its type as Kubernetes or Docker names it, such as `emptyDir`, `bind`, `volume` or `tmpfs`; empty if it is
            not stated here.
        line: where it is mounted.
        source: what tells it from other volumes of its kind: the claim or the folder of the host, with the part of it
            that is mounted; empty if nothing does.
        medium: of an emptyDir: `Memory`, or empty for the node's disk.
        read_only: a pod mounts it so that its container cannot write into it.
    """

    path: str
    name: str
    kind: str
    line: int = field(compare=False)
    source: str = ""
    medium: str = ""
    read_only: bool = False


@dataclass(frozen=True)
class Port:
    """A port that a container states.

    Attributes:
        number: as written.
        name: empty if it has none.
        line: where it is stated.
    """

    number: str
    name: str
    line: int = field(compare=False)


@dataclass(frozen=True)
class Probe:
    """A probe of a container.

    Attributes:
        name: `startupProbe`, `livenessProbe`, `readinessProbe`, or `healthcheck` for that of Docker.
        line: where it is stated.
        port: number or name of the port that it asks; empty if it asks none, asks another host, or it is not known.
        port_line: where the port is stated.
        waits: seconds from the start after which a container that never answered is ended, or is called unhealthy by
            Docker; None: not known.
    """

    name: str
    line: int = field(compare=False)
    port: str = ""
    port_line: int = field(default=0, compare=False)
    waits: float | None = None


@dataclass(frozen=True)
class GpuGroup:
    """The GPUs that Ray, or a group of pods, may bring a launch.

    Attributes:
        owner: what has them, as the subject of a sentence in the plural, such as `The pods of the group`.
        gpus: how many they are at most.
        line: where the first of them are stated.
    """

    owner: str
    gpus: int
    line: int = field(compare=False)


@dataclass(frozen=True)
class PodField:
    """A variable that takes a field of the pod.

    Attributes:
        variable: its name.
        path: of the field, such as `status.podIP`.
        line: where the variable is stated.
    """

    variable: str
    path: str
    line: int = field(compare=False)


@dataclass(frozen=True)
class Pod:
    """What surrounds the container that launches: what its pod, its service or its command states for it.

    Attributes:
        runtime: what states the container.
        volumes: what is mounted.
        probes: its probes, by name.
        ports: the ports that the container states.
        gpus: how many it asks for; None: none is stated, or the number is not known.
        gpus_line: where that is stated.
        alone: no other container, and no other program of the same script, may listen at its ports.
        launches_once: its command starts vLLM in one place, and not in several of which one may be meant.
        mentions_ray: its command names Ray, which may bring GPUs of other nodes.
        shared_memory: bytes at /dev/shm where no volume is mounted there; None: it has those of the host or of another
            container, or the number is not known.
        volumes_elsewhere: some volumes are stated elsewhere, so that any folder may lie on one.
        variables_elsewhere: some variables are stated elsewhere, so that any may be set.
        read_only: the container cannot write into its own file system, beside its volumes.
        other_user: it runs as a user who is not root.
        has_workers: other pods take part in its launch, as KServe's `workerSpec` states them.
        fields: variables that take a field of the pod.
    """

    runtime: Runtime = Runtime.KUBERNETES
    volumes: tuple[Volume, ...] = ()
    probes: Mapping[str, Probe] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    gpus: int | None = None
    gpus_line: int = field(default=0, compare=False)
    alone: bool = True
    launches_once: bool = True
    mentions_ray: bool = False
    shared_memory: int | None = OWN_SHARED_MEMORY
    volumes_elsewhere: bool = False
    variables_elsewhere: bool = False
    read_only: bool = False
    other_user: bool = False
    has_workers: bool = False
    fields: tuple[PodField, ...] = ()

    def placed(self, line_of: Callable[[int], int]) -> "Pod":
        """The same with its lines in another text.

        Args:
            line_of: the line in that text, of a line in the text that the pod was read in.
        """
        probes = {
            name: replace(probe, line=line_of(probe.line), port_line=line_of(probe.port_line))
            for name, probe in self.probes.items()
        }
        return replace(
            self,
            volumes=tuple(replace(volume, line=line_of(volume.line)) for volume in self.volumes),
            probes=probes,
            ports=tuple(replace(port, line=line_of(port.line)) for port in self.ports),
            gpus_line=line_of(self.gpus_line),
            fields=tuple(replace(item, line=line_of(item.line)) for item in self.fields),
        )


@dataclass(frozen=True)
class ManifestLaunch:
    """One launch of vLLM.

    Attributes:
        shape: the kind of manifest, such as `Deployment` or `shell`.
        name: what tells it from others of its file.
        line: where it is stated.
        words: the arguments behind `vllm serve`.
        image: the container image as written; None where the manifest names none.
        image_line: where it is named.
        may_build_image: the manifest may build the image itself, so that a name as vLLM's own says of its platform
            nothing to rely on.
        env: variables it sets; None: the value comes from elsewhere (a secret, a field of the pod).
        variable_place: where a variable can be added that surely reaches vLLM; None where none can.
        pod: what surrounds its container; None where there is no container, or nothing is stated of it.
        gpu_group: the GPUs of all pods that it may spread over; None: they are not known, or it has one pod.
        hidden: why some arguments cannot be seen here; empty if all are seen.
        files: the text of files that the same document set puts where the launch runs, by path.
    """

    shape: str
    name: str
    line: int
    words: tuple[Argument, ...]
    image: str | None = None
    image_line: int = 0
    may_build_image: bool = False
    env: Mapping[str, str | None] = field(default_factory=dict)
    variable_place: VariablePlace | None = None
    pod: Pod | None = None
    gpu_group: GpuGroup | None = None
    hidden: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def args(self) -> tuple[str, ...]:
        """The argument list as texts."""
        return tuple(word.text for word in self.words)


@dataclass(frozen=True)
class UnreadLaunch:
    """A place in a file that starts vLLM in a form that is not read.

    Attributes:
        line: where it is, from 1.
        form: what starts it, as the end of a sentence: "a Python call of LLM(".
    """

    line: int
    form: str
