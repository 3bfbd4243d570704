"""stored row -> read: a row that is not as it was written is refused in a sentence, and never decides a launch.

Every reader of the store is asked: look-up and plan, list, show and export.
"""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from fake_environment import ERNIE, LLAMA, MIXTRAL, SETTABLE, sample, serving_in
from hypothesis import strategies as st
from msgspec.structs import replace

from cache.verdicts.row import sources_row, verdict_row
from cache.verdicts.schema import sealed
from cache.verdicts.store import VerdictStore
from fuzz.limit import limited
from fuzz.mutate import TEXTS, Draw, Places, by_depth, bytes_mutated, json_text, mutated, paths, text_mutated
from fuzz.sentence import require_sentence
from rules.errors import TunerError
from rules.verdict import Word
from tuner.exchange.transfer import export
from tuner.launch.document import plan_document
from tuner.launch.plan import Options, make_plan, minimal_arguments
from tuner.launch.text import plan_text
from tuner.model.model import identify
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import known_verdict
from tuner.verdicts.text import entry_text, verdicts_table

OWN = TunerError
OPTIONS = Options(fail_on_unknown=False, enforce=False, cache_root=None, cache_dir_in_config=False, environ={})
PICKLE = b"\x80\x04K\x01."
VALUES: list[Any] = [None, 7, 0.5, b"", PICKLE, *TEXTS[:3], "{}", "[]", "null", "[" * 100_000]
"""Of a row that holds no entry at all, a pickle among them."""


@dataclass(frozen=True)
class Stored:
    """One stored verdict: what it is about, its two rows, and where everything in each stands."""

    subject: Subject
    word: Word
    rows: tuple[tuple[str, Any, Places], ...]


@dataclass(frozen=True)
class Ground:
    """A store with verdicts of four words, and what is in it."""

    path: File
    stored: tuple[Stored, ...]


def ground(folder: File) -> Ground:
    """Real reports, stored as if they had been probed in one environment; one more of them is not proved."""
    serving = serving_in(folder / "env", SETTABLE)
    path = folder / "verdicts.sqlite"
    open_end = sample(MIXTRAL, "flag-live") | {"proofs": []}
    reports = [(MIXTRAL, None, "auto"), (ERNIE, None, "auto"), (LLAMA, None, "auto"), (MIXTRAL, open_end, "vllm")]
    stored = []
    for model, report, implementation in reports:
        subject = Subject(identify(str(model)), serving.read(), implementation)
        entry, verdict = serving.remember(path, model, report, implementation)
        rows = [(verdict_row(entry.key), entry.to_dict()), (sources_row(entry.key), sorted(entry.sources))]
        found = tuple((name, value, by_depth(paths(value))) for name, value in rows)
        stored.append(Stored(subject, verdict.word, found))
    return Ground(path, tuple(stored))


def case(draw: Draw, ground: Ground) -> str:
    """Damage one row, ask a reader, and put it back."""
    known = draw(st.sampled_from(ground.stored))
    name, value, places = draw(st.sampled_from([known.rows[0], known.rows[0], known.rows[1]]))
    planted = draw(st.sampled_from([False, False, True]))
    with limited():
        changed = planted_by(draw, value, places) if planted else damaged(draw, sealed(name, json.dumps(value)))
        written(ground.path, name, sealed(name, changed) if planted and isinstance(changed, str) else changed)
        try:
            return ("planted, " if planted else "damaged, ") + asked(draw, ground.path, known, planted)
        finally:
            written(ground.path, name, sealed(name, json.dumps(value)))


def damaged(draw: Draw, text: str) -> str | bytes:
    """What a disk may give back: another text, or bytes that are none."""
    if draw(st.booleans()):
        return text_mutated(draw, text)
    return bytes_mutated(draw, text.encode())


def planted_by(draw: Draw, value: Any, places: Places) -> Any:
    """What somebody may put there under a checksum that is right: a changed record, or another thing.

    Whoever can write the store can write a verdict into it; nothing else may come of it.
    """
    if draw(st.sampled_from([True, False, False, False])):
        return draw(st.sampled_from(VALUES))
    changed = mutated(draw, value, places)
    if isinstance(changed, dict) and draw(st.booleans()):
        changed["rules"] = "those of another release"
    return json_text(changed)


def written(path: File, name: str, value: Any) -> None:
    """Put a value into a row behind the store's back: texts as texts, though they be no UTF-8."""
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    how = "CAST(? AS TEXT)" if isinstance(text, bytes) and not text.startswith(PICKLE) else "?"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"UPDATE verdicts SET value = {how} WHERE key = ?", (text, name))  # noqa: S608  a constant
    os.utime(path, ns=(0, 0))  # a reader waits out the clock's step behind a write


def asked(draw: Draw, path: File, known: Stored, planted: bool) -> str:
    """Ask one reader: what each says can be printed, and no launch is safer than the verdict that was stored."""
    store = VerdictStore(path)
    readers: dict[str, Callable[[], object]] = {
        "plan": lambda: launched(store, known, planted),
        "list": lambda: listing(store),
        "export": lambda: bool(export(store, [], None).text),
    }
    reader = draw(st.sampled_from(list(readers)))
    return f"{reader}: {said(readers[reader])}"


def said(reader: Callable[[], object]) -> str:
    """`read`, or `refused` in a sentence."""
    try:
        reader()
    except OWN as error:
        require_sentence(error)
        return "refused"
    return "read"


def listing(store: VerdictStore) -> None:
    """As `tuner verdicts list` and `show`."""
    entries = list(store.entries())
    both = [(entry, known_verdict(store, entry)) for entry in entries]
    text = verdicts_table(both) + "".join(entry_text(entry, verdict) for entry, verdict in both)
    json.dumps([entry.to_dict() | {"verdict": verdict.to_dict()} for entry, verdict in both])
    assert text


def launched(store: VerdictStore, known: Stored, planted: bool) -> None:
    """As `tuner plan`, for people and for programs."""
    subject = known.subject
    arguments = minimal_arguments(subject.model.name, None, subject.model_impl, trust_remote_code=False)
    plan = make_plan(store, replace(subject), arguments, OPTIONS)
    assert plan_text(plan)
    json.dumps(plan_document(plan), allow_nan=False)
    found = plan.lookup.verdict
    if not planted and not known.word.safe:
        assert found is None or not found.word.safe, f"{known.word} became {found.word}"
        assert plan.decision.setting is not True
