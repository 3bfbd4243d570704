"""The one JSON document that `probe`, `verdict`, `plan` and `export` share. Pure.

`SCHEMA_VERSION` counts for all of these documents.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from rules.decide import Decision
from rules.errors import TunerError
from rules.launch_key import HARMLESS_VARIABLES
from rules.proof_finding import PLAIN
from rules.reason import parts
from rules.verdict import Verdict
from tuner.environment.document import SCHEMA_VERSION as SCHEMA_VERSION  # noqa: PLC0414  of these documents, too
from tuner.environment.document import environment_part
from tuner.launch.plan import Plan, additions_of
from tuner.verdicts.evidence import compile_part, proofs_part, replays_part, whole_part
from tuner.verdicts.ladder_part import ladder_part
from tuner.verdicts.ladders import stored_ladder


def plan_document(plan: Plan) -> dict[str, Any]:
    """The document of one planned launch; `verdict` is null if none is stored."""
    verdict = plan.lookup.verdict
    evidence = verdict.reasons if verdict else plan.lookup.miss
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model_part(plan),
        "environment": environment_part(plan.subject.environment, plan.flag),
        "verdict": None if verdict is None else str(verdict.word),
        "reasons": parts((*evidence, *plan.decision.reasons, *plan.decision.mode_reasons, *plan.engine_reasons)),
        "witness": witness_part(verdict),
        "proof": proof_part(plan),
        "ladder": launch_ladder_part(plan),
        "launch": {
            "compilation_config": in_json(plan.launch.compilation_config),
            "env": plan.launch.env,
            "args": list(plan.launch.args),
            "cache": plan.launch.cache,
            "conditions": parts(plan.decision.conditions),
            "holds_for": plan.decision.holds_for,
            "written": written_part(plan.decision),
        },
        "warnings": parts(plan.warnings),
        "refusal": str(plan.decision.refusal),
        "evidence": evidence_part(plan),
    }


def written_part(decision: Decision) -> dict[str, Any]:
    """What the decision adds to the user's own arguments."""
    return {"compilation_config": in_json(additions_of(decision)), "options": list(decision.options)}


def proof_part(plan: Plan) -> dict[str, Any] | None:
    """What is stored about this very launch; None if no proof of it applies.

    `variables` has the digest of each environment variable that the proof read: a launch with another value is another
    one.
    """
    proof = plan.proof
    if proof.finding is None:
        return None
    counting = {name: value for name, value in proof.variables.items() if name not in HARMLESS_VARIABLES}
    return {
        "key": proof.key,
        "word": str(proof.finding.word),
        "launch": proof.launch,
        "shared": proof.shared,
        "platform": proof.platform,
        "reasons": parts(proof.finding.reasons),
        "variables": counting,
    }


def launch_ladder_part(plan: Plan) -> dict[str, Any] | None:
    """What is stored about the arms of this very launch; None if no ladder applies."""
    report, key = plan.lookup.report, plan.ladder.key
    ladder = stored_ladder(report, key) if report and key else None
    return ladder_part(ladder, plan.ladder.finding) if ladder and plan.ladder.finding else None


def in_json(value: Any) -> Any:
    """The value, with each number that JSON lacks as the text that vLLM takes for it, `NaN` or `Infinity`.

    `launch.args` has it as a number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, list):
        return [in_json(item) for item in value]
    if isinstance(value, dict):
        return {key: in_json(item) for key, item in value.items()}
    return value


def model_part(plan: Plan) -> dict[str, Any]:
    """Who the model is."""
    model = plan.subject.model
    return {
        "name": model.name,
        "architecture": model.architecture,
        "model_type": model.model_type,
        "model_impl": plan.subject.model_impl,
        "revision": model.revision,
        "fingerprint": model.fingerprint,
    }


def witness_part(verdict: Verdict | None) -> dict[str, Any] | None:
    """The pass that proves an unsafe verdict, or None."""
    return verdict.to_dict()["witness"] if verdict else None


def evidence_part(plan: Plan) -> dict[str, Any] | None:
    """What the verdict rests on; None without one."""
    entry, report, verdict = plan.lookup.entry, plan.lookup.report, plan.lookup.verdict
    if entry is None or report is None or verdict is None:
        return None
    plain = verdict.proofs.get(PLAIN)
    return {
        "coverage": "trace" if plain is not None and plain.proved else "scenarios",
        "depth": verdict.depth,
        "key": entry.digest,
        "probed_at": entry.probed_at,
        "sources_verified": plan.lookup.verified,
        "imported": entry.provenance,
        "accepted_platform": plan.lookup.accepted_platform,
        "remote_code": entry.key.get("remote_code") or None,
        "registered": list(report.registered),
        "scenarios": [
            {"name": scenario.name, "status": scenario.status, "detail": scenario.detail}
            for scenario in report.scenarios
        ],
        "whole": whole_part(report),
        "proofs": proofs_part(report, verdict),
        "compile": compile_part(verdict),
        "replays": replays_part(report, verdict),
        "assumptions": to_builtins(report.assumptions),
        "observation_method": report.observation_method,
        "counter": to_builtins(report.counter),
        "seconds": report.seconds,
    }


def failure_document(name: str | None, failure: TunerError) -> dict[str, Any]:
    """The document of what failed: `error` in place of the verdict."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": name},
        "error": {"kind": failure.kind, "message": failure.message, "hint": failure.hint},
    }


def together(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One document as it is; several as `results` of one."""
    if len(documents) == 1:
        return dict(documents[0])
    return {"schema_version": SCHEMA_VERSION, "results": [dict(document) for document in documents]}
