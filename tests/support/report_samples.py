"""Test support: stored verdicts for pages, made of reports by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladder_samples import WITH_FLAG, distance, ladder
from reports import failure, layers, proof, report

from cache.compiled.warm_record import WarmRecord
from cache.verdicts.entry import Entry, ProbeOrigin
from cache.verdicts.store import VerdictStore
from rules.judge import judge
from rules.proof_finding import PLAIN
from rules.report import parse_report
from tuner.report.content import VerdictReport, verdict_report
from tuner.verdicts.identity import probe_digest, rules_digest

LAYERS = layers(12)
WRONG = [*LAYERS[:4], LAYERS[5], LAYERS[4], *LAYERS[6:]]
"""A pass whose fifth call is the first wrong one."""
HOSTILE = "<img src=x onerror=alert(1)>\u202e{{7*7777}}`x`\x1b[31m"
"""A name that is markup, a template, and steers a terminal."""
PHASES = {"import": 10.0, "weights": 5.0, "compile": 20.0, "graphs": 4.0, "ready": 31.0, "step": 0.01}
"""Seconds of an engine's start; two of them are in no phase."""


def safe_report(**changes: Any) -> dict[str, Any]:
    """A report of a model whose plain launch is proved."""
    return report(LAYERS, **changes)


def unsafe_report(**changes: Any) -> dict[str, Any]:
    """A report of a model that left the order in one scenario; its proof fails, and its engines were compared."""
    guard = failure("outer_guard", 4, guard="x.shape[0] > 64", file="vllm/model_executor/models/mixtral.py", line=211)
    of_flag = distance(1.4, 0.6, parted=5, layer=LAYERS[3])
    arms = {"as_launched": {"seconds": PHASES}, "flag_on": {"distance": of_flag}}
    return report(
        LAYERS,
        orders={"mixed_batch": WRONG},
        proofs=[proof(LAYERS, rank={"failures": [guard]}), proof(LAYERS, "--tensor-parallel-size", "2")],
        ladders=[ladder(WITH_FLAG, arms, key=PLAIN)],
        **changes,
    )


def entry_of(data: Mapping[str, Any], name: str = "example/model", **key: Any) -> Entry:
    """A stored entry of a report, made by this release's probe; `key` replaces factors."""
    factors = {
        "architecture": "MixtralForCausalLM",
        "fingerprint": "a" * 64,
        "model_impl": "auto",
        "platform": "cuda",
        "plugins": "",
        "remote_code": "",
        "torch": "2.10.0",
        "vllm": "0.19.1",
        "worker": probe_digest(),
        "sources": "c" * 64,
    }
    return Entry(
        key=factors | key,
        sources=dict(data["sources"]),
        report=dict(data),
        verdict=judge(parse_report(data)).to_dict(),
        rules=rules_digest(),
        probed_at="2026-11-29T10:00:00+00:00",
        origin=ProbeOrigin(name, None, None),
    )


def content_of(entry: Entry, *records: WarmRecord) -> VerdictReport:
    """What a report says of an entry."""
    observed = parse_report(entry.report)
    return verdict_report(entry, observed, judge(observed), records)


def warm_record(**changes: Any) -> WarmRecord:
    """A warm-up of the model of `entry_of`, whose second start hit."""
    fields = {
        "digest": "d" * 32,
        "made_at": "2026-11-29T11:00:00+00:00",
        "model": "example/model",
        "architecture": "MixtralForCausalLM",
        "vllm": "0.19.1",
        "torch": "2.10.0",
        "platform": "cuda",
        "gpu": None,
        "args": (),
        "entries": (),
        "size": 9,
        "cold_seconds": 90.0,
        "warm_seconds": 30.0,
        "hit": True,
        "proof": "2 loaded, 0 compiled",
    }
    return WarmRecord(**(fields | changes))


def store_with(folder: Path, *entries: Entry) -> Path:
    """A store that holds these entries."""
    path = folder / "verdicts.sqlite"
    VerdictStore(path).put(*entries)
    return path
