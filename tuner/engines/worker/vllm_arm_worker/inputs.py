"""Measures the hidden states that enter each MoE call, on the device.

For each call two sums are written, over the rows of real tokens alone: vLLM pads batches, and the padding may hold
anything. The sums are written by ordinary operations of torch within vLLM's MoE operator. So a CUDA graph captures and
replays them with the experts, and the graph that vLLM compiles stays as it is.
"""

from collections.abc import Callable
from typing import Any

from vllm_arm_worker.prompts import finite
from vllm_launch_worker.stamps import hidden_states, implementations

CAPACITY = 1 << 16
"""The number of calls that fit."""
PASSES = 3
"""The number of passes of a prompt that are reported: the first reads the prompt, the others add a token each."""
ALL = 1 << 30
"""A number of tokens that no batch has: before the first pass of a request, every row counts."""
WIDEST = 1 << 16
"""The largest width of hidden states."""


class Tap:
    """The sums of one process.

    Args:
        device: a torch device.

    Attributes:
        names: the names of the measured layers.
        sums: for each call, the sum of the absolute values, and a sum in which each number has a weight of its own.
            Shape (capacity, 2).
        marks: for each call, the index of the layer and the number of the pass. Shape (capacity, 2).
        cursor: the number of calls since the last `clear`, shape (1,).
        tokens: the number of real tokens in the current pass, shape (1,).
        number: the number of the current pass, shape (1,).
        weights: a weight for each column.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self.names: list[str] = []
        self.sums = torch.zeros((CAPACITY, 2), dtype=torch.float32, device=device)
        self.marks = torch.zeros((CAPACITY, 2), dtype=torch.int32, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.tokens = torch.full((1,), ALL, dtype=torch.int32, device=device)
        self.number = torch.zeros(1, dtype=torch.int32, device=device)
        self.weights = torch.cos(torch.arange(WIDEST, device=device, dtype=torch.float32) * 1.7)
        self._operator = operator(self)

    def attach(self, name: str, layer: Any) -> None:
        """Measure every call of a layer. A layer without `implementations` is not measured."""
        import torch

        number = torch.tensor([len(self.names)], dtype=torch.int32, device=self.sums.device)
        methods = implementations(layer)
        for owner, method in methods:
            setattr(owner, method, self._with_sums(getattr(owner, method), number))
        if methods:
            self.names.append(name)

    def _with_sums(self, function: Callable[..., Any], number: Any) -> Callable[..., Any]:
        def note_and_call(*args: Any, **kwargs: Any) -> Any:
            self._operator(hidden_states(args, kwargs), self.cursor, number)
            return function(*args, **kwargs)

        return note_and_call

    def note(self, hidden: Any, layer: Any) -> None:
        """Append the sums of one call.

        Args:
            hidden: the hidden states, one row for each token.
            layer: the index of the layer, shape (1,).
        """
        import torch

        rows = torch.arange(hidden.shape[0], device=hidden.device)
        real = (rows < self.tokens).unsqueeze(1)
        values = torch.where(real, hidden.reshape(hidden.shape[0], -1).float(), 0.0)
        mixed = (values * self.weights[: values.shape[1]]).sum(1) * (rows + 1)
        sums = torch.stack([values.abs().sum(), mixed.sum()]).unsqueeze(0)
        self.sums.index_copy_(0, self.cursor, sums)
        self.marks.index_copy_(0, self.cursor, torch.cat([layer, self.number]).unsqueeze(0))
        self.cursor.add_(1).clamp_(max=CAPACITY - 1)

    def begin_pass(self, tokens: int) -> None:
        """Start a pass with this number of real tokens. The device does this in order with the passes."""
        self.tokens.fill_(tokens)
        self.number += 1

    def clear(self) -> None:
        """Delete all sums, and set the number of the pass to 0."""
        self.cursor.zero_()
        self.number.zero_()

    def read(self) -> list[dict[str, Any]]:
        """Wait for the device and read the sums of the first passes.

        Returns:
            One entry for each call: `layer`: its name. `number`: the number of the pass, counted from 1. `size`: the
            sum of the absolute values. `mix`: the weighted sum. A sum is None if it is not a finite number. If a method
            of a layer calls another one that is measured, only the first counts.
        """
        written = int(self.cursor.item())
        marks, sums = self.marks[:written].tolist(), self.sums[:written].tolist()
        calls: list[dict[str, Any]] = []
        before = None
        for (layer, number), (size, mix) in zip(marks, sums, strict=True):
            if number <= PASSES and (layer, number) != before:
                entry = {"layer": self.names[layer], "number": number, "size": finite(size), "mix": finite(mix)}
                calls.append(entry)
            before = (layer, number)
        return calls


_library: list[Any] = []


def operator(tap: Tap) -> Callable[..., Any]:
    """The operator `moe_arm::note(hidden, cursor, layer)`, which calls `Tap.note`.

    It is an operator so that a compiler which traces the MoE layer itself, as on some CPUs, keeps it as it is.
    """
    import torch

    def run(hidden: Any, _cursor: Any, layer: Any) -> None:
        tap.note(hidden, layer)

    library = torch.library.Library("moe_arm", "FRAGMENT")
    library.define("note(Tensor hidden, Tensor(a!) cursor, Tensor layer) -> ()")
    library.impl("note", run, "CompositeExplicitAutograd")
    torch.library.register_fake("moe_arm::note", lambda *_: None, lib=library)
    _library[:] = [library]
    note: Callable[..., Any] = torch.ops.moe_arm.note
    return note
