"""Texts that Docker, Podman, Compose and Kubernetes share: ports, volumes, sizes, times, devices, and commands.

Sources: docker/cli (docs/reference/commandline/container_run.md; opts/gpus.go, opts/mount.go), docker/go-units
(size.go), moby (container/health.go), containers/podman (docs/source/markdown/podman-run.1.md.in), and the Compose
specification (05-services.md: `ports`, `volumes`, `healthcheck`). What is not known is None, or empty.
"""

import csv
import re
from collections.abc import Iterable, Sequence

from tuner.manifests.launch import Port, Volume

HEALTH_CHECK = "healthcheck"
"""The name of Docker's probe."""
_MAX_DIGITS = 5
_FOLDER = re.compile(r"/[^$%`*?{}\[\]]*")
"""A path in a container that holds no substitution and no pattern."""
_SOURCE = re.compile(r"[^$%`*?{}\[\]]+")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_INTERVAL, _RETRIES, _START_PERIOD = 30.0, 3, 0.0
"""Defaults of a health check, of Docker and Podman."""
_DEVICE_ID = re.compile(r"\d{1,3}|GPU-[0-9a-fA-F-]{8,}")
"""A whole GPU, by its number or its identifier; slices have other names."""
_DEVICE = re.compile(r"nvidia\.com/gpu=\d{1,3}|/dev/davinci\d{1,3}")
"""A device that is one GPU: of the Container Device Interface, or the file of an Ascend NPU."""
_NO_GPU = re.compile(r"/dev/(?:davinci_manager|devmm_svm|hisi_hdc|infiniband(?:/\w+)?|shm|fuse)")
"""Devices that bring no GPU."""
_HOST = r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])"
_ADDRESS = re.compile(rf"(https?)://{_HOST}(?::(\d+))?(?=[/?#\s'\"]|\Z)")
_ANY_ADDRESS = re.compile(r"https?://")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ASKS = re.compile(r"(?:/[\w/.-]*/)?(?:curl|wget)\s")
_FAILS = re.compile(r"\|\|\s*(?:exit\s+1|false)\s*\Z")
_DISCARDED = re.compile(r"(?:\d|&)?>>?\s*(?:&\d|/dev/null)")
_MORE = re.compile(r"[;&|<>`$\n]|--(?:unix-socket|abstract-unix-socket|connect-to|resolve|proxy|socks)|\s-x\b")
"""In a health check: another command, a variable, or an option that asks elsewhere."""
_RAY = re.compile(r"\bray\b")
_LAUNCH = re.compile(r"\bvllm[ \t]+serve\b|\bvllm\.entrypoints\b")
_DAEMON = re.compile(
    r"(?<![\w.-])(?:nginx|envoy|haproxy|caddy|traefik|httpd|apache2|supervisord|service|systemctl|uvicorn|gunicorn)(?![\w.-])"
)
"""Programs that listen, or start others that do, and may go into the background by themselves."""
_BACKGROUND = re.compile(r"(?<![&>\d|])&(?![&>\d])")
_NOT_OWN = re.compile(r"(?:host|none)\Z|(?:container|service|ns):|.*[$%`{<]", re.DOTALL)
"""A name space that is another's, or is not known."""


def small_number(text: str | None) -> int | None:
    """A count of few digits; None for any other text."""
    return int(text) if text and text.isdecimal() and len(text) <= _MAX_DIGITS else None


# ---- what a command says


def mentions_ray(texts: Iterable[str]) -> bool:
    """Whether a command names Ray, which may bring GPUs of other machines."""
    return any(_RAY.search(text) for text in texts)


def launches_once(texts: Iterable[str]) -> bool:
    """Whether a command starts vLLM in one place at most."""
    return sum(len(_LAUNCH.findall(text)) for text in texts) <= 1


def starts_others(texts: Iterable[str]) -> bool:
    """Whether a command may start another program that stays beside vLLM."""
    return any(_BACKGROUND.search(text) or _DAEMON.search(text) for text in texts)


# ---- options of containers


def is_own(space: str) -> bool:
    """Whether a container has a name space (of its network, of its memory) of its own, by the text of the option."""
    return not _NOT_OWN.match(space)


def parts_of(text: str) -> list[str]:
    """The parts of a text between colons; a colon in `${…}`, `$(…)` or `[…]` does not part it."""
    parts: list[str] = []
    start = depth = 0
    for position, character in enumerate(text):
        if character in "{([":
            depth += 1
        elif character in "})]":
            depth -= 1
        elif character == ":" and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def port_of(text: str, line: int) -> Port | None:
    """The container's port in `[[HOST:]PORT:]PORT[/PROTOCOL]`; None for one of UDP or SCTP."""
    number, _, protocol = parts_of(text)[-1].partition("/")
    return Port(number, "", line) if (protocol or "tcp").lower() == "tcp" else None


