"""Writes store.md: the store under kills, crowds and damage, and its speed. Half an hour on a busy machine.

.venv/bin/python -m tools.evidence.make_store                          # everything, then the page
.venv/bin/python -m tools.evidence.make_store kills damage --kills 20  # these alone; the page, once all have been run
.venv/bin/python -m tools.evidence.make_store page                     # the page alone

The counts of each part are stored in `.cache/store`, for the page.
"""

import argparse
import itertools
import json
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

from tools.evidence import ROOT
from tools.evidence.page import run, shell_block, table, write

STORM = "tests/support/store_storm.py"
BENCHMARK = "benchmarks/store.py"
JOURNALS = {"write-ahead log": (), "rollback journal": ("--network",)}
STORMS = ("long-crowd", "kills", "making", "upgrade", "damage")
SPEED = "speed"
RESULTS = ROOT / ".cache" / "store"


def main() -> None:
    """Run the parts that the command line names, and write the page if no part is missing."""
    parser = argparse.ArgumentParser(description="Write docs/evidence/store.md anew.")
    parser.add_argument("parts", nargs="*", choices=[*STORMS, SPEED, "page", []], default=[])
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 1_000, 100_000, 1_000_000])
    options = parser.parse_args()
    counts = {"long-crowd": options.processes, "kills": options.kills, "damage": options.files}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in [part for part in options.parts or [*STORMS, SPEED] if part != "page"]:
        for journal in journals_of(part):
            with tempfile.TemporaryDirectory() as folder:
                count = counts.get(part, options.kills // 5)
                command = bench(options.sizes) if part == SPEED else storm(part, journal, count, folder)
                result_file(part, journal).write_text(json.dumps([command[1:], output_of(*command)]))
    if all(map(is_complete, (*STORMS, SPEED))):
        page()


def page() -> None:
    """Write the page from the stored counts."""
    command, benchmark_table = json.loads(result_file(SPEED, next(iter(JOURNALS))).read_text())
    write(
        "store.md",
        "# The verdict store under kills, crowds and damage",
        shell_block("python", STORM, "STORM", "FOLDER", "COUNT"),
        READING,
        table(HEADS, list(itertools.chain.from_iterable(map(rows_of, STORMS)))),
        REMARKS,
        "## Found by the storms and their tests, and mended",
        MENDED,
        "## Against plain sqlite3",
        shell_block("python", *command),
        benchmark_table.strip(),
        RATIOS,
        f"Made on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, by `tools/evidence/make_store.py`, on a busy machine.",
    )


def result_file(part: str, journal: str) -> Path:
    """The file with one part's command and what it printed."""
    return RESULTS / f"{part}-{journal.split(maxsplit=1)[0]}.json"


def is_complete(part: str) -> bool:
    """Whether a part ran with each of its journals."""
    return all(result_file(part, journal).exists() for journal in journals_of(part))


def rows_of(part: str) -> list[tuple[str, ...]]:
    """The rows of a storm."""
    return [row(part, journal) for journal in journals_of(part)]


def journals_of(part: str) -> list[str]:
    """The journals of a part. Damage is read alike with both, and speed is measured with the usual journal."""
    return list(JOURNALS)[: 1 if part in {"damage", SPEED} else 2]


def storm(name: str, journal: str, count: int, folder: str) -> list[str]:
    """The command of a storm."""
    return [sys.executable, STORM, name, folder, str(count), *JOURNALS[journal]]


def bench(sizes: list[int]) -> list[str]:
    """The command of the benchmark."""
    return [sys.executable, BENCHMARK, "--sizes", *map(str, sizes)]


HEADS = ("storm", "journal", "counted", "lost or wrong", "seconds")


def row(part: str, journal: str) -> tuple[str, ...]:
    """The row of a storm with a journal."""
    counts = json.loads(json.loads(result_file(part, journal).read_text())[1])
    seconds, failed = counts.pop("seconds"), counts.pop("lost", counts.pop("wrong", 0))
    numbers = ", ".join(f"{what} {number:,}" for what, number in counts.items())
    return part, journal, numbers, str(failed), f"{seconds:.0f}"


def output_of(*command: str) -> str:
    """The output of a command, which must succeed and print nothing on stderr."""
    process = run(*command)
    if process.returncode or process.stderr:
        sys.exit(f"{command}: {process.stderr[-2000:]}")
    return process.stdout


READING = (
    "A storm ends with an error, and the page is not made, at the first entry that is lost or is not equal to what was "
    "put, and at the first process that fails, for example with *database is locked*. *long-crowd*: that many "
    "processes begin at one moment, without a store. Each puts 50 entries, reads each back, and reads an entry of "
    "another process. *kills*: `kill -9` of one of four processes that put without pause, up to 60 ms after the store "
    "reported an entry as stored. After each kill the latest entries are looked up and `PRAGMA integrity_check` runs; "
    "at the end all are looked up. *acknowledged* counts them. *making*: the kill comes during the very first put. "
    "*made* counts how often there was a store already. *upgrade*: the kill comes during the first put into a store of "
    "schema 1. *upgraded* counts how often the new schema was committed already. *damage*: a stretch of the file is "
    "overwritten with zeros, noise or another stretch, or the file is cut. *errors* say what to do next, *misses* "
    "include the entry of three that was never stored, and *puts* counts the writes that did not touch the damage."
)
REMARKS = (
    "On a network file system the store uses the rollback journal. There was none here: the kernel's table of mounts "
    "is a fake, and the journal is used on a local disk. `kill -9` does not lose what the system has already taken. "
    "That a commit is also on the disk is shown by `tests/test_cache_sqlitedict.py`, which watches the calls; the "
    "power was not cut. The same storms with smaller counts are in `tests/test_cache_crash.py` and "
    "`tests/test_cache_damage.py`."
)
MENDED = """\
- Records without a checksum: bytes of another record in their place gave another entry than was stored. Schema 2.
- SQLite quotes damage in its messages; where that is not UTF-8, Python raised `UnicodeDecodeError`, a traceback.
- A look-up read the file's first bytes itself. Closing the file took away the locks of this process, also those of an
  import that had asked what was stored. Nothing but SQLite opens the file now.
- A log without its store (the file was moved or removed alone) would have been applied to the next store there.
- With a rollback journal an import of more than SQLite's cache locked itself out, for it read while it wrote.
- With a rollback journal at least four of 64 processes gave up after 30 seconds, as others always came first. Now
  a process gives up only if nobody else has written meanwhile."""
RATIOS = (
    "Medians over 60 rounds, each from open to close, both in turn on one file and one disk; the ratio is the median "
    "of the rounds' ratios. Plain sqlite3 opens, does the one transaction on the same table, and closes; it checks "
    "neither schema nor checksum nor fields."
)


if __name__ == "__main__":
    main()
