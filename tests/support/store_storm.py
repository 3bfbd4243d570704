"""Storms on a store: processes that write and read at once, and processes that are killed in the middle of it.

    python tests/support/store_storm.py crowd FOLDER 64          # so many processes
    python tests/support/store_storm.py long-crowd FOLDER 64     # the same, with more to write
    python tests/support/store_storm.py kills FOLDER 1000        # so many kills, among four processes that write
    python tests/support/store_storm.py making FOLDER 100        # kills while a store is being made
    python tests/support/store_storm.py upgrade FOLDER 100       # kills while an older store is being upgraded
    python tests/support/store_storm.py damage FOLDER 10000      # files of which a stretch is overwritten

Each checks what it did, and prints what it counted as JSON. Processes are forked, so a storm runs in a process that
has no thread of its own: the parent only reads the store.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import sqlitedict  # noqa: F401  here, and not anew in every process that is forked
from cache_samples import execute, old_store, sample

from cache import filesystem
from cache.errors import StoreError
from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore

WRITERS = 4
LATEST = 20
"""So many of the entries told last are looked up after each kill; at the end all of every process are."""
OLD_ENTRIES = 300
LONGEST_PUT = 0.06
"""Seconds; kills fall up to so long after a moment that is known."""
LONG_PUTS = 50
EACH_PUTS = 1_000_000
"""More than one process puts in its life."""


def main() -> None:
    """Run one storm and print its counts."""
    parser = argparse.ArgumentParser(description="Storms on a verdict store.")
    parser.add_argument("storm", choices=STORMS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--network", action="store_true", help="as if the folder were on a network file system")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    if options.network:  # a fake: the kernel's table of mounts, for want of a network file system
        filesystem.MOUNTS = options.folder / "mountinfo"
        filesystem.MOUNTS.write_text("1 0 0:1 / / rw - nfs4 server:/ rw\n")
    started = time.monotonic()
    counts = STORMS[options.storm](options.folder, options.count, random.Random(options.seed))  # noqa: S311  no secret
    print(json.dumps({**counts, "seconds": round(time.monotonic() - started, 1)}))  # noqa: T201  the result


def crowd(folder: Path, processes: int, _: random.Random, puts: int = 3) -> dict[str, int]:
    """Processes that begin with no store, at one moment; each reads its own entries back, and others' entries."""
    path = folder / "crowd" / "verdicts.sqlite"
    gate, opening = os.pipe()
    waiting = [
        forked(lambda first=number * puts: in_the_crowd(path, gate, opening, first, puts))
        for number in range(processes)
    ]
    os.close(opening)
    for child in waiting:
        ended_well(child)
    expected = processes * puts
    check_all(path, range(expected))
    return {"processes": processes, "puts": expected, "reads": 2 * expected, "lost": 0}


def long_crowd(folder: Path, processes: int, dice: random.Random) -> dict[str, int]:
    """The same for longer."""
    return crowd(folder, processes, dice, LONG_PUTS)


def in_the_crowd(path: Path, gate: int, opening: int, first: int, puts: int) -> None:
    """One of them: puts its own entries; what it reads of others is whole."""
    os.close(opening)
    os.read(gate, 1)  # until the last holder of the other end lets go
    store = VerdictStore(path)
    for number in range(first, first + puts):
        store.put(small(number))
        other = random.randrange(first + puts)  # noqa: S311  no secret
        require(store.get(small(number).key) == small(number), f"{number} is lost")
        require(store.get(small(other).key) in (None, small(other)), f"{other} is not what was put")


def kills(folder: Path, count: int, dice: random.Random) -> dict[str, int]:
    """Kills, one after another, among processes that write; what a victim told is there, and the file is sound."""
    path, told, firsts = folder / "kills.sqlite", folder / "told", itertools.count(0, EACH_PUTS)
    told.mkdir()
    writers = [begin(path, told, next(firsts)) for _ in range(WRITERS)]
    acknowledged = 0
    for _ in range(count):
        child, first = writers.pop(dice.randrange(WRITERS))
        until(lambda first=first: numbers_in(told / str(first)))
        time.sleep(dice.uniform(0, LONGEST_PUT))
        killed(child)
        numbers = numbers_in(told / str(first))
        check(path, numbers[-LATEST:])
        acknowledged += len(numbers)
        writers.append(begin(path, told, next(firsts)))
    for child, first in writers:
        killed(child)
        acknowledged += len(numbers_in(told / str(first)))
    check_all(path, [number for file in told.iterdir() for number in numbers_in(file)])
    return {"kills": count, "writers": WRITERS, "acknowledged": acknowledged, "lost": 0}


def begin(path: Path, told: Path, first: int) -> tuple[int, int]:
    """A process that puts entries from a number on, and tells each number once `put` has returned."""
    (told / str(first)).touch()

    def put_for_ever() -> None:
        with (told / str(first)).open("ab", buffering=0) as file:
            for number in itertools.count(first):
                VerdictStore(path).put(small(number))
                file.write(b"%d\n" % number)

    return forked(put_for_ever), first


def making(folder: Path, count: int, dice: random.Random) -> dict[str, int]:
    """Kills while a store is being made: there is none, or a whole one, and the next process can write."""
    paths = [folder / str(number) / "verdicts.sqlite" for number in range(count + 1)]
    longest, made = duration(paths.pop()), 0
    for path in paths:
        kill_a_put(path, dice.uniform(0, longest))
        made += path.exists()
        ended_well(forked(lambda path=path: VerdictStore(path).put(small(2))))
        check(path, [2])
        require(VerdictStore(path).get(small(1).key) in (None, small(1)), "half an entry")
    return {"kills": count, "made": made}


