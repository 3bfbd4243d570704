"""Findings about what surrounds a launch: its image, its compile cache, its startupProbe. Pure."""

from collections.abc import Iterator, Sequence

from tuner.checks.examine import Examined
from tuner.checks.finding import LaunchFinding, Rule, finding, line_of
from tuner.launch.cache_root import cache_root
from tuner.manifests.image import parse_image
from tuner.manifests.launch import Volume

CACHE_HOME = "/root"
"""HOME in vLLM's images, whose user is root."""


def of_image(examined: Examined) -> Iterator[LaunchFinding]:
    """Whether the image's name says which vLLM serves."""
    image = examined.launch.image
    if image and not parse_image(image).pinned and "$" not in image:
        message = f"The image {image} is not pinned: which vLLM serves may change with every pull."
        yield finding(examined, Rule.UNPINNED, message, line=examined.launch.image_line, based=False)


def of_cache(examined: Examined) -> Iterator[LaunchFinding]:
    """The volume that holds the compile cache, if it is one that goes with the pod."""
    config = examined.arguments.compilation_config if examined.arguments else {}
    stated = {name: value for name, value in examined.launch.env.items() if value is not None}
    if None in (examined.launch.env.get(name, "") for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")):
        return
    folder = str(config.get("cache_dir") or cache_root({"HOME": CACHE_HOME, **stated})[0])
    volume = _volume_of(folder, examined.launch.volumes)
    if volume is not None and volume.kind == "emptyDir":
        lies = f"The compile cache {folder} lies on {volume.name}, an emptyDir at {volume.path}"
        message = f"{lies}: every new pod compiles again."
        yield finding(examined, Rule.CACHE_LOST, message, line=volume.line, based=False)


def _volume_of(folder: str, volumes: Sequence[Volume]) -> Volume | None:
    """The volume that a folder lies on: the deepest mount above it."""
    above = [volume for volume in volumes if f"{folder}/".startswith(volume.path.rstrip("/") + "/")]
    return max(above, key=lambda volume: len(volume.path), default=None)


def of_probe(examined: Examined, cold_start: float | None) -> Iterator[LaunchFinding]:
    """Whether the startupProbe waits as long as a measured cold start takes."""
    allowed = examined.launch.startup_seconds
    if cold_start is not None and allowed is not None and allowed < cold_start:
        message = f"The startupProbe waits {allowed:.0f} s, and a cold start was measured to take {cold_start:.0f} s."
        yield finding(examined, Rule.PROBE_SHORT, message, line=examined.launch.startup_line, based=False)


def shared_caches(launches: Sequence[Examined]) -> Iterator[LaunchFinding]:
    """Launches that differ and name one `cache_dir`: one finding for each launch of such a group."""
    by_folder: dict[str, list[Examined]] = {}
    for examined in launches:
        folder = examined.arguments.compilation_config.get("cache_dir") if examined.arguments else None
        if folder:
            by_folder.setdefault(str(folder), []).append(examined)
    for folder, group in by_folder.items():
        if len({(examined.launch.args, examined.launch.image) for examined in group}) > 1:
            yield from _shared(folder, group)


def _shared(folder: str, group: Sequence[Examined]) -> Iterator[LaunchFinding]:
    """A finding for each launch of a group that names one `cache_dir`; each names another one of the group."""
    for launch in group:
        other = next(member for member in group if member is not launch)
        message = (
            f"cache_dir {folder} is shared with {other.path}:{other.launch.line};"
            " vLLM looks its entries up by shape alone."
        )
        yield finding(launch, Rule.CACHE_SHARED, message, line=line_of(launch, "compilation"))
