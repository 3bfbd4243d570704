"""Test support: a script in the place of the launch worker, which answers as if each launch had been traced.

A real one takes half a minute to start; tests/test_hostile_vllm.py and tests/test_probe_vllm.py start real ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROOFS = '''
import json
from pathlib import Path


def traced(report):
    """The answer for a launch whose compiled code calls every layer that the order probe registered, in order."""
    layers = list(report.get("registered", ()))
    failures = [] if layers else [{"code": "no_moe_layer", "condition": 0, "fields": {}}]
    rank = {"name": "rank 0 of 1", "status": "traced" if layers else "failed", "failures": failures}
    rank.update(registered=layers, calls=layers, guards=[], assumptions=[], seconds={"trace": 0.1})
    proof = {"ranks": [rank], "variables": {}, "fields": [], "sources": report.get("sources", {"none": "0" * 64})}
    return {"result": "ok", "proof": proof}


def answer_proofs(control, request, reports):
    """Answer the question `proof` for each launch, by the architecture in the model's config.json."""
    (control / "draft").write_text('{"result": "ok"}')
    (control / "draft").rename(control / "ready.json")
    for number, engine in enumerate(request["engines"]):
        config = json.loads((Path(engine["args"][0]) / "config.json").read_text())
        answer = traced(reports.get(config["architectures"][0], {}))
        (control / "draft").write_text(json.dumps(answer))
        (control / "draft").rename(control / f"result-{number}.json")
'''
"""Functions for such a script."""
STAND_IN = """
import sys

control = Path(sys.argv[1])
reports = json.loads(Path({reports!r}).read_text())
answer_proofs(control, json.loads((control / "request.json").read_text()), reports)
"""


def write_stand_in(script: Path, reports: Path) -> None:
    """Write the script; `reports` holds the order probe's reports by architecture when it runs."""
    script.write_text(PROOFS + STAND_IN.format(reports=str(reports)), encoding="utf-8")


def by_architecture(report: Mapping[str, Any]) -> str:
    """The content of the file of reports for one report."""
    return json.dumps({str(report["architecture"]): report})
