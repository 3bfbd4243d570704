"""Where the stamps of MoE calls go: a buffer on the device, which kernels write and the host reads after the passes.

A record is four numbers: `kind` (a layer was called, or ran), the layer's index, the number of the pass, and the tokens
of the call. A stamp is an operator of our own: Dynamo keeps it in its graph, and in a CUDA graph its kernel is captured
and replayed with everything around it. Nothing waits for the host.
"""

from collections.abc import Callable

from vllm_launch_worker.trace import CALLED, RAN

FIELDS = 4
CAPACITY = 1 << 20
"""Records; what comes after the buffer is full is counted and lost."""


class Ring:
    """The buffer of one engine.

    Args:
        device: a torch device; on anything but CUDA the host writes.
        capacity: records that it holds.

    Attributes:
        token: a tensor that each stamp says it changes, so that no two change places.
        entered: stamps whose Python ran since the last `clear`; a replayed CUDA graph runs none.
    """

    def __init__(self, device, capacity: int = CAPACITY) -> None:
        import torch

        self.capacity = capacity
        self.records = torch.zeros((capacity, FIELDS), dtype=torch.int32, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.number = torch.zeros(1, dtype=torch.int32, device=device)
        self.token = torch.zeros(1, dtype=torch.int32, device=device)
        self.entered = 0
        self._write = device_writer() if torch.device(device).type == "cuda" else write_here

    def stamp(self, layer, kind: int, tokens: int) -> None:
        """Append a record; what is captured in a CUDA graph is the kernel that does it."""
        self.entered += 1
        self._write(self, layer, kind, tokens)

    def begin_pass(self) -> None:
        """Later stamps belong to the next pass; on the device, behind the passes before."""
        self.number += 1

    def clear(self) -> None:
        """Forget all records."""
        self.cursor.zero_()
        self.number.zero_()
        self.entered = 0

    def read(self) -> tuple[list, int]:
        """All records in their order, as lists of four, and how many were lost; waits for the device.

        Raises:
            RuntimeError: a record was begun and not written.
        """
        written = int(self.cursor.item())
        rows = self.records[: min(written, self.capacity)].tolist()
        if any(row[0] not in (CALLED, RAN) for row in rows):
            raise RuntimeError("a record of the trace is torn")
        self.records.zero_()
        return rows, max(0, written - self.capacity)


def write_here(ring: Ring, layer, kind: int, tokens: int) -> None:
    """The stamp where no kernel of ours runs."""
    import torch

    at = int(ring.cursor.item())
    if at < ring.capacity:
        ring.records[at] = torch.tensor([kind, int(layer.item()), int(ring.number.item()), tokens], dtype=torch.int32)
    ring.cursor += 1


def device_writer() -> Callable:
    """The stamp as a kernel of one thread, compiled before any graph is captured."""
    from vllm_launch_worker.stamp_kernel import write

    def writer(ring: Ring, layer, kind: int, tokens: int) -> None:
        write[(1,)](ring.records, ring.cursor, ring.number, layer, kind, tokens, ring.capacity, num_warps=1)

    return writer


_library: list = []
_rings: list[Ring] = []


def use(ring: Ring) -> None:
    """From here on stamps go to this buffer."""
    _rings[:] = [ring]


def operator() -> Callable:
    """The operator `moe_replay::stamp(hidden, token, layer, kind, tokens)`.

    Its schema says that it changes `hidden`, which it does not: so it stays before the layer that reads `hidden` and
    behind the one that made it. The layer's index is a tensor, not a constant: else each layer's graph would be
    another one, which the launch's are not.
    """
    import torch

    def run(_hidden, _token, layer, kind: int, tokens: int) -> None:
        if _rings:
            _rings[-1].stamp(layer, kind, tokens)

    if not _library:
        library = torch.library.Library("moe_replay", "FRAGMENT")
        library.define("stamp(Tensor(a!) hidden, Tensor(b!) token, Tensor layer, int kind, SymInt tokens) -> ()")
        library.impl("stamp", run, "CompositeExplicitAutograd")
        torch.library.register_fake("moe_replay::stamp", lambda *_: None, lib=library)
        _library.append(library)
    return torch.ops.moe_replay.stamp
