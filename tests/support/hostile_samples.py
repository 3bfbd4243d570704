"""Test support: model folders for the hostile models, and what the traces of their launches prove."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest
from fake_environment import QWEN, ROOT, model_like
from msgspec import convert

from rules.proof import judge_proof
from rules.proof_finding import ProofFinding
from rules.report import Proof
from tuner.arguments.serve_arguments import parse
from tuner.engines.proof import BackgroundProofs, LaunchToProve, proofs_of
from tuner.environment.environment import read_environment
from tuner.model.model import identify
from tuner.verdicts.identity import Subject

PLUGIN = ROOT / "tests" / "hostile_models"
SMALL = {
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "moe_intermediate_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 512,
}
"""What an engine on a CPU runs in no time."""
FOREIGN = {"foreign_code"}
"""Reasons that speak of every plugin alike. Without them a finding says what the traces alone show."""
WORKERS = 2
LIMIT_S = 300


class Asked(NamedTuple):
    """A launch of a hostile model: its name, and the arguments behind the model."""

    name: str
    arguments: tuple[str, ...] = ()


def hostile_model(folder: Path, name: str) -> Path:
    """The published Qwen3-30B-A3B config, with four small layers, for one hostile model."""
    path = folder / name
    if path.exists():
        return path
    return model_like(QWEN, path, architectures=[f"{name}ForCausalLM"], **SMALL)


@contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """The plugin on PYTHONPATH, and some variables more."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PYTHONPATH": str(PLUGIN), **changes}.items():
            patch.setenv(name, value)
        yield


def findings(
    python: Path, folder: Path, launches: Sequence[Asked], changes: Mapping[str, str] | None = None
) -> dict[Asked, ProofFinding]:
    """What the trace of each launch proves; two workers share them, each with one import of vLLM."""
    environment = read_environment(str(python))

    def prove(share: Sequence[LaunchToProve], stop: Event) -> Any:
        return proofs_of(share, environment, os.environ, LIMIT_S, stop=stop, foreign=True)

    with variables(changes or {}):
        paths = [str(hostile_model(folder, launch.name)) for launch in launches]
        wanted = [
            LaunchToProve(Subject(identify(path), environment), parse([path, *launch.arguments]))
            for path, launch in zip(paths, launches, strict=True)
        ]
        alongside = BackgroundProofs(dict(enumerate(wanted)), WORKERS, prove)
        try:
            proofs = [alongside.awaited(number) for number in range(len(wanted))]
        finally:
            alongside.end()
    judged = [judge_proof(convert(proof, Proof)) for proof in proofs]
    return dict(zip(launches, judged, strict=True))


def own_reasons(finding: ProofFinding) -> list[str]:
    """The codes of the reasons that speak of this model alone."""
    return [reason.code for reason in finding.reasons if reason.code not in FOREIGN]
