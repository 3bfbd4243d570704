"""Probe reports as the worker writes them: plain JSON values."""

from collections.abc import Sequence
from typing import Any

from rules.judge import EQUAL_PASSES, IN_VARIANTS, REPEATED, REQUIRED, judge
from rules.report import parse_report
from rules.verdict import Verdict, Word

SCENARIOS = (*REQUIRED, *REPEATED, "token_7_decode")
"""What these reports plan: all that a safe verdict needs, and one token that the config names."""


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
    """A report in which each scenario ran the registered order once.

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
        "recording": "call_and_run",
        "declares_experts": bool(registered),
        "planned": list(orders),
        "scenarios": [scenario(name, *[order] * times(name)) for name, order in orders.items()],
        "assumptions": [{"kind": "weights_random", "detail": "uniform in +-1e-3"}],
        "seconds": {"build": 1.5, "weights": 0.5, "passes": 2.0},
        "sources": {"vllm/model_executor/models/mixtral.py": "a" * 64},
        "counter": None,
        "exploration": exploration(branch(), branch(status="constant", outcomes=["true"])),
        "variants": [],
        "compile": None,
    }
    return whole | changes


def times(name: str) -> int:
    """How many equal passes this scenario makes."""
    return EQUAL_PASSES if name in REPEATED else 1


def exploration(*branches: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What was found of these branches."""
    return {"status": "ran", "detail": "", "functions": 5, "seconds": 0.1, "branches": [*branches], **changes}


def branch(**changes: Any) -> dict[str, Any]:
    """One branch that was seen all ways."""
    return {
        "file": "vllm/model_executor/models/mixtral.py",
        "line": 361,
        "function": "MixtralModel.forward",
        "kind": "if",
        "condition": "len(input_ids) > 640",
        "outcomes": ["false", "true"],
        "status": "seen",
        "because": "",
        "tried": [],
        **changes,
    }


UNEXPLORED = branch(
    status="unexplored", outcomes=["false"], because="was never true in some place", tried=["derived_1"]
)
"""A branch that keeps any model with MoE layers from being proved safe."""


def variant(
    name: str, *orders: Sequence[str], registered: Sequence[str] | None = None, **changes: Any
) -> dict[str, Any]:
    """The model under another setting: every scenario ran the registered order, then one more for each of `orders`.

    Args:
        name: the setting.
        orders: executed orders of further scenarios.
        registered: MoE layer names in construction order; three layers if None.
        changes: fields to replace.
    """
    own = layers(3) if registered is None else list(registered)
    ran = [scenario(each, *[own] * times(each)) for each in IN_VARIANTS]
    ran += [scenario(f"more_{index}", order) for index, order in enumerate(orders)]
    return {"name": name, "status": "ran", "detail": "", "registered": own, "scenarios": ran, **changes}


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
