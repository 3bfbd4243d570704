"""Writes bundles.md: bundles changed, cut, forged and imported by force.

.venv/bin/python -m tools.evidence.make_bundles [--cases N]

Everything runs in this process, through the functions that the commands call. The same checks, with fewer cases, are in
`tests/test_signing.py`, `tests/test_bundle.py` and `tests/test_cli_verdicts_bundle.py`.
"""

import argparse
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace
from test_bundle import LINE, refused_or_equal
from test_signing import BUNDLE, checked, signed_in

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import TunerError
from rules.verdict import Word
from tools.evidence import ROOT
from tools.evidence.page import footer, shell_block, table, write
from tuner.exchange.bundle import Bundled, BundleError, line_in, line_of
from tuner.exchange.signing import signature_file
from tuner.exchange.transfer import import_file
from tuner.verdicts.origin import HERE, IMPORTED

CATALOGUE = ROOT / "docs" / "catalogue"
HEADS = ("what was done", "cases", "refused", "read as it was", "read as something else")


def main() -> None:
    """Make the page."""
    parser = argparse.ArgumentParser(description="Write bundles.md.")
    parser.add_argument("--cases", type=int, default=10_000, help="random cases of each kind")
    cases = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as folder:
        signed = [signed_row(name, texts, Path(folder)) for name, texts in changes(cases).items()]
        signatures = signature_row(Path(folder))
        forged = forgeries(Path(folder))
    write(
        "bundles.md",
        "# Bundles that were changed, cut, forged and forced",
        shell_block(".venv/bin/python", "-m", "tools.evidence.make_bundles", "--cases", str(cases)),
        f"## A signed bundle of {len(BUNDLE):,} bytes, its signature required",
        table(HEADS, [*signed, signatures]),
        "Nothing signs the comment in the first line of the signature file, and nothing reads it.",
        f"## A line of {len(LINE):,} bytes, without a signature",
        "Without a signature only damage is detected: an attacker can compute a new checksum for a changed line.",
        table(HEADS, [line_row(cases)]),
        "## Unsafe verdicts of a probe, and bundles that call the same keys safe",
        "Every unsafe verdict of the catalogue is stored as probed here; every safe report of the same catalogue is put"
        " under its key, and imported with each set of options.",
        table(("options", "forged bundles", "stored", "still unsafe"), forged),
        footer("evidence"),
    )


def changes(cases: int) -> dict[str, Iterator[bytes]]:
    """Kind of change -> the changed texts of a signed bundle."""
    chance = random.Random(6)  # noqa: S311  the same cases each time
    size = len(BUNDLE)
    places = (chance.randrange(size) for _ in range(cases))
    return {
        "each bit of each byte changed": bit_changes(),
        "cut before each byte": (BUNDLE[:at] for at in range(size)),
        "each byte left out": (BUNDLE[:at] + BUNDLE[at + 1 :] for at in range(size)),
        "up to 64 random bytes in a random place": (
            BUNDLE[:at] + chance.randbytes(chance.randint(1, 64)) + BUNDLE[at + chance.randint(0, 64) :]
            for at in places
        ),
    }


def bit_changes() -> Iterator[bytes]:
    """The bundle once for each of its bits, with that bit changed."""
    for at, bit in itertools.product(range(len(BUNDLE)), range(8)):
        yield BUNDLE[:at] + bytes([BUNDLE[at] ^ 1 << bit]) + BUNDLE[at + 1 :]


def signed_row(name: str, texts: Iterator[bytes], folder: Path) -> tuple[str, ...]:
    """One line of the table of signed bundles."""
    bundle = signed_in(folder / name.replace(" ", "-"))
    outcomes: Counter[str] = Counter()
    for text in texts:
        bundle.write_bytes(text)
        outcomes[outcome(bundle)] += 1
    return row(name, outcomes)


def signature_row(folder: Path) -> tuple[str, ...]:
    """The row of the signature file: each bit is changed, except in the first line."""
    bundle = signed_in(folder / "signature")
    file = signature_file(bundle)
    whole, outcomes = file.read_bytes(), Counter[str]()
    for at, bit in itertools.product(range(whole.index(b"\n"), len(whole) - 1), range(8)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        outcomes[outcome(bundle)] += 1
    return row("each bit of the signature file changed, from the end of its first line", outcomes)


def outcome(bundle: Path) -> str:
    """Whether a bundle whose signature is required is refused, read as the same, or read as something else."""
    try:
        return "same" if checked(bundle).text == BUNDLE else "other"
    except TunerError:
        return "refused"


def line_row(cases: int) -> tuple[str, ...]:
    """A line of an unsigned bundle, changed at random."""
    chance = random.Random(6)  # noqa: S311  as above
    outcomes: Counter[str] = Counter()
    for _ in range(cases):
        at, more = chance.randrange(len(LINE)), chance.randbytes(chance.randint(0, 3))
        text = LINE[:at] + more + LINE[at + chance.randint(0, 3) :]
        try:
            line_in(text)
        except BundleError:
            outcomes["refused"] += 1
        else:
            outcomes["same" if refused_or_equal(text) else "other"] += 1
    return row("up to 3 random bytes in the place of up to 3", outcomes)


def row(name: str, outcomes: Counter[str]) -> tuple[str, ...]:
    """The row of one kind of change."""
    counts = (outcomes.total(), outcomes["refused"], outcomes["same"], outcomes["other"])
    return (name, *(f"{count:,}" for count in counts))


def forgeries(folder: Path) -> list[tuple[str, ...]]:
    """Each set of options, and whether the unsafe verdicts stayed."""
    local, forged = attacks()
    store, bundle = VerdictStore(folder / "store.sqlite"), folder / "forged.jsonl"
    rows = []
    for giving_way in ((), (IMPORTED,), (HERE,), (IMPORTED, HERE)):
        store.put(*local)
        replaced = 0
        for entries in forged:
            bundle.write_text("".join(line_of(Bundled(entry, None)) for entry in entries))
            fates = import_file(store, bundle, giving_way=giving_way).fates
            replaced += fates.total() - fates["kept_local"] - fates["kept_unsafe"]
        unsafe = sum(Word(entry.verdict["word"]).unsafe for entry in store.entries())
        options = {HERE: "--replace-local", IMPORTED: "--replace"}
        words = " ".join(options[origin] for origin in giving_way) or "none"
        rows.append((words, f"{sum(map(len, forged)):,}", str(replaced), f"{unsafe} of {len(local)}"))
    return rows


def disguise_all(entries: list[Entry], other: Entry) -> list[Entry]:
    """Each of these entries with the report of another one."""
    return [disguise(entry, other) for entry in entries]


def attacks() -> tuple[list[Entry], list[list[Entry]]]:
    """Unsafe entries of the catalogue, and bundles in which each has another entry's safe report."""
    local, bundles = [], []
    for file in sorted(CATALOGUE.glob("*.jsonl")):
        entries = [line_in(line).entry for line in file.read_bytes().splitlines(keepends=True)]
        unsafe = [entry for entry in entries if Word(entry.verdict["word"]).unsafe]
        safe = [entry for entry in entries if Word(entry.verdict["word"]).safe]
        local += unsafe
        bundles += [disguise_all(unsafe, other) for other in safe]
    return local, bundles


def disguise(entry: Entry, other: Entry) -> Entry:
    """A safe report under the key of an unsafe entry."""
    report = other.report | {"sources": entry.sources}
    return replace(entry, report=report, verdict=other.verdict)


if __name__ == "__main__":
    main()
