"""Probe reports as the worker writes them: plain JSON values."""

from collections.abc import Sequence
from typing import Any

from rules.judge import REPEATED, REQUIRED, judge
from rules.launch_key import launch_key, reaching
from rules.report import parse_report
from rules.verdict import Verdict, Word
from tuner.verdicts.identity import launch_worker_digest

SCENARIOS = (*REQUIRED, *REPEATED, "token_7_decode")
"""What these reports plan: all that the probe always runs, and one token that the config names."""
EQUAL_PASSES = 16
"""Passes of each of `REPEATED`."""
WORKER = launch_worker_digest()
"""The launch worker as it is: what another one saw is outdated."""


def layers(count: int) -> list[str]:
    """Registered names of `count` MoE layers."""
    return [f"model.layers.{index}.mlp.experts" for index in range(count)]


def scenario(name: str, *passes: Sequence[str], **changes: Any) -> dict[str, Any]:
    """One scenario that ran these passes; without any it saw no MoE layer."""
    orders = [list(order) for order in passes] or [[]]
    return {"name": name, "tokens": 9, "status": "ran", "detail": "", "passes": orders, **changes}


def failed(name: str, detail: str = "RuntimeError: no kernel") -> dict[str, Any]:
    """One scenario in which the model raised."""
    return scenario(name, status="failed", detail=detail, passes=[])


def report(registered: Sequence[str] = tuple(layers(3)), **changes: Any) -> dict[str, Any]:
    """A report in which each scenario ran the registered order once, and the plain launch is proved.

    Args:
        registered: MoE layer names in construction order.
        changes: fields to replace; `orders`, from scenario names to one executed order each, replaces those of the
            scenarios it names and adds the others.
    """
    orders = everywhere(registered) | changes.pop("orders", {})
    whole = {
        "result": "ok",
        "architecture": "MixtralForCausalLM",
        "model_class": "vllm.model_executor.models.mixtral.MixtralForCausalLM",
        "environment": {"vllm": "0.19.1", "torch": "2.10.0", "platform": "CudaPlatform", "gpu": None},
        "flag": {"field": "field", "effective_when_true": True, "counter_ran": True},
        "registered": list(registered),
        "observation_method": "call_and_run",
        "declares_experts": bool(registered),
        "planned": list(orders),
        "scenarios": [scenario(name, *[order] * times(name)) for name, order in orders.items()],
        "assumptions": [{"kind": "weights_random", "detail": "uniform in +-1e-3"}],
        "seconds": {"build": 1.5, "weights": 0.5, "passes": 2.0},
        "sources": {"vllm/model_executor/models/mixtral.py": "a" * 64},
        "counter": None,
        "whole": None,
        "compile": None,
        "proofs": [proof(registered)] if registered else [],
    }
    return whole | changes


def times(name: str) -> int:
    """How many equal passes this scenario makes."""
    return EQUAL_PASSES if name in REPEATED else 1


def whole(*orders: Sequence[str], registered: Sequence[str] = tuple(layers(3)), **changes: Any) -> dict[str, Any]:
    """The model with every layer: it ran the registered order, then each of `orders`."""
    ran = [scenario("decode_1", registered)]
    ran += [scenario(f"more_{index}", order) for index, order in enumerate(orders)]
    return {"status": "ran", "detail": "", "registered": list(registered), "scenarios": ran, **changes}


def rank(registered: Sequence[str] = tuple(layers(3)), **changes: Any) -> dict[str, Any]:
    """One process whose trace calls the registered layers in order, without anything against it."""
    return {
        "name": "rank 0 of 1",
        "status": "traced",
        "failures": [],
        "registered": list(registered),
        "calls": list(registered),
        "guards": [],
        "assumptions": [{"kind": "meta_device", "detail": "whole"}],
        "seconds": {"build": 0.3, "trace": 5.8, "outside": 0.1},
        **changes,
    }


def failure(code: str = "outer_guard", condition: int = 4, **fields: str | int) -> dict[str, Any]:
    """A condition of the proof that does not hold."""
    return {"code": code, "condition": condition, "fields": fields}


NOT_COMPILED = {"status": "not_compiled", "calls": [], "failures": [failure("not_decorated", 1, **{"class": "Model"})]}
"""Fields of a rank that vLLM does not compile."""


def proof(
    registered: Sequence[str] = tuple(layers(3)), *args: str, config: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """The proof of a launch, of the plain one without `args`.

    Args:
        registered: MoE layer names in construction order.
        args: arguments behind the model.
        config: its compilation config.
        changes: fields to replace; those of `rank` are of its only process.
    """
    only = rank(registered, **changes.pop("rank", {}))
    return {
        "key": launch_key(args, config or {}),
        "arguments": list(reaching(args)),
        "platform": "cpu",
        "made_at": "2026-11-28T12:00:00+00:00",
        "worker": WORKER,
        "ranks": [only],
        "variables": {},
        "fields": ["model_config.dtype"],
        "sources": {"vllm/model_executor/models/mixtral.py": "a" * 64},
        **changes,
    }


def compiled(*pairs: tuple[Sequence[str], Sequence[str]], **changes: Any) -> dict[str, Any]:
    """Eager and compiled orders of a scenario each."""
    ran = [
        {"name": f"compared_{index}", "eager": [list(eager)], "compiled": [list(now)]}
        for index, (eager, now) in enumerate(pairs)
    ]
    return {"status": "ran", "detail": "", "scenarios": ran, **changes}


def everywhere(order: Sequence[str]) -> dict[str, Sequence[str]]:
    """`orders` for `report`: each scenario ran this order."""
    return {name: order for name in SCENARIOS}  # noqa: C420  one list for all is what is meant


def replaced(data: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The report with another entry for the scenario of that name."""
    return data | {"scenarios": [entry if old["name"] == entry["name"] else old for old in data["scenarios"]]}


def without(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """The report as if scenarios of these names had never been planned."""
    rest = [entry for entry in data["scenarios"] if entry["name"] not in names]
    return data | {"scenarios": rest, "planned": [name for name in data["planned"] if name not in names]}


def verdict(data: dict[str, Any]) -> Verdict:
    """The verdict on a report."""
    return judge(parse_report(data))


def word(data: dict[str, Any]) -> Word:
    """The word of the verdict on a report."""
    return verdict(data).word
