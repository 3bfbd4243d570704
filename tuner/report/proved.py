"""What a stored verdict shows, and what it does not show. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from rules.assumptions import COVERED, IN_PROOF, SIDE_FILE
from rules.ladder_finding import ArmWord
from rules.proof_finding import ProofWord
from rules.reason import sentence, sentences
from rules.report import Assumption, Report
from rules.verdict import Verdict
from tuner.verdicts.evidence import launch_text, scenario_texts

ALWAYS_OPEN = (
    "Launches that are not listed on this page.",
    "Speculative decoding: a draft model's MoE layers share the counter.",
    "Prompts that were not sent to an engine.",
)
"""What no verdict shows."""


@dataclass(frozen=True)
class StandIn:
    """One thing that was otherwise than in a launch.

    Attributes:
        text: what.
        why: why it does not change which layer runs; empty if no rule covers it.
    """

    text: str
    why: str


@dataclass(frozen=True)
class Claims:
    """What a verdict claims, and what it leaves open.

    Attributes:
        proved: sentences on what is shown.
        open: sentences on what is not.
        stand_ins: what was otherwise than in a launch, each once.
    """

    proved: tuple[str, ...]
    open: tuple[str, ...]
    stand_ins: tuple[StandIn, ...]


def claims(report: Report, verdict: Verdict) -> Claims:
    """What is shown, what is not, and what stood in for something else."""
    return Claims(tuple(_proved(report, verdict)), tuple(_open(report, verdict)), _stand_ins(report))


def _proved(report: Report, verdict: Verdict) -> Iterable[str]:
    if verdict.word.safe or verdict.word.unsafe:
        yield from (f"{_capital(text)}." for text in sentences(verdict.reasons))
    for proof in report.proofs:
        finding = verdict.proofs.get(proof.key)
        if finding is not None and finding.word is ProofWord.PROVED:
            yield f"{_capital(launch_text(proof))}: the compiled code calls {finding.layers} MoE layers in order."
    if verdict.compile == "stable":
        yield "Compiled and eager passes ran the same MoE layers."
    for name, word in verdict.replays.items():
        if word == "equal":
            yield f"The engine {name} ran the layer that was meant at each call: {_why(verdict, name)}."
    for ladder in report.ladders:
        answers = verdict.ladders.get(ladder.key)
        if answers is not None and answers.word is ArmWord.RIGHT:
            yield f"{_capital(launch_text(ladder))}: its engine answers as the eager one, within the threshold."


def _why(verdict: Verdict, name: str) -> str:
    why = verdict.replay_reasons.get(name)
    return sentence(why) if why is not None else "no reason is stored"


def _open(report: Report, verdict: Verdict) -> Iterable[str]:
    if not verdict.word.safe and not verdict.word.unsafe:
        yield from (f"{_capital(text)}." for text in sentences(verdict.reasons))
    yield from _open_launches(report, verdict)
    for text in scenario_texts(report)[1:]:
        yield f"Scenarios: {text}."
    if report.whole is not None and report.whole.status != "ran":
        yield _ended(f"The model with every layer did not run: {report.whole.detail or 'no reason is stored'}")
    if verdict.compile != "stable":
        why = "; ".join(sentences(verdict.compile_reasons)) or "no reason is stored"
        yield _ended(f"Whether compiled and eager passes run the same MoE layers: {verdict.compile}: {why}")
    for name, word in verdict.replays.items():
        if word != "equal":
            yield f"The engine {name}: {word.replace('_', ' ')}: {_why(verdict, name)}."
    if not verdict.replays:
        yield "No engine was watched on the device. `tuner probe MODEL --depth replay` watches them."
    yield from ALWAYS_OPEN


def _ended(text: str) -> str:
    """A text as a sentence. What others wrote may already end with a full stop."""
    return text.rstrip(".") + "."


def _open_launches(report: Report, verdict: Verdict) -> Iterable[str]:
    for proof in report.proofs:
        finding = verdict.proofs.get(proof.key)
        if finding is not None and finding.word is not ProofWord.PROVED:
            why = sentence(finding.reasons[0]) if finding.reasons else "no reason is stored"
            yield f"{_capital(launch_text(proof))}: {finding.word.replace('_', ' ')}: {why}."
    for ladder in report.ladders:
        answers = verdict.ladders.get(ladder.key)
        if answers is not None and answers.word is not ArmWord.RIGHT:
            why = "; ".join(sentences(answers.reasons))
            yield f"{_capital(launch_text(ladder))}: answers {answers.word.replace('_', ' ')}: {why}."
    if not report.ladders:
        yield "Answers of engines were not compared. `tuner tune MODEL` compares them."


def _stand_ins(report: Report) -> tuple[StandIn, ...]:
    """What was otherwise in the probe, in traces and in engines."""
    texts = [_stand_in(each, COVERED) for each in report.assumptions]
    for proof in report.proofs:
        for rank in proof.ranks:
            texts += [_stand_in(each, IN_PROOF) for each in rank.assumptions]
    changed: list[str] = []
    for replay in report.replays:
        changed += replay.changed
    for ladder in report.ladders:
        for arm in ladder.arms:
            changed += arm.changed
    texts += [StandIn(f"engines: {text}", "") for text in changed]
    return tuple(dict.fromkeys(texts))


def _stand_in(assumption: Assumption, rules: dict[str, str]) -> StandIn:
    kind = "file beside config.json" if assumption.kind == SIDE_FILE else assumption.kind.replace("_", " ")
    return StandIn(f"{kind}: {assumption.detail}", rules.get(assumption.kind, ""))


def _capital(text: str) -> str:
    """The text with a capital first letter; an option or a name with signs in it stays as it is."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text