def volume_of_text(text: str, line: int) -> Volume | None:
    """What `[SOURCE:]TARGET[:MODE]` mounts; None where the text does not say where."""
    parts = parts_of(text)
    has_drive = len(parts[0]) == 1 and any(part.startswith("/") for part in parts[2:3])
    if has_drive:  # `C:` of Windows
        parts[:2] = [":".join(parts[:2])]
    source, target = parts[:2] if len(parts) > 1 else ["", parts[0]]
    kind = "bind" if source.startswith(("/", ".", "~", "$")) or ":" in source else "volume"
    return volume_at(target, source, kind, line)


def volume_of_fields(text: str, line: int) -> Volume | None:
    """What `type=…,source=…,target=…` mounts; None where the text does not say where."""
    fields = dict(field.partition("=")[::2] for field in _fields(text))
    source = fields.get("source") or fields.get("src") or ""
    target = fields.get("target") or fields.get("destination") or fields.get("dst") or ""
    return volume_at(target, source, fields.get("type", "volume"), line)


def tmpfs_of(text: str, line: int) -> Volume | None:
    """What `TARGET[:OPTIONS]` mounts; None where the text does not say where."""
    return volume_at(parts_of(text)[0], "", "tmpfs", line)


def volume_at(target: str, source: str, kind: str, line: int) -> Volume | None:
    """A volume at a folder of the container; None where that is not known."""
    if not _FOLDER.fullmatch(target):
        return None
    is_known = bool(_SOURCE.fullmatch(source))
    return Volume(target, source, kind, line, f"{kind} {source}".rstrip("/") if is_known else "")


def size_of(text: str) -> int | None:
    """Bytes that a size such as `64m` or `1gb` states; None where it is not known."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * 2 ** _UNITS[match[2].lower()]) if match else None


def seconds_of(text: str | None, default: float) -> float | None:
    """Seconds that a time such as `1m30s` states; None where it is not known.

    Args:
        text: the time; None where it is not stated.
        default: what counts then, and for a time of 0.
    """
    if text is None:
        return default
    if _TIME.sub("", text.strip()) or not text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _TIME.findall(text)) or default


# ---- GPUs


def gpus_of_option(text: str) -> int | None:
    """How many GPUs `docker run --gpus TEXT` gives; None for all of them, and where it is not known."""
    fields = _fields(text)
    devices = [field.partition("=")[2] for field in fields if field.startswith("device=")]
    counts = [field.removeprefix("count=") for field in fields if field.removeprefix("count=").isdecimal()]
    others = len(fields) - len(devices) - len(counts) - sum(field.startswith("driver=") for field in fields)
    if others or len(devices) + len(counts) != 1:
        return None
    return listed_gpus(devices[0].split(",")) if devices else small_number(counts[0])


def listed_gpus(names: Sequence[str]) -> int | None:
    """How many GPUs these numbers and identifiers name; None where one of them is something else."""
    ids = {name.strip() for text in names for name in text.split(",")}
    return len(ids) if ids and all(_DEVICE_ID.fullmatch(name) for name in ids) else None


def device_gpus(devices: Sequence[str]) -> int | None:
    """How many GPUs these devices are; None where there are none, and where one of them is something else."""
    names = {device.partition(":")[0] for device in devices}
    gpus = {name for name in names if _DEVICE.fullmatch(name)}
    others = [name for name in names - gpus if not _NO_GPU.fullmatch(name)]
    return len(gpus) if gpus and not others else None


# ---- health checks


def asked_port(command: str) -> str:
    """The port of this host that a health check of curl or wget asks; empty where it may be another.

    Args:
        command: one shell command. One of several, or with a variable in it, is not known.
    """
    alone = _DISCARDED.sub("", _FAILS.sub("", command.strip()))
    if not _ASKS.match(alone) or _MORE.search(alone):
        return ""
    addresses = list(_ADDRESS.finditer(alone))
    if len(addresses) != 1 or len(_ANY_ADDRESS.findall(alone)) != 1:
        return ""
    return addresses[0][2] or _DEFAULT_PORTS[addresses[0][1]]


def unhealthy_after(interval: str | None, retries: str | None, start_period: str | None) -> float | None:
    """Seconds after which Docker calls a container unhealthy that never answers; None where it is not known.

    Failures in the start period do not count, and then so many in a row do as `retries` says.
    """
    seconds = seconds_of(interval, _INTERVAL), seconds_of(start_period, _START_PERIOD)
    count = _RETRIES if retries is None else small_number(retries)
    if seconds[0] is None or seconds[1] is None or count is None:
        return None
    return seconds[1] + seconds[0] * (count or _RETRIES)


def _fields(text: str) -> list[str]:
    """The fields between commas, as Docker reads them: those in double quotes are one."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return []
