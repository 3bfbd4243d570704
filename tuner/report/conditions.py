"""The conditions of the proof of each launch: met or not, with the place that decides. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import CONDITIONS, Reason, sentence
from rules.report import Guard, Proof, Report
from rules.verdict import Verdict
from tuner.verdicts.evidence import launch_text


class ConditionState(StrEnum):
    """Whether a condition holds."""

    MET = "met"
    NOT_MET = "not met"
    OPEN = "open"
    """The proof fails elsewhere, so that this condition does not count as shown."""


@dataclass(frozen=True)
class Fault:
    """What speaks against a condition.

    Attributes:
        text: one sentence without a full stop.
        place: `FILE:LINE`, or the file alone; empty if the trace names none.
    """

    text: str
    place: str


@dataclass(frozen=True)
class Condition:
    """One condition of a proof.

    Attributes:
        number: 0 to 4, see `rules.reason.CONDITIONS`.
        text: what it asks for.
        state: whether it holds.
        faults: what speaks against it.
    """

    number: int
    text: str
    state: ConditionState
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class LaunchConditions:
    """The proof of one launch, condition by condition.

    Attributes:
        launch: the launch, on one line.
        word: what its trace proves, in words.
        proved: all conditions are met.
        platform: on which it was traced.
        made_at: when, ISO 8601 in UTC.
        layers: how many MoE layers its processes register.
        conditions: all of them, in order of their numbers.
        guards: sizes that the compiled code depends on, each as `EXPRESSION at FILE:LINE`. vLLM drops these guards.
    """

    launch: str
    word: str
    proved: bool
    platform: str
    made_at: str
    layers: int
    conditions: tuple[Condition, ...]
    guards: tuple[str, ...]


def launch_conditions(report: Report, verdict: Verdict) -> tuple[LaunchConditions, ...]:
    """Each launch that was traced, in the order in which they are stored."""
    findings = [(proof, verdict.proofs.get(proof.key)) for proof in report.proofs]
    return tuple(_of_launch(proof, finding) for proof, finding in findings if finding is not None)


def _of_launch(proof: Proof, finding: ProofFinding) -> LaunchConditions:
    guards: dict[str, None] = {}
    for rank in proof.ranks:
        guards |= dict.fromkeys(map(_guard_text, rank.guards))
    return LaunchConditions(
        launch=launch_text(proof),
        word=finding.word.replace("_", " "),
        proved=finding.word is ProofWord.PROVED,
        platform=proof.platform,
        made_at=proof.made_at,
        layers=finding.layers,
        conditions=tuple(_condition(number, text, finding) for number, text in CONDITIONS.items()),
        guards=tuple(guards),
    )


def _condition(number: int, text: str, finding: ProofFinding) -> Condition:
    faults = tuple(_fault(why) for why in finding.reasons if why.condition == number)
    return Condition(number, text, _state(faults, finding), faults)


def _state(faults: Sequence[Fault], finding: ProofFinding) -> ConditionState:
    if faults:
        return ConditionState.NOT_MET
    return ConditionState.MET if finding.word is ProofWord.PROVED else ConditionState.OPEN


def _fault(why: Reason) -> Fault:
    file, line = why.fields.get("file", ""), why.fields.get("line", "")
    place = f"{file}:{line}" if file and line else str(file)
    return Fault(sentence(why), place)


def _guard_text(guard: Guard) -> str:
    return f"{guard.expression} at {guard.file}:{guard.line}"
