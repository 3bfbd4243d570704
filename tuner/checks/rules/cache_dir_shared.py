"""Launches that differ and name one `cache_dir`."""

from collections.abc import Iterator, Sequence

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of
from tuner.checks.rules.surroundings import place_of


def _problems(launches: Sequence[Examined]) -> Iterator[tuple[Examined, Problem]]:
    by_place: dict[str, list[tuple[Examined, str]]] = {}
    for examined in launches:
        folder = examined.arguments.compilation_config.get("cache_dir") if examined.arguments else None
        place = _place(examined, str(folder)) if folder else None
        if place is not None:
            by_place.setdefault(place, []).append((examined, str(folder)))
    for group in by_place.values():
        if len({(examined.launch.args, examined.launch.image) for examined, _ in group}) > 1:
            yield from _of_group(group)


def _place(examined: Examined, folder: str) -> str | None:
    """Where a `cache_dir` lies; None where no other pod can reach it."""
    launch = examined.launch
    in_container = launch.pod is not None or launch.image is not None
    return place_of(examined, folder) if in_container else folder


def _of_group(group: Sequence[tuple[Examined, str]]) -> Iterator[tuple[Examined, Problem]]:
    """A problem for each launch of a group that names one `cache_dir`; each names another one of the group."""
    for launch, folder in group:
        other = next(member for member, _ in group if member is not launch)
        shared = f"cache_dir {folder} is shared with {other.path}:{other.launch.line}"
        message = f"{shared}; vLLM looks its entries up by shape alone."
        yield launch, Problem(message, line_of(launch, "compilation"))


RULE = Rule(
    "cache-dir-shared",
    Severity.WARNING,
    "Different launches share one cache_dir, which vLLM uses without any key.",
    of_launches=_problems,
)
