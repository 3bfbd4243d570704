"""What a stored verdict decides for the plain launch, in one sentence, and how long that holds.

Pure, except for the digests of this release's own workers.
"""

from dataclasses import dataclass

from cache.verdicts.entry import Entry
from rules.decide import FLAG_KEY, MODE_KEY, Decision, Facts, Refusal, decide
from rules.proof_finding import PLAIN
from rules.reason import reason, sentences
from rules.releases import flag_status
from rules.report import Report
from rules.verdict import Verdict
from tuner.launch.text import remedy_words
from tuner.verdicts.identity import launch_worker_digest, probe_digest
from tuner.verdicts.origin import imported_full
from tuner.verdicts.proofs import stored_proof

NOTHING = "nothing"
"""What is written where nothing needs to be."""


@dataclass(frozen=True)
class DecisionText:
    """The decision for the plain launch.

    Attributes:
        written: what is written into the launch, such as `fast_moe_cold_start=true`; `nothing`; or `no launch` if the
            launch is refused.
        tone: `good`, `bad` or `open`, for its colour.
        sentence: the whole decision.
        holds: sentences on how long it holds.
        while_same: name and value of each thing that must stay as it is.
    """

    written: str
    tone: str
    sentence: str
    holds: tuple[str, ...]
    while_same: tuple[tuple[str, str], ...]


def decision_text(entry: Entry, report: Report, verdict: Verdict) -> DecisionText:
    """The decision that the stored verdict leads to, on the platform and with the versions of its key."""
    key = entry.key
    flag = flag_status(_text(key.get("vllm")), _text(key.get("torch")), str(key.get("platform")), report.flag)
    decision = decide(verdict, flag, _facts(report, verdict))
    written = _written(decision)
    why = "; ".join(
        sentences((*decision.reasons, *decision.mode_reasons, *decision.engine_reasons, *decision.warnings))
    )
    sentence = _order(decision, written)
    return DecisionText(
        written, _tone(decision, verdict), f"{sentence}: {why.rstrip('.')}.", _holds(entry, decision), _same(entry)
    )


def _text(value: object) -> str | None:
    return str(value) if value else None


def _facts(report: Report, verdict: Verdict) -> Facts:
    """The plain launch, with its proof if this release made it."""
    proof, ladder = stored_proof(report, PLAIN), verdict.ladders.get(PLAIN)
    if proof is not None and proof.worker != launch_worker_digest():
        return Facts(no_proof=reason("proof_of_other_tool"), ladder=ladder)
    return Facts(proof=verdict.proofs.get(PLAIN), ladder=ladder)


def _written(decision: Decision) -> str:
    if decision.refusal is not Refusal.NONE:
        return "no launch"
    flag = [] if decision.setting is None else [f"{FLAG_KEY}={str(decision.setting).lower()}"]
    mode = [] if decision.mode is None else [f"{MODE_KEY}={decision.mode}"]
    return ", ".join([*flag, *mode, *remedy_words(decision)]) or NOTHING


def _order(decision: Decision, written: str) -> str:
    """What to do, without the reasons."""
    if decision.refusal is not Refusal.NONE:
        return "Do not start it"
    return "Nothing to write" if written == NOTHING else f"Write {written}"


def _tone(decision: Decision, verdict: Verdict) -> str:
    if decision.refusal is not Refusal.NONE or verdict.word.unsafe:
        return "bad"
    return "good" if verdict.word.safe else "open"


def _holds(entry: Entry, decision: Decision) -> tuple[str, ...]:
    """How long the decision holds, and where it comes from."""
    texts = ["It holds for the plain launch, as long as everything below stays as it is. It does not end on a date."]
    texts += [f"It needs {why}." for why in sentences(decision.other_conditions)]
    if entry.key.get("worker") != probe_digest():
        texts.append(
            "Another release of this tool made the verdict. This release does not use it: probe the model again."
        )
    if entry.provenance is not None:
        texts.append(f"The verdict was {imported_full(entry)}.")
    texts.append("The source files were not compared for this page. `tuner verdict MODEL` compares them.")
    return tuple(texts)


def _same(entry: Entry) -> tuple[tuple[str, str], ...]:
    key = entry.key
    pairs = [
        ("vLLM", key.get("vllm")),
        ("torch", key.get("torch")),
        ("platform", key.get("platform")),
        ("plugins", key.get("plugins") or "none"),
        ("model's configuration", str(key.get("fingerprint"))[:12]),
        ("model's own code", str(key.get("remote_code") or "none")[:12]),
        ("model implementation", key.get("model_impl")),
        ("source files", f"{len(entry.sources)}, with the content that they had"),
    ]
    return tuple((name, str(value)) for name, value in pairs if value)
