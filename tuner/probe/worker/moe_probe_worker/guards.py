"""Inputs derived from guards: batch sizes at which the model's code goes another way.

Dynamo traces the model's eager forward once, with the number of tokens left
open, and notes each comparison of it that the code makes. A size for which such
a guard does not hold takes the other side of a branch, so it becomes a scenario.
Nothing of the trace runs. A model that Dynamo cannot trace as one graph gives no
derived inputs; its other scenarios run all the same.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from moe_probe_worker import engine
from moe_probe_worker.compiled import clean_state, without_experts
from moe_probe_worker.entrances import Form, traceable, watched
from moe_probe_worker.passes import Passes
from moe_probe_worker.scenarios import Scenario, take
from shared_worker.vllm_types import Tensor

Guard = Callable[[int], bool]
"""Whether it holds for a number of tokens."""
EXAMPLE = 17
"""Tokens of the first trace."""
MOST = 12
"""Sizes that are derived for one model."""
MOST_OF_ONE = 4
"""Sizes that are derived from one guard."""
MOST_GUARDS = 64
"""Guards of one trace that are looked at."""
FEWEST = 2
"""Traces that are made however long they take, if the first gives a size: a comparison may hide another."""
LIMIT_S = 2.0
"""Seconds of processor time for the traces of one model; none is begun that would end later. On a busy machine they
take longer, and find the same."""


class Captured(BaseException):
    """The trace is complete. Not an `Exception`: Dynamo would treat that as a failure of the backend."""


def derived(passes: Passes, planned: list[Scenario]) -> list[Scenario]:
    """Scenarios with numbers of tokens at which the code of the model goes another way than in those planned.

    Args:
        passes: the eager passes of the model; its layers are as before afterwards.
        planned: the scenarios that run anyway.

    Returns:
        At most `MOST` scenarios, named `derived_tokens_N`; none where there is no MoE layer or no trace.
    """
    if not passes.recorder.layers:
        return []
    _, _, multimodal, longest = passes.inputs([])
    feed = "embeds" if multimodal else "ids"
    example = batch("example", EXAMPLE, feed, longest)
    forms: dict[str, Form] = {}
    with watched(passes.recorder.layers, forms) as entered:
        entry = without_experts(passes, example, entered)
    if entry["status"] != "ran":
        return []
    covered = {len(scenario.ids) for scenario in planned}
    with clean_state(), traceable(passes.model, passes.recorder.layers, forms):
        sizes = derived_sizes(lambda size: trace(passes, batch("example", size, feed, longest)), covered)
    return [batch(f"derived_tokens_{size}", size, feed, longest) for size in sizes]


def batch(name: str, size: int, feed: str, longest: int) -> Scenario:
    """A prefill of this many ordinary tokens."""
    positions = [position % longest for position in range(size)]
    return Scenario(name, take(range(64), size), positions, feed, optional=True)


def derived_sizes(guards_of: Callable[[int], list[Guard]], covered: set[int]) -> list[int]:
    """Numbers of tokens on the other side of a guard, those of the first trace first.

    Args:
        guards_of: takes a number of tokens; gives the guards of a trace with as many, in order, each a function from a
            number of tokens to whether the guard holds.
        covered: numbers of tokens that are no news.
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

    Of each run of such numbers only the two ends are returned: an error by one would show there.
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
    """The guards on the number of tokens in one trace of the model's forward; empty if it is not one graph."""
    import torch
    from vllm.forward_context import set_forward_context

    collected: list[Guard] = []

    def backend(_graph: object, _inputs: object) -> None:
        collected.extend(guards(torch._guards.TracingContext.get().fake_mode.shape_env, len(scenario.ids)))
        raise Captured

    context = set_forward_context(None, passes.vllm_config, num_tokens=len(scenario.ids))
    # Sizes of earlier traces would make Dynamo leave numbers open that are none of tokens.
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
    """Tell Dynamo which dimension of each tensor is the number of tokens: of positions the last one (M-RoPE)."""
    import torch

    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            torch._dynamo.mark_dynamic(value, value.ndim - 1 if name == "positions" else 0)


def guards(shape_env: Any, size: int) -> list[Guard]:
    """Each guard on nothing but the number of tokens, as a function of it.

    Args:
        shape_env: of the trace that is under way.
        size: the number of tokens in this trace; a symbol with another value is none of tokens.
    """
    from torch.utils._sympy.printers import PythonPrinter

    # torch 2.11 and later call the table `backed_var_to_val`, those before `var_to_val`.
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
    return [holds(text, str(tokens)) for text in formulas.values()]


def holds(text: str, name: str) -> Guard:
    """The guard as a function of the number of tokens; where it cannot be computed, it counts as holding.

    Args:
        text: the formula in Python.
        name: what stands for the number of tokens in it.
    """
    code = compile(text, "<guard>", "eval")

    def guard(tokens: int) -> bool:
        try:
            return bool(eval(code, {"math": math, name: tokens}))  # noqa: S307  printed by torch from a formula
        except Exception:
            return True

    return guard
