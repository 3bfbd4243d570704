"""report -> judge: any report is judged or refused, and no loss makes a verdict safe.

Of an order that lost its end, or is in another order, the judge alone cannot always tell: a wrong pass may look like
any short one. There the store's checksum decides, and `fuzz_row` asks for it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from hypothesis import strategies as st
from reports import NOT_COMPILED, compiled, failure, layers, proof, report, whole

from fuzz.limit import limited
from fuzz.mutate import Draw, Path, Places, by_depth, drop, mutated, on_place, paths, reorder, shorten
from fuzz.sentence import require_sentence
from rules.errors import ReportError
from rules.judge import judge
from rules.report import parse_report
from rules.verdict import Verdict, Word

ROOT = File(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "catalogue"
A, B, C = layers(3)


@dataclass(frozen=True)
class Reported:
    """A report, what is judged of it, and where everything in it stands."""

    report: dict[str, Any]
    word: Word
    places: Places
    fields: Places
    orders: Places
    entries: Places


def by_hand() -> list[dict[str, Any]]:
    """Reports of every word, each for one reason alone, so that the loss of that reason shows."""
    return [
        report(compile=compiled(([A, B, C], [A, B, C]))),
        report([]),
        report(orders={"token_7_decode": [A, C]}),
        report(orders={"token_7_decode": [A, B, A]}),
        report(orders={"decode_1": [C, B, A]}),
        report(whole=whole([B, A])),
        report(whole=whole(status="failed", detail="no memory", scenarios=[])),
        report([], whole=whole()),
        report(proofs=[]),
        report(proofs=[proof((A, B, C), "--dtype", "half")]),
        report(proofs=[proof(rank=NOT_COMPILED)]),
        report(proofs=[proof(rank={"failures": [failure(file="vllm/a.py", line=46)]})]),
        report(proofs=[proof(rank={"calls": [A, B]})]),
        report(proofs=[proof(rank={"calls": [B, A, C]}), proof((A, B, C), "--dtype", "half")]),
        report(proofs=[proof(rank={"assumptions": [{"kind": "moon_phase", "detail": "-"}]})]),
        report(observation_method="counted"),
        report(observation_method="hook"),
        report(registered=[], declares_experts=True),
    ]


def ground(_: File) -> list[Reported]:
    """Reports of every word: by hand, of the samples, and of the catalogue."""
    samples = sorted((ROOT / "tests" / "samples").glob("[cf]*-*/*.json")) + sorted(
        (ROOT / "tests" / "samples" / "current").glob("*.json")
    )
    found = [*by_hand(), *(json.loads(file.read_text(encoding="utf-8")) for file in samples), *_catalogued()]
    return [_reported(data) for data in found]


def _catalogued() -> list[dict[str, Any]]:
    """Reports that fit on one line: all that are not uniform, and a few that are."""
    found: list[dict[str, Any]] = []
    for file in sorted(CATALOGUE.glob("*.jsonl")):
        entries = [json.loads(line)["entry"] for line in file.read_text(encoding="utf-8").splitlines()]
        plain = [entry for entry in entries if '"#":' not in json.dumps(entry["report"])]
        other = [entry for entry in plain if entry["verdict"]["word"] != Word.UNIFORM]
        found += [entry["report"] for entry in [*other, *plain[:2]]]
    return found


def _reported(data: dict[str, Any]) -> Reported:
    places = tuple(paths(data))
    orders = tuple(place for place in places if len(place) > 1 and place[-2] in {"passes", "eager", "compiled"})
    entries = tuple(
        place for place in places if len(place) == 2 and place[0] == "scenarios"
    )  # of those, all are planned
    fields = tuple(place for place in places if place and isinstance(place[-1], str))
    groups = [by_depth(group) for group in (places, fields, orders, entries)]
    return Reported(data, judge(parse_report(data)).word, *groups)


def case(draw: Draw, known: list[Reported]) -> str:
    """Damage one report in any way, or take something from it."""
    chosen = draw(st.sampled_from(known))
    with limited():
        way = draw(st.sampled_from(["damage", "field", "scenario", "order"]))
        if way == "damage":
            return "damaged: " + judged(mutated(draw, chosen.report, chosen.places))
        return "weakened: " + weakened(draw, chosen, way)


def judged(data: Any) -> str:
    """Judge a report of any shape."""
    try:
        found = judge(parse_report(data))
    except ReportError as error:
        require_sentence(error)
        return "refused"
    assert Verdict.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert (found.witness is not None) == found.word.unsafe
    assert found.reasons
    return str(found.word)


Loss = tuple[Callable[[Reported], Places], Callable[[Draw, Any, Path], None]]
LOSSES: dict[str, list[Loss]] = {
    "field": [(lambda known: known.fields, on_place(drop))],
    "scenario": [(lambda known: known.entries, on_place(drop))],
    "order": [(lambda known: known.orders, on_place(shorten)), (lambda known: known.orders, on_place(reorder))],
}
"""What may be lost -> where such things stand, and how one is."""


def weakened(draw: Draw, known: Reported, way: str) -> str:
    """Take up to three things of one kind from a report: no verdict gets safer by it."""
    where, change = draw(st.sampled_from(LOSSES[way]))
    data = mutated(draw, known.report, where(known) or known.fields, changes=[change])
    word = judged(data)
    safe = word in {Word.UNIFORM, Word.NO_MOE}
    may_look_right = way == "order" and known.word.unsafe
    assert not safe or known.word.safe or may_look_right, f"{known.word} became {word} by the loss of a {way}"
    return word
