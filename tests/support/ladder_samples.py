"""Test support: ladders as a report keeps them, and answers of engines, without an engine."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import convert, to_builtins

from rules.arms import ROOTS, Arm, LaunchFacts, backend_arms, first_arms, not_compiled_arms, pass_arms
from rules.ladder import judge_ladder
from rules.ladder_finding import LadderFinding
from rules.report import Ladder

ON_GPU = LaunchFacts(eager=False, graphs=True, float32=True, flag=False)
ON_CPU = LaunchFacts(eager=False, graphs=False, float32=True, flag=False)
QUANTISED = LaunchFacts(eager=False, graphs=True, float32=False, flag=False)
WITH_FLAG = LaunchFacts(eager=False, graphs=True, float32=True, flag=True)
EAGER_LAUNCH = LaunchFacts(eager=True, graphs=False, float32=True, flag=True)
ALL_FACTS = (ON_GPU, ON_CPU, QUANTISED, WITH_FLAG, EAGER_LAUNCH)
PASSES, BACKENDS = ("fuse_norm_quant", "eliminate_noops"), ("triton",)


def distance(worst: float = 0.0, mean: float | None = None, **changes: Any) -> dict[str, Any]:
    """A distance in nats; the mean is that of the worst prompt unless it is given."""
    return {"mean": worst if mean is None else mean, "worst": worst, "prompt": "tokens_7", **changes}


def run_of(arm: Arm, **changes: Any) -> dict[str, Any]:
    """An arm that ran and agrees with the arm below it."""
    is_root = arm.name in ROOTS
    is_eager = "--enforce-eager" in arm.options
    mode = ("NONE", "NONE") if is_eager else ("VLLM_COMPILE", "FULL_AND_PIECEWISE")
    return {
        **to_builtins(arm),
        "users": [],
        "status": "ran",
        "detail": "",
        "engine": {"mode": mode[0], "cudagraph_mode": mode[1], "enforce_eager": is_eager},
        "passes": dict.fromkeys(PASSES, True),
        "backends": ["TRITON"],
        "candidates": ["triton", "marlin"],
        "seconds": {"ready": 30.0, "step": 0.01},
        "cache": 2**20,
        "changed": [],
        "broken": False,
        "noise": distance(),
        "distance": None if is_root else distance(0.001),
        "frozen": [],
        **changes,
    }


def failed(detail: str = "The engine's process ended early (signal SIGABRT).") -> dict[str, Any]:
    """Fields of an arm that does not start."""
    return {"status": "failed", "detail": detail, "noise": None, "distance": None}


def all_arms(facts: LaunchFacts) -> list[Arm]:
    """Every arm that a launch may get; one that is eager compiles nothing, and so has no passes."""
    further = backend_arms(BACKENDS, facts)
    if not facts.eager:
        further += [*pass_arms(PASSES, facts), *not_compiled_arms(facts)]
    return [*first_arms(facts), *further]


def ladder(
    facts: LaunchFacts = ON_GPU, changes: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """The first arms of a launch, all right.

    Args:
        facts: the launch.
        changes: name of an arm -> fields to replace.
        fields: of the ladder, to replace; `arms`: the arms to take in place of the first ones.
    """
    arms: Iterable[Arm] = fields.pop("arms", first_arms(facts))
    changes = changes or {}
    return {
        "key": "a" * 64,
        "arguments": [],
        "platform": "cuda",
        "gpu": "NVIDIA H200",
        "made_at": "2026-11-29T10:00:00+00:00",
        "worker": "b" * 64,
        "prefer": "",
        "variables": {},
        "arms": [run_of(arm, **changes.get(arm.name, {})) for arm in arms],
        **fields,
    }


def read(data: Mapping[str, Any]) -> Ladder:
    """A ladder as rules read it."""
    return convert(data, Ladder)


def judged(
    facts: LaunchFacts = ON_GPU, changes: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any
) -> LadderFinding:
    """What a ladder shows (`ladder`)."""
    return judge_ladder(read(ladder(facts, changes, **fields)))


def words(finding: LadderFinding) -> dict[str, str]:
    """Name of each arm -> its word."""
    return {name: str(word) for name, word in finding.arms.items()}


def answer(name: str = "tokens_7", by: float = 0.0, **changes: Any) -> dict[str, Any]:
    """What an engine answered to a prompt, as the worker sends it; its numbers lie `by` nats below those of others."""
    return {
        "name": name,
        "repeats": "",
        "alone": False,
        "given": [-1.0 - by, -2.0 - by],
        "tokens": [3, 3, 3],
        "made": [-0.5 - by, -0.25 - by, -0.75 - by],
        **changes,
    }


def entering(prompt: str, size: float | None, number: int = 1, **changes: Any) -> dict[str, Any]:
    """What entered the experts in one call."""
    mix = None if size is None else size / 3
    return {"prompt": prompt, "rank": 0, "layer": "layers.1", "number": number, "size": size, "mix": mix, **changes}
