"""Proofs remembered beside a verdict: each launch once, none lost, and what becomes of damaged and outdated ones."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from cache_samples import rewrite
from fake_environment import MIXTRAL, Serving, sample
from reports import NOT_COMPILED, proof

from cache.errors import StoreError
from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import ReportError
from rules.reason import reason
from rules.verdict import Word
from tuner.model.model import identify
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import look_up, remember_proofs, remember_replays


def proved(entry: Entry, *args: str, **changes: Any) -> dict[str, Any]:
    """The proof of a launch of an entry's model."""
    return proof(entry.report["registered"], *args, sources=entry.sources, **changes)


def launches(entry: Entry) -> list[list[str]]:
    """The launches of which an entry holds a proof."""
    return [one["arguments"] for one in entry.report["proofs"]]


def stored_report(store: VerdictStore, entry: Entry) -> dict[str, Any]:
    """What is stored for an entry's key."""
    stored = store.get(entry.key)
    assert stored is not None
    return stored.report


def test_a_proof_stands_beside_others_and_in_place_of_its_own(serving: Serving, store: Path) -> None:
    """One a launch; the verdict is that of all of them."""
    entry, verdict = serving.remember(store, MIXTRAL)
    kept = VerdictStore(store)
    assert verdict.word is Word.UNIFORM
    entry, _ = remember_proofs(kept, entry, [proved(entry, "--dtype", "half")])
    assert launches(entry) == [[], ["--dtype", "half"]]
    entry, verdict = remember_proofs(kept, entry, [proved(entry, rank=NOT_COMPILED)])
    assert launches(entry) == [["--dtype", "half"], []]
    assert verdict.word is Word.NOT_COMPILED
    assert stored_report(kept, entry) == entry.report


def test_a_proof_that_another_process_stores_meanwhile_stays(serving: Serving, store: Path) -> None:
    """The entry at hand is old; what is stored counts, for proofs and for engines alike."""
    old, _ = serving.remember(store, MIXTRAL)
    kept = VerdictStore(store)
    remember_proofs(kept, old, [proved(old, "--dtype", "half")])
    entry, _ = remember_proofs(kept, old, [proved(old, "--enable-lora")])
    assert launches(entry) == [[], ["--dtype", "half"], ["--enable-lora"]]
    assert launches(remember_replays(kept, old, [])[0]) == launches(entry)


def test_many_processes_may_store_proofs_at_once(serving: Serving, store: Path) -> None:
    """Each adds one, in the same moment: none is lost."""
    entry, _ = serving.remember(store, MIXTRAL)
    barrier = Barrier(4)

    def add(number: int) -> None:
        barrier.wait()
        remember_proofs(VerdictStore(store), entry, [proved(entry, "--max-num-seqs", str(number))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    stored = VerdictStore(store).get(entry.key)
    assert stored is not None
    assert sorted(launches(stored)) == [[], *(["--max-num-seqs", str(number)] for number in range(4))]


def test_a_new_probe_keeps_the_proofs_of_launches(serving: Serving, store: Path) -> None:
    """The order is probed again without a proof: those that are stored stay beside it."""
    entry, _ = serving.remember(store, MIXTRAL)
    remember_proofs(VerdictStore(store), entry, [proved(entry, "--dtype", "half")])
    again, verdict = serving.remember(store, MIXTRAL, sample(MIXTRAL, "flag-live") | {"proofs": []})
    assert launches(again) == [[], ["--dtype", "half"]]
    assert verdict.word is Word.UNIFORM


@pytest.mark.parametrize("damage", [7, [7], [{"key": "a"}]])
def test_damaged_proofs_keep_no_new_report_out(serving: Serving, store: Path, damage: object) -> None:
    """They are dropped by a new probe, and a single proof is not put beside them."""
    entry, _ = serving.remember(store, MIXTRAL)
    rewrite(store, entry.digest, report={**entry.report, "proofs": damage})
    with pytest.raises((ReportError, StoreError)):
        remember_proofs(VerdictStore(store), entry, [proved(entry)])
    again, verdict = serving.remember(store, MIXTRAL)
    assert (launches(again), verdict.word) == ([[]], Word.UNIFORM)


def test_a_damaged_proof_is_not_stored(serving: Serving, store: Path) -> None:
    """Nothing is stored of it, and what was there stays."""
    entry, _ = serving.remember(store, MIXTRAL)
    with pytest.raises(ReportError):
        remember_proofs(VerdictStore(store), entry, [proved(entry) | {"ranks": 7}])
    assert stored_report(VerdictStore(store), entry) == entry.report


def test_a_verdict_falls_with_the_proof_behind_it(serving: Serving, store: Path) -> None:
    """Made by another worker, or of files that changed: inconclusive, and the reason says what to do."""
    entry, _ = serving.remember(store, MIXTRAL)
    remember_proofs(VerdictStore(store), entry, [proved(entry, worker="b" * 64)])
    lookup = look_up(VerdictStore(store), Subject(identify(str(MIXTRAL)), serving.read()))
    assert lookup.verdict is not None
    assert (lookup.verdict.word, [reason.code for reason in lookup.verdict.reasons]) == (
        Word.INCONCLUSIVE,
        ["proof_outdated"],
    )
    assert lookup.verdict.reasons[0].because == reason("proof_of_other_tool")
