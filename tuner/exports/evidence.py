"""What an exported file says of its evidence: as annotations, and as comments at its head. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from rules.reason import sentences
from tuner.launch.plan import Plan
from tuner.manifests.managed import PREFIX
from tuner.text import wrapped
from tuner.verdicts.origin import imported_sentence, printable

WIDTH = 80
"""Characters of a line of comments; a longer word or command stays whole."""


def annotations(plan: Plan) -> dict[str, str]:
    """The evidence as annotations of a Kubernetes object, in a fixed order.

    Times are those of the stored probe; nothing here depends on when or where the file is written.
    """
    environment, lookup = plan.subject.environment, plan.lookup
    evidence = {
        "verdict": str(lookup.verdict.word) if lookup.verdict else "none stored",
        "key": lookup.entry.digest if lookup.entry else "",
        "probed-at": lookup.entry.probed_at if lookup.entry else "",
        "model": plan.subject.model.name,
        "fingerprint": plan.subject.model.fingerprint,
        "vllm": environment.vllm or "",
        "torch": environment.torch or "",
        "platform": environment.platform,
        "flag-status": str(plan.flag.status),
        "decision": "; ".join(_decision(plan)),
        "holds-for": plan.decision.holds_for or "",
        "holds-while": "; ".join(sentences(plan.decision.other_conditions)),
        "warnings": "; ".join((*imported_sentence(lookup), *sentences(plan.warnings))),
    }
    return {PREFIX + name: _line(text) for name, text in evidence.items() if text}


def head(plan: Plan, notes: Sequence[str] = ()) -> str:
    """The evidence and the notes as lines of comments, for YAML, shells and Dockerfiles alike."""
    verdict = plan.lookup.verdict.word if plan.lookup.verdict else "none stored"
    environment, entry = plan.subject.environment, plan.lookup.entry
    launch = plan.decision.holds_for
    lines = [
        f"verdict: {verdict}; vLLM {environment.vllm}, torch {environment.torch}, flag {plan.flag.status}",
        *([f"evidence: key {entry.digest[:12]}, probed {entry.probed_at}"] if entry else []),
        *imported_sentence(plan.lookup),
        *_decision(plan),
        *([f"holds for: {launch}"] if launch is not None else []),
        *(f"holds while: {condition}" for condition in plan.decision.other_conditions),
        *(f"warning: {warning}" for warning in plan.warnings),
        *notes,
    ]
    return "".join(f"{wrapped(_line(line), WIDTH, '#   ', '# ')}\n" for line in lines)


def manifest(plan: Plan, documents: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> str:
    """Documents of YAML under their head."""
    from tuner.yaml_text import dump_documents  # noqa: PLC0415  PyYAML is slow to import

    return head(plan, notes) + dump_documents(documents)


def _decision(plan: Plan) -> Iterable[str]:
    return sentences((*plan.decision.reasons, *plan.decision.mode_reasons, *plan.engine_reasons))


def _line(text: str) -> str:
    """On one line, without what YAML forbids or would steer a terminal."""
    return printable(" ".join(text.split()))
