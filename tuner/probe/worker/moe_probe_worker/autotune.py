"""Triton kernels without the search for their fastest form: a probe runs each a few times only."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Function

UNTRIED = [float("inf")] * 3
"""The timing of a configuration that was not tried: never the fastest."""


def take_the_first() -> None:
    """Let Triton's autotuner keep the first configuration of a kernel that runs, and compile no other.

    A kernel computes the same in each. The search compiles dozens of them: Mamba kernels took over a minute a model
    on an H200.
    """
    with suppress(ImportError):
        from triton.runtime.autotuner import Autotuner

        if hasattr(Autotuner, "_bench"):
            Autotuner._bench = first_that_runs(Autotuner._bench)


def first_that_runs(bench: Function) -> Function:
    """`Autotuner._bench` that times nothing, and tries nothing more once a configuration ran.

    `Autotuner.run` makes `nargs` anew for each launch that searches; the one of the last success is kept as its mark.
    """

    def once(self: Any, *arguments: Any, config: object, **meta: Any) -> Any:
        if getattr(self, "ran_for", None) is self.nargs:
            return UNTRIED
        self.do_bench = ran
        timing = bench(self, *arguments, config=config, **meta)
        if list(timing) != UNTRIED:
            self.ran_for = self.nargs
        return timing

    return once


def ran(kernel_call: Callable[[], object], quantiles: list[float]) -> list[float]:
    """Run a kernel once, as its benchmark."""
    kernel_call()
    return [0.0] * len(quantiles)
