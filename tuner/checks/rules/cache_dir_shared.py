"""Launches that differ and name one `cache_dir`."""

from collections.abc import Iterator, Sequence

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of


def _problems(launches: Sequence[Examined]) -> Iterator[tuple[Examined, Problem]]:
    by_folder: dict[str, list[Examined]] = {}
    for examined in launches:
        folder = examined.arguments.compilation_config.get("cache_dir") if examined.arguments else None
        if folder:
            by_folder.setdefault(str(folder), []).append(examined)
    for folder, group in by_folder.items():
        if len({(examined.launch.args, examined.launch.image) for examined in group}) > 1:
            yield from _of_group(folder, group)


def _of_group(folder: str, group: Sequence[Examined]) -> Iterator[tuple[Examined, Problem]]:
    """A problem for each launch of a group that names one `cache_dir`; each names another one of the group."""
    for launch in group:
        other = next(member for member in group if member is not launch)
        shared = f"cache_dir {folder} is shared with {other.path}:{other.launch.line}"
        message = f"{shared}; vLLM looks its entries up by shape alone."
        yield launch, Problem(message, line_of(launch, "compilation"))


RULE = Rule(
    "cache-dir-shared",
    Severity.WARNING,
    "Different launches share one cache_dir, which vLLM uses without any key.",
    of_launches=_problems,
)
