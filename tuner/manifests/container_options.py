"""What the options of `docker run` and `podman run`, or the entries of a Quadlet container, state for a container."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tuner.manifests import container_text
from tuner.manifests.container_text import HEALTH_CHECK
from tuner.manifests.launch import OWN_SHARED_MEMORY, Pod, Port, Probe, Runtime, Volume

VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
"""The variable by which NVIDIA's runtime chooses GPUs; what counts beside `--gpus` is not known."""
_VOLUMES = {
    "volume": container_text.volume_of_text,
    "mount": container_text.volume_of_fields,
    "tmpfs": container_text.tmpfs_of,
}
_ROOT = frozenset({"root", "0"})


class ContainerOption(NamedTuple):
    """An option of `docker run`.

    Attributes:
        name: its long name without dashes.
        text: its value; what is not known in it stays as it is written.
        line: where it is stated.
    """

    name: str
    text: str
    line: int


def pod_of_options(
    options: Sequence[ContainerOption],
    command: Sequence[str],
    env: Mapping[str, str | None],
    *,
    runtime: Runtime,
    podman: bool,
) -> Pod:
    """What the options of a container state.

    Args:
        options: all of them, in order.
        command: the words of the command that runs in it.
        env: its variables.
        runtime: what states the container.
        podman: Podman runs it, whose `--gpus` takes the number of a GPU.
    """
    in_pod = _last(options, "pod") is not None
    own_network = not in_pod and container_text.is_own(_text(options, "network") or _text(options, "net") or "")
    gpus, gpus_line = _gpus(options, podman=podman)
    volumes = list(_volumes(options))
    user = (_text(options, "user") or "root").partition(":")[0]
    return Pod(
        runtime=runtime,
        volumes=tuple(volume for volume in volumes if volume is not None),
        probes=_probes(options),
        ports=tuple(_ports(options)) if own_network else (),
        gpus=None if VISIBLE_DEVICES in env else gpus,
        gpus_line=gpus_line,
        alone=own_network and not container_text.starts_others(command),
        launches_once=container_text.launches_once(command),
        mentions_ray=container_text.mentions_ray(command),
        shared_memory=None if in_pod else _shared_memory(options),
        volumes_elsewhere=None in volumes or _last(options, "volumes-from") is not None,
        variables_elsewhere=any(option.name in {"env-file", "env-host"} for option in options),
        other_user=user not in _ROOT or _last(options, "userns") is not None,
    )


def _last(options: Sequence[ContainerOption], name: str) -> ContainerOption | None:
    """The last option of a name, which is the one that counts."""
    return next((option for option in reversed(options) if option.name == name), None)


def _text(options: Sequence[ContainerOption], name: str) -> str | None:
    option = _last(options, name)
    return option.text if option else None


def _volumes(options: Sequence[ContainerOption]) -> Iterator[Volume | None]:
    """What is mounted; None for a volume of which it is not known where."""
    for option in options:
        if option.name in _VOLUMES:
            yield _VOLUMES[option.name](option.text, option.line)


def _ports(options: Sequence[ContainerOption]) -> Iterator[Port]:
    for option in options:
        port = container_text.port_of(option.text, option.line) if option.name == "publish" else None
        if port is not None:
            yield port


def _gpus(options: Sequence[ContainerOption], *, podman: bool) -> tuple[int | None, int]:
    """How many GPUs the container gets, and where that is stated; None where it is not known."""
    privileged = _text(options, "privileged")
    if privileged is not None and privileged != "false":  # it sees every device
        return None, 0
    requests = [option for option in options if option.name == "gpus"]
    devices = [option for option in options if option.name == "device"]
    if not requests and devices:
        return container_text.device_gpus([option.text for option in devices]), devices[-1].line
    if len(requests) != 1 or podman:
        return None, 0
    return container_text.gpus_of_option(requests[0].text), requests[0].line


def _shared_memory(options: Sequence[ContainerOption]) -> int | None:
    """Bytes of the container's own shared memory; None where it has another's, or the number is not known."""
    size = _text(options, "shm-size")
    if not container_text.is_own(_text(options, "ipc") or ""):
        return None
    return OWN_SHARED_MEMORY if size is None else container_text.size_of(size)


def _probes(options: Sequence[ContainerOption]) -> dict[str, Probe]:
    command = _last(options, "health-cmd")
    if command is None or _text(options, "no-healthcheck") is not None:
        return {}
    names = ("health-interval", "health-retries", "health-start-period")
    interval, retries, start_period = (_text(options, name) for name in names)
    waits = container_text.unhealthy_after(interval, retries, start_period)
    port = container_text.asked_port(command.text)
    return {HEALTH_CHECK: Probe(HEALTH_CHECK, command.line, port, command.line, waits)}
