"""What is known of the plugins that bring vLLM a platform, and what it means for `fast_moe_cold_start` there.

A plugin may build its models without vLLM's MoE layers, or put classes of its own in their place. vLLM's files do not
tell this, so the table names packages and the releases of them that were read. Nothing is known of other plugins and
other releases.

An entry point of the group `vllm.platform_plugins` brings a platform (vllm/platforms/__init__.py). vLLM itself has a
platform for the TPU, but takes its class from the package `tpu-inference` (vllm/platforms/tpu.py, the same in 0.14.1
to 0.33.0).
"""

import re
from collections.abc import Iterable

from msgspec import Struct

FOREIGN = "oot:"
"""How the name of a platform begins that an entry point brings; the name of the entry point follows."""
TPU = "tpu"


_RELEASE = re.compile(
    r"(?P<numbers>[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})(?:(?P<kind>rc|\.post)(?P<count>[0-9]{1,4}))?", re.ASCII
)
"""How the releases of these packages are called."""


class PlatformPackage(Struct, frozen=True):
    """An installed package that brings vLLM a platform.

    Attributes:
        platform: `oot:NAME` by the name of its entry point, or `tpu`.
        package: its distribution, normalised by the rules of PEP 503.
        version: as its metadata states it; empty if it states none.
    """

    platform: str
    package: str
    version: str

    def __str__(self) -> str:
        """As sentences name it."""
        return f"{self.package} {self.version}".rstrip()


class Plugin(Struct, frozen=True):
    """A plugin, as its Python sources have it.

    Attributes:
        platform: that it brings.
        package: its distribution, normalised.
        first: the oldest release that was read.
        last: the newest one. All wheels of releases between the two were read; a release without one is taken to be
            like them.
        builds_layers: whether its models have MoE layers of vLLM, which the flag is about.
        replaces: the class that it puts in the place of vLLM's MoE layer or runner; empty if it replaces none.
        does: what it does with the models or with the counter, as the end of a sentence.
        source: the file of the package that shows it.
    """

    platform: str
    package: str
    first: str
    last: str
    builds_layers: bool
    replaces: str
    does: str
    source: str


_RUNS_FMS = "runs models of ibm-fms, which have no MoE layers of vLLM: the flag has no object there"

PLUGINS = (
    Plugin(
        "oot:ascend",
        "vllm-ascend",
        "0.17.0rc1",
        "0.26.0rc1",
        builds_layers=True,
        replaces="AscendMoERunner",
        does="wraps the counter around where static kernels run, and sets it back to 0 for draft models",
        source="vllm_ascend/ops/fused_moe/fused_moe.py",
    ),
    Plugin(
        "oot:spyre",
        "vllm-spyre",
        "1.0.0",
        "2.0.0rc9",
        builds_layers=False,
        replaces="",
        does=_RUNS_FMS,
        source="vllm_spyre/model_executor/model_loader/spyre.py",
    ),
    Plugin(
        "oot:sendnn_inference",
        "sendnn-inference",
        "2.0.0",
        "2.6.3",
        builds_layers=False,
        replaces="",
        does=_RUNS_FMS,
        source="sendnn_inference/model_executor/model_loader/spyre.py",
    ),
    Plugin(
        TPU,
        "tpu-inference",
        "0.18.0",
        "0.32.0",
        builds_layers=True,
        replaces="VllmMoERunner",
        does="puts a class of its own in the place of vLLM's MoE layers, and JAX compiles the model",
        source="tpu_inference/layers/vllm/custom_ops/fused_moe.py",
    ),
)
"""Every plugin that was read."""


def platform_of(name: str, packages: Iterable[PlatformPackage]) -> str | PlatformPackage:
    """The installed package that brings a platform; its name if none does, or if several may."""
    matching = [package for package in packages if package.platform == name]
    return matching[0] if len(matching) == 1 else name


def name_of(platform: str | PlatformPackage) -> str:
    """The name of a platform, whether or not it is known which package brings it."""
    return platform if isinstance(platform, str) else platform.platform


def known_plugin(platform: str | PlatformPackage) -> Plugin | None:
    """What is known of the package that brings a platform; None if this release of it was not read."""
    if isinstance(platform, str):
        return None
    plugin = _tabled(platform)
    return plugin if plugin is not None and _was_read(plugin, platform.version) else None


def not_read(platform: str | PlatformPackage) -> str:
    """Why nothing is known of what brings a platform, as a whole sentence."""
    if isinstance(platform, str):
        return f"The platform {platform} is not vLLM's own and may resolve MoE layers differently."
    sentence = f"The platform {platform.platform} is that of {platform}, which may resolve MoE layers differently"
    plugin = _tabled(platform)
    return f"{sentence}: {plugin.first} to {plugin.last} were read." if plugin else f"{sentence}."


def why_not_proved(platform: str | PlatformPackage) -> str:
    """Why no trace proves a launch on a platform, without a full stop; empty on a platform of vLLM's own.

    A package other than vLLM brings every other one, and may run MoE layers in its own way. A proof takes vLLM's own
    MoE layers, and a counter that begins at 0 and only counts up.
    """
    name = name_of(platform)
    if name != TPU and not name.startswith(FOREIGN):
        return ""
    plugin = known_plugin(platform)
    if plugin is None:
        return f"what the platform {name} does with MoE layers is not known"
    return f"{platform} {plugin.does}"


def _tabled(installed: PlatformPackage) -> Plugin | None:
    """The row of a package; another package may bring a platform of the same name."""
    for plugin in PLUGINS:
        if (plugin.platform, plugin.package) == (installed.platform, installed.package):
            return plugin
    return None


def _was_read(plugin: Plugin, version: str) -> bool:
    """Whether a version is that of a published release between the first and the last that were read."""
    place = _order(version)
    return bool(place) and _order(plugin.first) <= place <= _order(plugin.last)


def _order(version: str) -> tuple[int, ...]:
    """Sorts releases as PEP 440 does; empty for what these packages never published, such as a build of a commit."""
    release = _RELEASE.fullmatch(version)
    if release is None:
        return ()
    kind = {"rc": -1, None: 0, ".post": 1}[release["kind"]]
    return (*map(int, release["numbers"].split(".")), kind, int(release["count"] or 0))
