"""A compile cache that goes with the pod."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import cache_folder, fills_a_cache, named, volume_of


def _problems(examined: Examined) -> Iterator[Problem]:
    folder, pod = cache_folder(examined), examined.launch.pod
    if folder is None or pod is None or not fills_a_cache(examined):
        return
    volume = volume_of(folder, pod)
    if volume is not None and volume.kind == "emptyDir":
        lies = f"The compile cache {named(folder)} lies on {volume.name}, an emptyDir at {volume.path}"
        yield Problem(f"{lies}: every new pod compiles again.", volume.line)


RULE = Rule(
    "cache-on-emptydir",
    Severity.WARNING,
    "The compile cache lies on an emptyDir: every new pod compiles again.",
    of_launch=_problems,
    names_basis=False,
)
