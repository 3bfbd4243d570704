"""report -> judge: any report is judged or refused, and no loss makes a verdict safe.

Of an order that lost its end, or is in another order, the judge alone cannot always tell: a wrong pass may look like
any short one. There the store's checksum decides, and `fuzz_row` asks for it. The same holds for the arms of the flag.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from hypothesis import strategies as st
from ladder_samples import ALL_FACTS, ON_GPU, WITH_FLAG, distance, failed, ladder
from reports import NOT_COMPILED, compiled, failure, layers, proof, report, whole

from fuzz.limit import limited
from fuzz.mutate import Draw, Path, Places, by_depth, drop, mutated, on_place, paths, reorder, shorten
from fuzz.sentence import require_sentence
from rules.errors import ReportError
from rules.judge import judge
from rules.ladder_finding import ArmWord
from rules.report import parse_report
from rules.verdict import Verdict, Word

ROOT = File(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "catalogue"
A, B, C = layers(3)


@dataclass(frozen=True)
class Reported:
    """A report, what is judged of it, and where everything in it stands.

    `launches`: the keys of the launches that their arms show as right.
    """

    report: dict[str, Any]
    word: Word
    launches: frozenset[str]
    places: Places
    fields: Places
    orders: Places
    entries: Places
    arms: Places


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
        *(report(ladders=[ladder(facts)]) for facts in ALL_FACTS),
        *(report(ladders=[ladder(ON_GPU, changes)]) for changes in NOT_RIGHT),
        report(ladders=[ladder(WITH_FLAG, {"flag_on": APART})]),
        report(ladders=[ladder(ON_GPU, {"full": {**APART, "texts": TEXTS}})]),
    ]


TEXTS = {"prompt": "tokens_7", "own": "left", "below": "right", "are_numbers": False}
APART: dict[str, Any] = {"distance": distance(0.9)}
NOT_RIGHT: list[dict[str, dict[str, Any]]] = [
    {"as_launched": APART},
    {"as_launched": failed()},
    {"as_launched": {"frozen": ["layers.1"]}},
    {"as_launched": {"broken": True}},
    {"as_launched": {"noise": distance(0.5)}},
    {"as_launched": {"distance": None}},
    {"compiled": APART},
    {"compiled": failed()},
    {"compiled_again": {"distance": distance(0.05)}},
    {"compiled_float32": APART},
    {"eager_again": APART},
    {"eager": {"noise": distance(0.5)}},
    {"eager": {"engine": {"mode": "VLLM_COMPILE", "cudagraph_mode": "NONE"}}},
]
"""What keeps the launch of a ladder from being right, each for one reason alone."""


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
    orders = tuple(
        place
        for place in places
        if len(place) > 1 and place[-2] in {"passes", "eager", "compiled"} and place[0] != "ladders"
    )
    entries = tuple(
        place for place in places if len(place) == 2 and place[0] == "scenarios"
    )  # of those, all are planned
    arms = tuple(place for place in places if len(place) == 4 and place[0] == "ladders" and place[2] == "arms")
    fields = tuple(place for place in places if place and isinstance(place[-1], str))
    groups = [by_depth(group) for group in (places, fields, orders, entries, arms)]
    verdict = judge(parse_report(data))
    return Reported(data, verdict.word, right_launches(verdict), *groups)


def right_launches(verdict: Verdict) -> frozenset[str]:
    """The keys of the launches that their arms show as right."""
    return frozenset(key for key, finding in verdict.ladders.items() if finding.word is ArmWord.RIGHT)


def case(draw: Draw, known: list[Reported]) -> str:
    """Damage one report in any way, or take something from it."""
    chosen = draw(st.sampled_from(known))
    with limited():
        way = draw(st.sampled_from(["damage", "field", "scenario", "order", "arm"]))
        if way == "damage":
            judgement = judged(mutated(draw, chosen.report, chosen.places))
            return "damaged: " + ("refused" if judgement is None else str(judgement.word))
        return "weakened: " + weakened(draw, chosen, way)


def judged(data: Any) -> Verdict | None:
    """Judge a report of any shape; None if it is refused."""
    try:
        judgement = judge(parse_report(data))
    except ReportError as error:
        require_sentence(error)
        return None
    assert Verdict.from_dict(json.loads(json.dumps(judgement.to_dict()))) == judgement
    assert (judgement.witness is not None) == judgement.word.unsafe
    assert judgement.reasons
    assert all(finding.arms.keys() == finding.arm_reasons.keys() for finding in judgement.ladders.values())
    return judgement


Loss = tuple[Callable[[Reported], Places], Callable[[Draw, Any, Path], None]]
LOSSES: dict[str, list[Loss]] = {
    "field": [(lambda known: known.fields, on_place(drop))],
    "scenario": [(lambda known: known.entries, on_place(drop))],
    "arm": [(lambda known: known.arms, on_place(drop))],
    "order": [(lambda known: known.orders, on_place(shorten)), (lambda known: known.orders, on_place(reorder))],
}
"""What may be lost -> where such things stand, and how one is."""


def weakened(draw: Draw, known: Reported, way: str) -> str:
    """Take up to three things of one kind from a report: no verdict gets safer by it, and no launch gets right."""
    where, change = draw(st.sampled_from(LOSSES[way]))
    data = mutated(draw, known.report, where(known) or known.fields, changes=[change])
    judgement = judged(data)
    if judgement is None:
        return "refused"
    assert right_launches(judgement) <= known.launches, f"a launch became right by the loss of a {way}"
    may_look_right = (way == "order" and known.word.unsafe) or (way == "arm" and known.word is Word.INCONCLUSIVE)
    safe = judgement.word.safe and not known.word.safe and not may_look_right
    assert not safe, f"{known.word} became {judgement.word} by the loss of a {way}"
    return str(judgement.word)
