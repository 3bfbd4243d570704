"""Verdicts as text."""

from collections.abc import Iterator, Sequence
from itertools import takewhile, zip_longest

from cache.verdicts.entry import Entry, ProbeOrigin
from cache.verdicts.place import Place
from rules.errors import ReportError
from rules.reason import first_sentences
from rules.report import Report, parse_report
from rules.verdict import Verdict, Witness
from tuner.text import LABEL, columns, line, lines
from tuner.verdicts.evidence import evidence_rows
from tuner.verdicts.origin import imported_full, origin_told, printable, ran_code

DIGEST_LENGTH = 64


UNREADABLE = f"{'evidence':<{LABEL}}a report that this release cannot read"


WITNESS_ROWS = 6
"""Calls of a witness that are shown: the first ones, and those up to the first that differs."""


def entry_text(entry: Entry, verdict: Verdict, *, verbose: bool = False) -> str:
    """What `tuner verdicts show` prints: the factors of the key, the verdict, what it rests on.

    Args:
        entry: what is stored.
        verdict: its verdict.
        verbose: list every launch that was traced.
    """
    short = {name: value[:12] if is_digest(value) else value for name, value in entry.key.items()}
    factors = [line(name, value or "none") for name, value in short.items()]
    if entry.origin:
        factors.append(line("model", origin_text(entry.origin)))
    try:
        rests_on = evidence_text(entry, parse_report(entry.report), verdict, "sources not compared", verbose=verbose)
    except ReportError:
        rests_on = UNREADABLE
    return "\n".join([*factors, judged_text(verdict), rests_on])


def origin_text(origin: ProbeOrigin) -> str:
    """What was probed, and where."""
    file = f", in {printable(origin.file)}" if origin.file else ""
    host = f", on {printable(origin.host)}" if origin.host else ""
    return f"{printable(origin.name)}{file}{host}"


def is_digest(value: object) -> bool:
    """Whether a factor is a SHA-256, of which the start tells readers enough."""
    return isinstance(value, str) and len(value) == DIGEST_LENGTH and set(value) <= set("0123456789abcdef")


def judged_text(verdict: Verdict) -> str:
    """The verdict, its reasons, and its witness if it has one."""
    parts = [line("verdict", verdict.word), lines("reasons", first_sentences(verdict.reasons))]
    return "\n".join([*parts, *([witness_text(verdict.witness)] if verdict.witness else [])])


def evidence_text(
    entry: Entry, report: Report, verdict: Verdict, checked: str, stands_in: str = "", *, verbose: bool = False
) -> str:
    """How much was seen, when, where it comes from, and what was done otherwise than a launch would.

    Args:
        entry: what is stored.
        report: its report.
        verdict: its verdict.
        checked: whether its source files were compared.
        stands_in: the sentence about a verdict of another platform.
        verbose: list every launch that was traced.
    """
    kinds = dict.fromkeys(assumption.kind for assumption in report.assumptions)
    return "\n".join(
        [
            *(lines(label, texts) for label, texts in evidence_rows(report, verdict, verbose=verbose)),
            line("probed", f"{entry.probed_at}, {checked}; key {entry.digest[:12]}"),
            *(line("", text) for text in (ran_code(entry), imported_full(entry), stands_in) if text),
            line("assumed", ", ".join(kinds)),
        ]
    )


def witness_text(witness: Witness) -> str:
    """The two orders side by side, as far as the first call that differs."""
    registered, executed = short_names(witness.registered, witness.executed)
    differs = first_difference(witness.registered, witness.executed)
    row_count = max(WITNESS_ROWS, differs + 2)
    width = max(map(len, [*registered, "registered"]))
    head = line("witness", f"call  {'registered':<{width}}  ran in {witness.scenario}")
    return "\n".join([head, *_rows(registered, executed, differs, row_count, width)])


def _rows(left: Sequence[str], right: Sequence[str], differs: int, row_count: int, width: int) -> Iterator[str]:
    pairs = list(zip_longest(left, right, fillvalue="-"))
    for index, (registered, ran) in enumerate(pairs[:row_count]):
        mark = "   <- differs" if index == differs else ""
        yield line("", f"{index + 1:>4}  {registered:<{width}}  {ran}{mark}")
    if len(pairs) > row_count:
        yield line("", f"   …  {len(pairs) - row_count} more")


def first_difference(registered: Sequence[str], executed: Sequence[str]) -> int:
    """Index of the first call that counting would resolve wrongly; the end of the shorter list if there is none."""
    pairs = enumerate(zip(registered, executed, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(registered), len(executed)))


def short_names(*orders: Sequence[str]) -> list[list[str]]:
    """Layer names without the leading modules they all share."""
    split = [[name.split(".") for name in order] for order in orders]
    columns_of_parts = zip(*(parts for order in split for parts in order), strict=False)
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, columns_of_parts))
    return [[".".join(parts[shared:]) or parts[-1] for parts in order] for order in split]


def unreadable_text(count: int, place: Place) -> tuple[str, str]:
    """What `tuner verdicts list` says of entries that this release cannot read, and what to do."""
    entries = "1 entry" if count == 1 else f"{count} entries"
    return (
        f"This release cannot read {entries}: an older one wrote them, or they are damaged. They decide nothing.",
        f"Probe the models again, or remove an entry with `{place.command('verdicts', 'forget', 'KEY')}`.",
    )


def verdicts_table(entries: Sequence[tuple[Entry, Verdict | None]]) -> str:
    """What `tuner verdicts list` prints: one line an entry; without a verdict it is `unreadable`."""
    rows = [("KEY", "VERDICT", "ARCHITECTURE", "VLLM", "TORCH", "PLATFORM", "PROBED", "MODEL", "HOST", "ORIGIN")]
    for entry, verdict in entries:
        key = entry.key
        where = (str(key["vllm"]), str(key["torch"]), str(key["platform"]))
        name, host = (entry.origin.name, entry.origin.host) if entry.origin else (None, None)
        probed = (entry.probed_at[:10], printable(name) or "-", printable(host) or "-", origin_told(entry))
        rows.append(
            (
                entry.digest[:12],
                str(verdict.word) if verdict else "unreadable",
                str(key["architecture"]),
                *where,
                *probed,
            )
        )
    return columns(rows, optional=("HOST", "ORIGIN", "TORCH", "PROBED"))
