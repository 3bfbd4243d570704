"""A compile cache on the container's own file system."""

from collections.abc import Iterator

from tuner.checks.cache_place import home_is_known, volume_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import (
    cache_folder,
    fills_a_cache,
    named,
    unit_of,
    whole_pod,
)

_ONCE = "Job"
"""The kind whose pod is to run once."""


def _problems(examined: Examined) -> Iterator[Problem]:
    pod, folder = whole_pod(examined), cache_folder(examined)
    if pod is None or folder is None or examined.launch.shape == _ONCE:
        return
    if pod.variables_elsewhere or pod.volumes_elsewhere:
        return
    if not fills_a_cache(examined) or not home_is_known(examined.launch) or volume_of(folder, pod):
        return
    where = f"The compile cache {named(folder)} lies on the container's own file system"
    yield Problem(f"{where}: every new {unit_of(pod)} compiles again. Mount a persistent volume there.")


RULE = Rule(
    "cache-on-no-volume",
    Severity.WARNING,
    "The compile cache lies on no volume: every new pod or container compiles again.",
    of_launch=_problems,
    names_basis=False,
)
