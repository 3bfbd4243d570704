"""Turns off Triton's search for the fastest configuration of a kernel. A probe runs each kernel only a few times."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Function

UNTRIED = [float("inf")] * 3
"""The timing of a configuration that was not tried, in ms. It is never the fastest."""


def take_the_first() -> None:
    """Make Triton's autotuner use the first configuration of a kernel that runs. It does not compile others.

    The result of a kernel is the same in each configuration. The search compiles dozens of them: for Mamba kernels this
    took over a minute per model on an H200.
    """
    with suppress(ImportError):
        from triton.runtime.autotuner import Autotuner

        if hasattr(Autotuner, "_bench"):
            Autotuner._bench = first_that_runs(Autotuner._bench)


def first_that_runs(bench: Function) -> Function:
    """A replacement for `Autotuner._bench`. It runs configurations until one works, and does not measure time.

    `Autotuner.run` makes a new `nargs` for each search. So `ran_for`, the `nargs` of the last success, shows whether a
    configuration already ran in this search.
    """

    def bench_until_success(self: Any, *arguments: Any, config: object, **meta: Any) -> Any:
        if getattr(self, "ran_for", None) is self.nargs:
            return UNTRIED
        self.do_bench = run_once
        timing = bench(self, *arguments, config=config, **meta)
        if list(timing) != UNTRIED:
            self.ran_for = self.nargs
        return timing

    return bench_until_success


def run_once(kernel_call: Callable[[], object], quantiles: list[float]) -> list[float]:
    """Run a kernel once in place of a benchmark. Returns 0.0 ms for each quantile."""
    kernel_call()
    return [0.0] * len(quantiles)
