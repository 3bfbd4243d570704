"""Test support: what the replay probe shows of real engines."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import convert
from real_environment import ROOT, python_of
from replay_samples import replay
from vllm_server import SERVER_ENVIRONMENT

from rules.errors import TunerError
from rules.report import Replay
from tuner.engines.question import WorkerQuery, query_engines
from tuner.model.shrink import shrink

SMALL = ("--max-model-len", "128", "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
TRACED = ("--compilation-config", '{"mode": 2, "backend": "eager"}')
"""Compiled as a CPU turns vLLM's own mode, but for Inductor, which takes a minute more and keeps the order that it is
given."""
UNBOUND = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Else each process of an engine wants a memory node of its own."""


def variables(_control: Path) -> Mapping[str, str]:
    """Of the engines: the plugin with the model that owns two sets of experts."""
    own = {"PYTHONPATH": str(ROOT / "examples" / "two_expert_sets"), "VLLM_LOGGING_LEVEL": "WARNING"}
    return {**os.environ, **SERVER_ENVIRONMENT, **own, **UNBOUND}


def cut(folder: Path) -> Any:
    """A cut model in the place of the one whose config.json lies here."""
    return {"config": shrink(json.loads((folder / "config.json").read_text())).config, "code": None}


def watched(environment: str, model: Path, *args: str, flags: Sequence[bool | None], thin: Any = None) -> list[Replay]:
    """What an engine showed for each value of the flag, as a report keeps it."""
    engines = [{"flag": flag, "eager": False} for flag in flags]
    question = WorkerQuery("replay", (str(model), *SMALL, *args), 600, more={"thin": thin}, engines=engines)
    found = []
    for answer in query_engines(question, str(python_of(environment)), variables):
        assert not isinstance(answer, TunerError), f"{answer} {answer.hint}"
        found.append(convert(replay(name="as_launched", **answer), Replay))
    return found
