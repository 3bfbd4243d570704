"""A compile cache that goes with the pod."""

from collections.abc import Iterator

from tuner.checks.cache_place import volume_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import cache_folder, fills_a_cache, named, unit_of

_TEMPORARY = {"emptyDir": "{name}, an emptyDir", "tmpfs": "a tmpfs"}
"""Kinds of volumes that go with their pod or container."""


def _problems(examined: Examined) -> Iterator[Problem]:
    folder, pod = cache_folder(examined), examined.launch.pod
    if folder is None or pod is None or not fills_a_cache(examined):
        return
    volume = volume_of(folder, pod)
    if volume is not None and volume.kind in _TEMPORARY:
        what = _TEMPORARY[volume.kind].format(name=volume.name)
        lies = f"The compile cache {named(folder)} lies on {what} at {volume.path}"
        yield Problem(f"{lies}: every new {unit_of(pod)} compiles again.", volume.line)


RULE = Rule(
    "cache-on-emptydir",
    Severity.WARNING,
    "The compile cache lies on an emptyDir or a tmpfs: every new pod or container compiles again.",
    of_launch=_problems,
    names_basis=False,
)
