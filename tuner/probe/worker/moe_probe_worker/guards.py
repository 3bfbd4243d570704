"""Derives scenarios from Dynamo's guards: batch sizes at which the model's code takes another branch.

Dynamo traces the model's eager forward with the number of tokens as a symbol.
Each comparison of that symbol in the code becomes a guard. A size for which a
guard does not hold takes the other branch, so it becomes a scenario. The traced
code does not run. If Dynamo cannot trace a model as one graph, no scenarios are
derived. The other scenarios run anyway.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from moe_probe_worker import engine
from moe_probe_worker.compiled import clean_state, without_experts
from moe_probe_worker.entrances import Form, make_traceable, watch_layers
from moe_probe_worker.passes import Passes
from moe_probe_worker.scenarios import Scenario, take
from shared_worker.vllm_types import Tensor

Guard = Callable[[int], bool]
"""Takes a number of tokens. Returns whether the guard holds for it."""
EXAMPLE = 17
"""Tokens in the first trace."""
MOST = 12
"""The most sizes that are derived for one model."""
MOST_OF_ONE = 4
"""The most sizes that are derived from one guard."""
MOST_GUARDS = 64
"""The most guards of one trace that are used. The others are ignored."""
FEWEST = 2
"""Traces that ignore the time limit, if the first one gives a size. A branch may contain another comparison."""
LIMIT_S = 2.0
"""Seconds of processor time for all traces of one model. A trace that would probably end later is not started.

The limit is processor time, so a busy machine gives the same sizes after more wall time.
"""


class Captured(BaseException):
    """Ends a complete trace. Dynamo treats an `Exception` as an error of the backend, so it is a `BaseException`."""


def derive_scenarios(passes: Passes, planned: list[Scenario]) -> list[Scenario]:
    """Scenarios for further batch sizes, at which the model's code takes another branch.

    Args:
        passes: the eager passes of the model. Its layers are changed and then restored.
        planned: the scenarios that run anyway. Their sizes are left out.

    Returns:
        At most `MOST` scenarios, named `derived_tokens_N`. Empty if the model does not have a MoE layer, or if the
        trace fails.
    """
    if not passes.recorder.layers:
        return []
    _, _, multimodal, longest = passes.inputs([])
    feed = "embeds" if multimodal else "ids"
    example = batch("example", EXAMPLE, feed, longest)
    forms: dict[str, Form] = {}
    with watch_layers(passes.recorder.layers, forms) as entered_names:
        entry = without_experts(passes, example, entered_names)
    if entry["status"] != "ran":
        return []
    covered = {len(scenario.ids) for scenario in planned}
    with clean_state(), make_traceable(passes.model, passes.recorder.layers, forms):
        sizes = derived_sizes(lambda size: trace(passes, batch("example", size, feed, longest)), covered)
    return [batch(f"derived_tokens_{size}", size, feed, longest) for size in sizes]


def batch(name: str, size: int, feed: str, longest: int) -> Scenario:
    """An optional scenario: a prefill of `size` ordinary tokens."""
    positions = [position % longest for position in range(size)]
    return Scenario(name, take(range(64), size), positions, feed, optional=True)


def derived_sizes(guards_of: Callable[[int], list[Guard]], covered: set[int]) -> list[int]:
    """Numbers of tokens for which a guard does not hold. Those from the first trace come first.

    Each new size is traced too, up to the limits above.

    Args:
        guards_of: takes a number of tokens, returns the guards of a trace with that number, in order.
        covered: numbers of tokens to leave out.
    """
    begin, waiting = time.thread_time(), [EXAMPLE]
    sizes: list[int] = []
    covered = {*covered, EXAMPLE}
    for traces in range(1, MOST + 2):
        for size in other_sizes(guards_of(waiting.pop(0))):
            if size not in covered and len(sizes) < MOST:
                covered.add(size)
                sizes.append(size)
                waiting.append(size)
        spent = time.thread_time() - begin
        if not waiting or (traces >= FEWEST and spent + spent / traces > LIMIT_S):
            break
    return sizes


def other_sizes(guards: list[Guard]) -> list[int]:
    """For each guard, numbers of tokens that reach it and for which it does not hold.

    Only the first and last of each range are returned, because a code error of one token would show there.
    """
    sizes: list[int] = []
    reaching = list(range(1, engine.MAX_TOKENS + 1))
    for guard in guards[:MOST_GUARDS]:
        leaving = [size for size in reaching if not guard(size)]
        reaching = [size for size in reaching if guard(size)]
        ends = [size for size in leaving if size - 1 not in leaving or size + 1 not in leaving]
        sizes += ends[:MOST_OF_ONE]
    return sizes


def trace(passes: Passes, scenario: Scenario) -> list[Guard]:
    """The guards on the number of tokens from one trace of the model's forward. Empty if it is not one graph."""
    import torch
    from vllm.forward_context import set_forward_context

    collected: list[Guard] = []

    def backend(_graph: object, _inputs: object) -> None:
        collected.extend(guards(torch._guards.TracingContext.get().fake_mode.shape_env, len(scenario.ids)))
        raise Captured

    context = set_forward_context(None, passes.vllm_config, num_tokens=len(scenario.ids))
    # Otherwise Dynamo compares with earlier traces and makes symbols of other numbers than that of tokens.
    fixed = torch._dynamo.config.patch(automatic_dynamic_shapes=False)
    try:
        with torch.inference_mode(), context, fixed:
            arguments = passes.arguments(scenario)
            leave_tokens_open(arguments)
            torch.compile(passes.model.forward, backend=backend, fullgraph=True)(**arguments)
    except (Captured, Exception):
        return collected
    return collected


def leave_tokens_open(arguments: dict[str, Tensor | None]) -> None:
    """Tell Dynamo which dimension is the number of tokens: the last one of positions (M-RoPE), else the first."""
    import torch

    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            torch._dynamo.mark_dynamic(value, value.ndim - 1 if name == "positions" else 0)


def guards(shape_env: Any, size: int) -> list[Guard]:
    """The guards that depend only on the number of tokens.

    Args:
        shape_env: the shape environment of the current trace.
        size: the number of tokens in this trace. A symbol with another value does not stand for it.
    """
    from torch.utils._sympy.printers import PythonPrinter

    # The table is called `backed_var_to_val` in torch 2.11 and later, `var_to_val` before.
    values = getattr(shape_env, "backed_var_to_val", None) or shape_env.var_to_val
    tokens = next((symbol for symbol, value in values.items() if value == size), None)
    formulas = {}
    for guard in shape_env.guards:
        symbols = guard.expr.free_symbols
        if any(values.get(symbol) != size for symbol in symbols):
            continue
        expression = guard.expr.xreplace(dict.fromkeys(symbols, tokens))
        if expression.free_symbols:
            formulas[expression] = PythonPrinter().doprint(expression)
    return [guard_of(text, str(tokens)) for text in formulas.values()]


def guard_of(text: str, name: str) -> Guard:
    """The guard as a function of the number of tokens. If it cannot be computed, it counts as holding.

    Args:
        text: the formula in Python.
        name: the variable for the number of tokens in it.
    """
    code = compile(text, "<guard>", "eval")

    def guard(tokens: int) -> bool:
        try:
            return bool(eval(code, {"math": math, name: tokens}))  # noqa: S307  printed by torch from a formula
        except Exception:
            return True

    return guard
