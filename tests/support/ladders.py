"""Ladders as `tuner tune` stores them, made without an engine: which arms answer wrongly is said by the test."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import Serving

from cache.verdicts.store import VerdictStore
from rules.arms import EAGER_OPTION, LAUNCH, Arm, LaunchFacts, backend_arms, first_arms, pass_arms
from rules.arms import GRAPHS_KEY as GRAPHS
from tuner.arguments.serve_arguments import parse
from tuner.model.model import identify
from tuner.verdicts.identity import Subject
from tuner.verdicts.ladders import PREFIXES, arm_workers_digest
from tuner.verdicts.lookup import look_up, remember_ladder
from tuner.verdicts.proofs import launch_identity

WITH_GRAPHS = LaunchFacts(eager=False, graphs=True, float32=False, flag=False)
FULL = "FULL_AND_PIECEWISE"
"""The graph mode of a launch that asks for none."""
WRONG_FULL = frozenset({"full", "full_decode", LAUNCH})
"""Full graphs answer wrongly: PIECEWISE is the smallest change."""
WRONG_GRAPHS = WRONG_FULL | {"piecewise"}
"""Every graph answers wrongly: NONE is the smallest change."""
WRONG_COMPILED = frozenset({"compiled"})
"""Whatever is compiled answers wrongly, and the arms with graphs as it does: a pass, a backend, or eager helps."""
FUSION = "fuse_norm_quant"


def ladder(
    serving: Serving, args: Sequence[str] = (), *, wrong: Collection[str] = (), more: Sequence[Arm] = (), **changes: Any
) -> dict[str, Any]:
    """The ladder of a launch in this environment.

    Args:
        serving: where its arms were tried.
        args: the arguments behind the model.
        wrong: names of the arms that answer wrongly.
        more: further arms.
        changes: fields to replace.
    """
    identity = launch_identity(parse(["model", *args]))
    environment = serving.read()
    arms = [*first_arms(WITH_GRAPHS), *more]
    return {
        "key": identity.key,
        "arguments": list(identity.arguments),
        "platform": environment.platform,
        "gpu": environment.gpu or "",
        "made_at": "2026-11-29T10:00:00+00:00",
        "worker": arm_workers_digest(),
        "prefer": "",
        "variables": {},
        "arms": [arm_run(arm, identity.config, is_wrong=arm.name in wrong) for arm in arms],
        **changes,
    }


def without_fusion() -> list[Arm]:
    """The arms without one compiler pass."""
    return pass_arms([FUSION], WITH_GRAPHS)


def with_backend(name: str = "triton") -> list[Arm]:
    """The arms with another MoE backend."""
    return backend_arms([name], WITH_GRAPHS)


def arm_run(arm: Arm, users: Mapping[str, Any], *, is_wrong: bool) -> dict[str, Any]:
    """One arm that ran, beside the user's own compilation config."""
    apart = 0.9 if is_wrong else 0.0001
    distance = {"mean": apart, "worst": apart, "prompt": "tokens_1", "parted": 1, "layer": ""}
    is_eager = "--enforce-eager" in arm.options
    graphs = "NONE" if is_eager else arm.config.get(GRAPHS, users.get(GRAPHS, FULL))
    mode = "NONE" if is_eager else "VLLM_COMPILE"
    passes = {FUSION: True, **arm.config.get("pass_config", {})}
    return {
        "name": arm.name,
        "kind": str(arm.kind),
        "against": arm.against,
        "also": arm.also,
        "config": dict(arm.config),
        "options": list(arm.options),
        "is_setting": arm.is_setting,
        "users": _changed(arm, users),
        "status": "ran",
        "detail": "",
        "engine": {"mode": mode, "cudagraph_mode": graphs, "moe_backend": "auto", "processes": 1},
        "passes": passes,
        "backends": [],
        "candidates": [],
        "seconds": {"ready": 30.0, "step": 0.01},
        "cache": 0,
        "changed": [],
        "broken": False,
        "noise": {"mean": 0.0, "worst": 0.0, "prompt": "tokens_1_again"},
        "distance": distance if arm.against else None,
        "frozen": [],
    }


def _changed(arm: Arm, users: Mapping[str, Any]) -> list[str]:
    """The user's settings that an arm changes; an eager one has no graphs, whatever the user asks for."""
    config = {GRAPHS: "NONE", **arm.config} if EAGER_OPTION in arm.options else arm.config
    return [key for key, value in config.items() if _contradicts(users.get(key), value)]


def _contradicts(own: Any, value: Any) -> bool:
    """Whether an arm changes what the user set."""
    if isinstance(own, dict):
        return any(name in own and own[name] != part for name, part in value.items())
    return own is not None and own != value


def remember_one(
    store: Path, serving: Serving, model: Path, args: Sequence[str] = (), **changes: Any
) -> dict[str, Any]:
    """Store the ladder of a launch beside the model's verdict; `changes` as for `ladder`."""
    made = ladder(serving, args, **changes)
    verdicts = VerdictStore(store)
    entry = look_up(verdicts, Subject(identify(str(model)), serving.read(), "auto")).entry
    assert entry is not None
    remember_ladder(verdicts, entry, made)
    return made


def without_computing_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every variable that changes how an engine computes, as where the ladders were made."""
    for name in os.environ:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)
