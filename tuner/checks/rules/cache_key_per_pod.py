"""A variable that is another one in each pod, and counts in the key of the compile cache."""

from collections.abc import Iterator

from rules.compile_variables import RELEASES, VARIABLES
from rules.releases import named_release, numbers_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import fills_a_cache

_OF_EACH_POD = frozenset({"metadata.name", "metadata.uid", "status.podIP", "status.podIPs"})
_OF_EACH_NODE = frozenset({"spec.nodeName", "status.hostIP", "status.hostIPs"})
_KEEP_NAMES = frozenset({"StatefulSet", "LeaderWorkerSet"})
"""Kinds whose new pods have the names of those that they replace."""


def _problems(examined: Examined) -> Iterator[Problem]:
    release = _release(examined.version)
    if release is None or examined.launch.pod is None or not fills_a_cache(examined):
        return
    for field in examined.launch.pod.fields:
        if field.path == "metadata.name" and examined.launch.shape in _KEEP_NAMES:
            continue
        where = _where(field.path)
        if where and field.variable in _counted_in(release):
            counts = f"{field.variable} is {field.path}, and vLLM {release} puts it in the key of its compile cache"
            message = f"{counts}: each {where} compiles again.{_remedy(field.variable, release)}"
            yield Problem(message, field.line)


def _where(path: str) -> str:
    """Where a field has a value of its own: in each `pod`, on each `node`, or nowhere (empty)."""
    if path in _OF_EACH_POD:
        return "pod"
    return "node" if path in _OF_EACH_NODE else ""


def _release(version: str | None) -> str | None:
    """The release whose variables are known; None where they are not."""
    named = named_release(version)
    if named is None or named.preview:
        return None
    return next((release for release in RELEASES if numbers_of(release) == named.release), None)


def _counted_in(release: str) -> set[str]:
    """The variables that count in the key of a release."""
    counted: set[str] = set()
    for (first, last), names in VARIABLES.items():
        if numbers_of(first) <= numbers_of(release) <= numbers_of(last):
            counted.update(names.split())
    return counted


def _remedy(variable: str, release: str) -> str:
    """The first later release that leaves the variable out of its key, as a sentence; empty if none does."""
    later = (other for other in RELEASES[RELEASES.index(release) :] if variable not in _counted_in(other))
    first = next(later, None)
    return f" vLLM {first} leaves it out." if first else ""


RULE = Rule(
    "cache-key-per-pod",
    Severity.WARNING,
    "A variable that differs between pods counts in the key of the compile cache.",
    of_launch=_problems,
)
