"""A compile cache that goes with the pod."""

from collections.abc import Iterator, Sequence

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.launch.cache_root import cache_root
from tuner.manifests.launch import Volume

CACHE_HOME = "/root"
"""HOME in vLLM's images, whose user is root."""


def _problems(examined: Examined) -> Iterator[Problem]:
    config = examined.arguments.compilation_config if examined.arguments else {}
    stated = {name: value for name, value in examined.launch.env.items() if value is not None}
    if None in (examined.launch.env.get(name, "") for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")):
        return
    folder = str(config.get("cache_dir") or cache_root({"HOME": CACHE_HOME, **stated})[0])
    volume = _volume_of(folder, examined.launch.volumes)
    if volume is not None and volume.kind == "emptyDir":
        lies = f"The compile cache {folder} lies on {volume.name}, an emptyDir at {volume.path}"
        yield Problem(f"{lies}: every new pod compiles again.", volume.line)


def _volume_of(folder: str, volumes: Sequence[Volume]) -> Volume | None:
    """The volume that a folder lies on: the deepest mount above it."""
    above = [volume for volume in volumes if f"{folder}/".startswith(volume.path.rstrip("/") + "/")]
    return max(above, key=lambda volume: len(volume.path), default=None)


RULE = Rule(
    "cache-on-emptydir",
    Severity.WARNING,
    "The compile cache lies on an emptyDir: every new pod compiles again.",
    of_launch=_problems,
    names_basis=False,
)