def upgrade(folder: Path, count: int, dice: random.Random) -> dict[str, int]:
    """Kills while a store of the first schema is upgraded: every entry is there, in the old shape or in the new one."""
    old, path, upgraded = folder / "old.sqlite", folder / "copy.sqlite", 0
    old_store(old, [small(number) for number in range(2, OLD_ENTRIES)])
    longest = duration(Path(shutil.copy(old, path)))
    for _ in range(count):
        shutil.copy(old, path)
        kill_a_put(path, dice.uniform(0, longest))
        check_all(path, range(2, OLD_ENTRIES))
        ((schema,),) = execute(path, "SELECT value FROM verdicts WHERE key = 'schema'")
        upgraded += schema != "1"
        for left in folder.glob("copy.sqlite*"):
            left.unlink()
    return {"kills": count, "entries": OLD_ENTRIES, "upgraded": upgraded}


def damage(folder: Path, count: int, dice: random.Random) -> dict[str, int]:
    """Files of which a stretch was overwritten: no answer is another entry than was stored."""
    path = folder / "damaged.sqlite"
    VerdictStore(path).put(sample(1), sample(2))
    whole = path.read_bytes()
    answers, puts = Counter({"as stored": 0, "errors": 0, "misses": 0}), 0
    for _ in range(count):
        path.write_bytes(overwritten(whole, dice))
        os.utime(path, (0, 0))  # a look-up waits until a file that was just written is older than the clock's step
        answers.update(answer(path, number) for number in (1, 2, 3))
        puts += put_or_refused(path)
        for log in folder.glob("damaged.sqlite-*"):
            log.unlink()
    return {"files": count, "answers": answers.total(), **answers, "wrong": 0, "puts": puts}


def put_or_refused(path: Path) -> bool:
    """Whether a put into a damaged file succeeded; if not, it says what to do."""
    try:
        VerdictStore(path).put(sample(4))
    except StoreError as problem:
        require(problem.hint != "", "an error without advice")
        return False
    return True


def overwritten(whole: bytes, dice: random.Random) -> bytes:
    """One stretch replaced by zeros, by noise, by a stretch from elsewhere in the file, or by nothing up to the end."""
    start, length = dice.randrange(len(whole)), dice.choice([1, 16, 512, 4096])
    elsewhere = dice.randrange(len(whole))
    new = dice.choice([b"\0" * length, dice.randbytes(length), whole[elsewhere:][:length], b""])
    return (whole[:start] + new + whole[start + len(new) :])[: len(whole)] if new else whole[:start]


def answer(path: Path, number: int) -> str:
    """What came of a look-up, 3 being stored nowhere."""
    try:
        found = VerdictStore(path).get(sample(number).key)
    except StoreError as problem:
        require(problem.hint != "", "an error without advice")
        return "errors"
    require(found is None or (found == sample(number) and number < 3), "another entry than was stored")
    return "as stored" if found else "misses"


def duration(path: Path) -> float:
    """Seconds that a process needs for one put, with some to spare."""
    started = time.monotonic()
    ended_well(forked(lambda: VerdictStore(path).put(small(1))))
    return 1.2 * (time.monotonic() - started)


def kill_a_put(path: Path, after: float) -> None:
    """Begin a put in a process, and kill it so many seconds later."""
    child = forked(lambda: VerdictStore(path).put(small(1)))
    time.sleep(after)
    killed(child)


def small(number: int) -> Entry:
    """A small entry, so that thousands are quickly checked."""
    return sample(number, padding=100)


def check(path: Path, numbers: list[int]) -> None:
    """The file is sound, and each of these entries is found as it was put."""
    for number in numbers:
        require(VerdictStore(path).get(small(number).key) == small(number), f"{number} is lost")
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        require(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "the file is damaged")


def check_all(path: Path, numbers: Iterable[int]) -> None:
    """As `check`, for so many that the whole store is read."""
    check(path, [])
    stored = {entry.key["number"]: entry for entry in VerdictStore(path).entries()}
    for number in numbers:
        require(stored.get(number) == small(number), f"{number} is lost")


def require(held: bool, otherwise: str) -> None:
    """End the storm with what is wrong."""
    if not held:
        raise SystemExit(otherwise)


def numbers_in(file: Path) -> list[int]:
    """The numbers a process has told."""
    return [int(line) for line in file.read_text().split("\n")[:-1]]


def until(held: Callable[[], object]) -> None:
    """Wait for something, a minute at most."""
    end = time.monotonic() + 60
    while not held():
        require(time.monotonic() < end, "a process came to nothing")
        time.sleep(0.001)


def forked(work: Callable[[], None]) -> int:
    """Do some work in a process of its own, which ends without what the parent has planned for its own end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001  said, and the parent fails
            sys.stderr.write(f"{problem!r}\n")
            os._exit(1)
        os._exit(0)
    return child


def killed(child: int) -> None:
    """Kill a process, which has not failed before."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    require(status in {0, signal.SIGKILL}, "a process failed")


def ended_well(child: int) -> None:
    """Wait for a process that comes to its end by itself."""
    require(os.waitpid(child, 0)[1] == 0, "a process failed")


STORMS = {
    "crowd": crowd,
    "long-crowd": long_crowd,
    "kills": kills,
    "making": making,
    "upgrade": upgrade,
    "damage": damage,
}


if __name__ == "__main__":
    main()
