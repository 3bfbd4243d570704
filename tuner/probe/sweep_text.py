"""The output of `tuner probe --all`, as text and as JSON values. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rules.verdict import Word
from tuner.probe.text import probed_row
from tuner.text import columns, line

if TYPE_CHECKING:
    from tuner.probe.candidates import Candidate
    from tuner.probe.models import Probed  # starts processes: a look-up must not import it

ORDER = [*map(str, Word)]
"""The order of verdicts in the table; failures come behind them."""


@dataclass(frozen=True)
class Summary:
    """The results of a registry, in numbers.

    Attributes:
        verdicts: verdict -> count, in the order of the table; with those that were stored before.
        stored_before: count of verdicts that were stored before.
        needs_config: count of architectures that need a configuration from the user.
        failed: kind of failure -> count.
        workers: how many models were probed at once; 0 if nothing was probed.
        wall_seconds: of the whole run.
        median_seconds: of the models probed now, vLLM's import excluded; None if there were none.
    """

    verdicts: dict[str, int]
    stored_before: int
    needs_config: int
    failed: dict[str, int]
    workers: int
    wall_seconds: float
    median_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON document's `summary`; seconds to a tenth."""
        middle = None if self.median_seconds is None else round(self.median_seconds, 1)
        return vars(self) | {"wall_seconds": round(self.wall_seconds, 1), "median_seconds": middle}


def summary_of(results: Sequence["Probed"], needs_config: int, workers: int, wall_seconds: float) -> Summary:
    """Count the results."""
    words = Counter(str(result.verdict.word) for result in results if result.verdict)
    kinds = Counter(result.failure.kind for result in results if result.failure)
    seconds = [result.seconds for result in results if result.seconds]
    return Summary(
        verdicts={word: words[word] for word in ORDER if words[word]},
        stored_before=sum(result.stored for result in results),
        needs_config=needs_config,
        failed=dict(sorted(kinds.items())),
        workers=workers,
        wall_seconds=wall_seconds,
        median_seconds=median(seconds) if seconds else None,
    )


def registry_text(results: Sequence["Probed"], needing: Sequence["Candidate"], summary: Summary) -> str:
    """A line for each architecture, by verdict and then by name, and the counts below."""
    heads = ("ARCHITECTURE", "VERDICT", "MOE LAYERS", "SECONDS", "NOTE")
    rows = [*map(probed_row, in_order(results))]
    without = [(candidate.architecture, "needs a config", "", "", candidate.reason) for candidate in needing]
    return "\n".join([columns([heads, *rows, *sorted(without)]), "", summary_text(summary)])


def in_order(results: Sequence["Probed"]) -> list["Probed"]:
    """The results by verdict, then by name; failures last, by kind."""
    return sorted(results, key=_place)


def _place(result: "Probed") -> tuple[int, str, str]:
    position = ORDER.index(str(result.verdict.word)) if result.verdict else len(ORDER)
    return position, result.failure.kind if result.failure else "", result.name


def summary_text(summary: Summary) -> str:
    """The counts, a line for each; a count of zero is left out."""
    before = f" ({summary.stored_before} stored before)" if summary.stored_before else ""
    rows = [line("verdicts", counted(summary.verdicts) + before)]
    if summary.failed:
        rows.append(line("failed", counted(summary.failed)))
    if summary.needs_config:
        rows.append(line("needs config", f"{summary.needs_config}; give theirs with --configs DIR"))
    took = f"{summary.wall_seconds:.0f} s"
    if summary.workers:
        took += f" with {summary.workers} worker{'s' * (summary.workers > 1)}"
    if summary.median_seconds is not None:
        took += f", median {summary.median_seconds:.1f} s a model"
    return "\n".join([*rows, line("time", took)])


def counted(counts: dict[str, int]) -> str:
    """`41 uniform, 2 conditional`; `none` without any."""
    return ", ".join(f"{count} {word}" for word, count in counts.items()) or "none"
