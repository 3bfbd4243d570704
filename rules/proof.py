"""The trace of a launch -> what it proves. Unknown is never proved."""

from collections.abc import Iterator

from rules.assumptions import SIDE_FILE, uncovered_in_proof
from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import Reason
from rules.report import Proof, Rank

INCOMPLETE = frozenset({"nested_call", "name_in_graph", "outer_entries"})
"""Failures with which the calls of a graph are not all that a pass makes, or are none that a pass makes."""
COMPILED_AT_ALL = 2
"""The first condition that is about a graph which the launch surely runs."""


def judge_proof(proof: Proof) -> ProofFinding:
    """What the trace of a launch proves. Total: every valid proof has one finding.

    A code that no rule knows is a failure like any other.
    """
    word, reasons = _judged(proof)
    layers = {layer for rank in proof.ranks for layer in rank.registered}
    return ProofFinding(word, tuple(reasons), proof.arguments, proof.platform, len(layers))


def wrong_rank(proof: Proof) -> Rank | None:
    """The first process whose compiled code calls the layers in an order that a counter resolves wrongly."""
    return next((rank for rank in proof.ranks if _is_wrong(rank)), None)


def _judged(proof: Proof) -> tuple[ProofWord, list[Reason]]:
    if not proof.ranks:
        return ProofWord.NOT_PROVED, [Reason("no_rank", 0)]
    reasons = _each_once(proof)
    if not proof.sources and not reasons:
        reasons.append(Reason("no_sources", 0))
    if wrong_rank(proof) is not None:
        return ProofWord.REFUTED, reasons
    if all(rank.status == "not_compiled" for rank in proof.ranks):
        return ProofWord.NOT_COMPILED, reasons
    return (ProofWord.NOT_PROVED if reasons else ProofWord.PROVED), reasons


def _each_once(proof: Proof) -> list[Reason]:
    """What speaks against the processes, in their order; what several share is told once."""
    reasons: list[Reason] = []
    for rank in proof.ranks:
        for reason in _against(rank):
            if reason not in reasons:
                reasons.append(reason)
    return reasons


def _against(rank: Rank) -> Iterator[Reason]:
    """All that keeps one process from being proved."""
    for failure in rank.failures:
        yield Reason(failure.code, failure.condition, failure.fields)
    if rank.status != "traced" and not rank.failures:
        yield Reason("rank_not_traced", 0, {"rank": rank.name, "how": "no reason is given"})
    if rank.status != "traced":
        return
    if not rank.registered:
        yield Reason("no_layers", 0, {"rank": rank.name})
    if rank.calls != rank.registered and not rank.failures:
        yield Reason("calls", 2, {"expected": len(rank.registered), "seen": len(rank.calls)})
    beside = [assumption.detail for assumption in rank.assumptions if assumption.kind == SIDE_FILE]
    for name in beside:
        yield Reason(SIDE_FILE, 0, {"file": name})
    for kind in uncovered_in_proof(assumption.kind for assumption in rank.assumptions if assumption.kind != SIDE_FILE):
        yield Reason("assumption", 0, {"kind": kind})


def _is_wrong(rank: Rank) -> bool:
    """Whether the calls of a traced graph, which are all that a compiled pass makes, are a wrong order."""
    if rank.status != "traced" or rank.calls == rank.registered[: len(rank.calls)]:
        return False
    return all(failure.condition >= COMPILED_AT_ALL and failure.code not in INCOMPLETE for failure in rank.failures)
