"""What FlashInfer's autotune measures, written where no later start finds it."""

from collections.abc import Iterator

from rules.autotune import OFF
from tuner.arguments.autotune import autotune_wish
from tuner.checks.cache_place import home_is_known, volume_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import (
    keeps_a_tree,
    tree_folder,
    unit_of,
    whole_pod,
)
from tuner.manifests.launch import Pod

_ONCE = "Job"
"""The kind whose pod is to run once."""
_SHORT_LIVED = {"emptyDir", "tmpfs"}


def _problems(examined: Examined) -> Iterator[Problem]:
    pod, folder = whole_pod(examined), tree_folder(examined)
    if pod is None or folder is None or examined.launch.shape == _ONCE or not keeps_a_tree(examined):
        return
    if examined.arguments is None or autotune_wish(examined.arguments) is not None:
        return
    where, line = _loss(folder, pod, home_known=home_is_known(examined.launch))
    if where:
        measures = f"every new {unit_of(pod)} may measure FlashInfer's kernels again, for seconds to hours"
        cure = f"Mount a persistent volume there, or give {OFF}, which may make each step slower"
        yield Problem(f"The folder {folder} {where}: {measures}. {cure}.", line)


def _loss(folder: str, pod: Pod, *, home_known: bool) -> tuple[str, int | None]:
    """Why nothing stays in a folder, and the line that says so; empty if it may stay."""
    volume = volume_of(folder, pod)
    if volume is None:
        is_known = home_known and not pod.variables_elsewhere and not pod.volumes_elsewhere
        return ("lies on the container's own file system" if is_known else "", None)
    if volume.read_only:
        return f"lies on {volume.name or volume.path}, which is mounted read-only", volume.line
    if volume.kind in _SHORT_LIVED:
        return f"lies on {volume.name or volume.path}, of the kind {volume.kind}", volume.line
    return "", None


RULE = Rule(
    "autotune-lost",
    Severity.NOTE,
    "What FlashInfer's autotune measures goes with the pod or container: each new one measures again.",
    of_launch=_problems,
    names_basis=False,
)
