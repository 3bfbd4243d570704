"""Opening, reading and writing the verdict store, as ratios to plain sqlite3 doing the same transaction.

    .venv/bin/python benchmarks/store.py

Both work on one file, by turns, so that a slow moment of the machine or its disk touches both alike. As the store
keeps no handle open between calls, each figure is of a call from open to close.
"""

import argparse
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cache.verdicts.entry import Entry  # noqa: E402  after the path was set
from cache.verdicts.row import encode, sources_row, verdict_row  # noqa: E402
from cache.verdicts.schema import sealed  # noqa: E402
from cache.verdicts.store import VerdictStore  # noqa: E402

SIZES = (1, 1_000, 100_000, 1_000_000)
GET = "SELECT value FROM verdicts WHERE key = ?"
PUT = "INSERT OR REPLACE INTO verdicts VALUES (?, ?)"
REPORT = 1_000
"""Bytes of each entry's report; that of a large model takes some ten thousand."""
Pair = tuple[Callable[[int], object], Callable[[int], object]]


def main() -> None:
    """Fill a store of each size, time it, print the table."""
    parser = argparse.ArgumentParser(description="The verdict store against plain sqlite3.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    print("| entries | file, MB | transaction | store, ms | sqlite3, ms | ratio |\n" + "| --- " * 6 + "|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "verdicts.sqlite")
            fill(path, size)
            megabytes = path.stat().st_size / 1e6
            for name, pair in transactions(path, size).items():
                cells = row(*time_pair(pair, options.rounds))
                print(f"| {size:,} | {megabytes:.1f} | {name} | {cells} |", flush=True)


def fill(path: Path, size: int) -> None:
    """Fill a store with so many entries. All but the first are written with plain SQL, which is faster."""
    VerdictStore(path).put(sample(0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-1000000")
        connection.executemany(PUT, (record for number in range(1, size) for record in records(sample(number))))
    if VerdictStore(path).get(sample(size - 1).key) != sample(size - 1):
        raise SystemExit("the store was not filled")


def sample(number: int) -> Entry:
    """An entry; each number has another key and another file list."""
    return Entry(
        key={"architecture": f"Model{number % 400}ForCausalLM", "fingerprint": f"{number:064x}", "sources": "d" * 64},
        sources={"vllm/model_executor/models/mixtral.py": "a" * 64, "vllm/forward_context.py": "b" * 64},
        report={"result": "ok", "passes": "x" * REPORT},
        verdict={"word": "uniform", "reasons": ["a sample"]},
        rules="c" * 64,
        probed_at="2026-11-22T12:00:00+00:00",
    )


def records(entry: Entry) -> Iterator[tuple[str, str]]:
    """The two records of an entry, as the store writes them."""
    for name, record in plain_records(entry):
        yield name, sealed(name, record)


def plain_records(entry: Entry) -> tuple[tuple[str, str], tuple[str, str]]:
    """The same without a checksum, which plain sqlite3 does not have."""
    entry_record = verdict_row(entry.key), encode(entry.to_dict())
    return entry_record, (sources_row(entry.key), encode(sorted(entry.sources)))


def transactions(path: Path, size: int) -> dict[str, Pair]:
    """Name -> the transaction through the store, and the same with plain sqlite3. Both take the number of the round."""
    store, dice = VerdictStore(path), random.Random(size)  # noqa: S311  no secret
    entries = [sample(dice.randrange(size)) for _ in range(1_000)]
    missing, fresh = sample(10 * size + 1), [sample(20 * size + number) for number in range(2_000)]

    def plain_get(entry: Entry) -> object:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(GET, (verdict_row(entry.key),)).fetchall()
        return [json.loads(value.partition(" ")[2]) for (value,) in rows]

    def plain_put(entry: Entry) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(PUT, plain_records(entry))
            connection.execute("COMMIT")

    return {
        "open, and find nothing": (lambda _: store.get(missing.key), lambda _: plain_get(missing)),
        "get": (lambda turn: store.get(entries[turn].key), lambda turn: plain_get(entries[turn])),
        "put": (lambda turn: store.put(fresh[turn]), lambda turn: plain_put(fresh[-turn - 1])),
    }


def time_pair(pair: Pair, rounds: int) -> list[tuple[float, float]]:
    """Seconds of both in each round. A first round does not count. The order of the two changes from round to round."""
    seconds = []
    for turn in range(rounds + 1):
        order = (0, 1) if turn % 2 else (1, 0)
        spent = {}
        for which in order:
            begin = time.perf_counter()
            pair[which](turn)
            spent[which] = time.perf_counter() - begin
        seconds.append((spent[0], spent[1]))
    return seconds[1:]


def row(*seconds: tuple[float, float]) -> str:
    """Median milliseconds of both, and the median of the rounds' ratios."""
    store_ms, sqlite_ms = (1000 * statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(store_s / sqlite_s for store_s, sqlite_s in seconds)
    return f"{store_ms:.2f} | {sqlite_ms:.2f} | {ratio:.1f}"


if __name__ == "__main__":
    main()
