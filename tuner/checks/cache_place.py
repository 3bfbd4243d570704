"""Where the caches of a launch lie, as its manifest states it, and whether it can get a cache root of its own. Pure."""

from collections.abc import Iterator

from tuner.launch.cache_root import CACHE_ROOT, PROOFS, cache_root
from tuner.manifests.image import parse_image
from tuner.manifests.launch import ManifestLaunch, Pod, Volume

CACHE_HOME = "/root"
"""HOME in vLLM's images, whose user is root."""
_NOT_ROOT = "-nonroot"
"""Ends the name of the build of vLLM's image that has another user (docs/deployment/docker.md)."""
NO_PLACE = (
    "no variable can be added: it takes a whole pod, a command that is vLLM alone, and an `env` list that nobody shares"
)
_TELLING = (CACHE_ROOT, "XDG_CACHE_HOME", "HOME")
"""Variables that say where vLLM keeps its caches."""


def root_of(launch: ManifestLaunch) -> str | None:
    """The cache root of a launch, with `/root` for a home that is not stated; None where a variable hides it.

    vLLM reads a `~` in it as its home (vllm/envs.py, all releases).
    """
    env = launch.env
    if any(env.get(name, "") is None for name in _TELLING):
        return None
    variables = {"HOME": CACHE_HOME, **{name: value for name, value in env.items() if value is not None}}
    return _below_home(cache_root(variables)[0], variables["HOME"])


def home_is_known(launch: ManifestLaunch) -> bool:
    """Whether the home that caches lie in is known: it is stated, none is needed, or vLLM's own image runs as root."""
    env = launch.env
    if "HOME" in env:
        return True
    stated = env.get(CACHE_ROOT) or env.get("XDG_CACHE_HOME")
    if stated and not stated.startswith("~"):
        return True
    other_user = (launch.pod is not None and launch.pod.other_user) or _NOT_ROOT in (launch.image or "")
    return not other_user and bool(launch.image) and parse_image(launch.image or "").serves


def volume_of(folder: str, pod: Pod) -> Volume | None:
    """The volume that a folder lies on: the deepest mount above it."""
    above = [volume for volume in pod.volumes if f"{folder}/".startswith(volume.path.rstrip("/") + "/")]
    return max(above, key=lambda volume: len(volume.path), default=None)


def why_not_writable(launch: ManifestLaunch, root: str) -> str:
    """Why a manifest cannot give a launch this cache root; empty if it can.

    The root lies below the folder in which vLLM keeps its caches anyway, so that it can be written wherever that can.

    Args:
        launch: the launch, which has another root now, or none.
        root: a folder of a proof.
    """
    if CACHE_ROOT in launch.env:
        return f"the container sets {CACHE_ROOT} itself"
    if launch.variable_place is None or launch.pod is None:
        return NO_PLACE
    if launch.pod.variables_elsewhere:
        return f"envFrom may set {CACHE_ROOT}"
    unseen = next((name for name in _TELLING if launch.env.get(name, "") is None), "")
    if unseen:
        return f"the value of {unseen} is not written here"
    left = next(_left_volumes(root, launch.pod), None)
    if left is not None:
        return f"caches would leave the volume at {left.path}"
    return _why_read_only(launch, launch.pod, root)


def _left_volumes(root: str, pod: Pod) -> Iterator[Volume]:
    """The volumes below the cache root of now that do not hold the new one."""
    usual, _, proof = root.partition(f"/{PROOFS}/")
    for volume in pod.volumes:
        path = f"{volume.path.rstrip('/')}/"
        home, is_below, inner = path.partition(f"{usual.removeprefix('~')}/")
        if is_below and inner and (not home or usual.startswith("~")) and not f"{PROOFS}/{proof}/".startswith(inner):
            yield volume


def _why_read_only(launch: ManifestLaunch, pod: Pod, root: str) -> str:
    """Why nothing can be written below a cache root; empty if nothing says so."""
    is_known = not root.startswith("~") or home_is_known(launch)
    folder = _below_home(root, launch.env.get("HOME") or CACHE_HOME)
    volume = volume_of(folder, pod) if is_known else None
    if volume is not None and volume.read_only:
        return f"the volume at {volume.path} is mounted to be read only"
    if volume is None and pod.read_only:
        return "the container's own file system is read-only, and the folder is not known to lie on a volume"
    return ""


def _below_home(folder: str, home: str) -> str:
    return f"{home}{folder[1:]}" if folder.startswith("~/") else folder
