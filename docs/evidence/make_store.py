"""Writes store.md: the store under kills, crowds and damage, and its speed. About a quarter of an hour.

.venv/bin/python docs/evidence/make_store.py
.venv/bin/python docs/evidence/make_store.py --kills 20 --processes 8 --files 100 --sizes 1 1000     # a quick look
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile

from page import run, shown, table, write

STORM = "tests/store_storm.py"
BENCHMARK = "benchmarks/store.py"
JOURNALS = {"write-ahead log": (), "rollback journal": ("--network",)}


def main() -> None:
    """Run every storm and the benchmark, and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/evidence/store.md anew.")
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 1_000, 100_000, 1_000_000])
    options = parser.parse_args()
    storms = {"long-crowd": options.processes, "kills": options.kills}
    storms |= {"making": options.kills // 5, "upgrade": options.kills // 5, "damage": options.files}
    rows = [told(name, count, journal) for name, count in storms.items() for journal in journals_of(name)]
    sizes = [str(size) for size in options.sizes]
    write(
        "store.md",
        "# The verdict store under kills, crowds and damage",
        shown("python", STORM, "STORM", "FOLDER", "COUNT"),
        READING,
        table(("storm", "journal", "counted", "lost or wrong", "seconds"), rows),
        REMARKS,
        "## Against plain sqlite3",
        shown("python", BENCHMARK, "--sizes", *sizes),
        succeeded(sys.executable, BENCHMARK, "--sizes", *sizes).strip(),
        SPEED,
        f"Made on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, by `docs/evidence/make_store.py`.",
    )


def journals_of(storm: str) -> list[str]:
    """Damage is read alike with either."""
    return list(JOURNALS)[:1] if storm == "damage" else list(JOURNALS)


def told(name: str, count: int, journal: str) -> tuple[str, ...]:
    """One storm's line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        counts = json.loads(succeeded(sys.executable, STORM, name, folder, str(count), *JOURNALS[journal]))
    print(name, journal, counts, flush=True)
    seconds, failed = counts.pop("seconds"), counts.pop("lost", counts.pop("wrong", 0))
    counted = ", ".join(f"{what} {number:,}" for what, number in counts.items())
    return name, journal, counted, str(failed), f"{seconds:.0f}"


def succeeded(*command: str) -> str:
    """What a command printed, which must come to a good end."""
    done = run(*command)
    if done.returncode or done.stderr:
        sys.exit(f"{command}: {done.stderr[-2000:]}")
    return done.stdout


READING = (
    "A storm ends with an error, and the page is not made, at the first entry that is lost, that is not equal to what "
    "was put, or at a process that fails, so also at a *database is locked*. *long-crowd*: that many processes begin "
    "at one moment, without a store, and each puts 50 entries, reads each back and reads one of the others'. *kills*: "
    "`kill -9` of one of four processes that put without pause, up to 60 ms after it was told that an entry is stored; "
    "after each kill its latest entries are looked up and `PRAGMA integrity_check` runs, at the end all are looked up; "
    "*acknowledged* counts them. *making*: the kill falls into the first put of all; *made* counts how often there was "
    "a store already. *upgrade*: it falls into the first put into a store of schema 1; *upgraded* counts how often the "
    "new schema was committed already. *damage*: a stretch of the file is overwritten with zeros, noise or another "
    "stretch, or the file is cut; *errors* name the way out, *misses* include the one entry of three that was never "
    "stored, and *puts* counts the writes that did not meet the damage."
)
REMARKS = (
    "The rollback journal is what a network file system gets. None was at hand: the kernel's table of mounts is a fake "
    "there, and the journal is at work on a local disk. `kill -9` leaves what the system has already taken; that a "
    "commit is also on the disk is shown by `tests/test_cache_sqlitedict.py`, which watches the calls, not by pulling "
    "a plug. The same storms with smaller counts are in `tests/test_cache_crash.py` and `tests/test_cache_damage.py`."
)
SPEED = (
    "Medians over 60 rounds, each from open to close, both by turns on one file and one disk; the ratio is the median "
    "of the rounds' ratios. Plain sqlite3 opens, does the one transaction on the same table, and closes; it checks "
    "neither schema nor checksum nor fields."
)


if __name__ == "__main__":
    main()
