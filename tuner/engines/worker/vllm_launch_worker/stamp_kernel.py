"""The kernel that writes a stamp on a GPU. It is imported only on a machine with a GPU, because Triton needs one."""

# ruff: noqa: ANN001, ANN201  Triton reads annotations of a kernel as its own types, so the kernel does not have any

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["kind", "tokens", "capacity"])
def write(records, cursor, number, layer, kind, tokens, capacity):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Append one record of four numbers. If the buffer is full, only count the record."""
    at = tl.atomic_add(cursor, 1)
    if at < capacity:
        row = records + at * 4
        tl.store(row + 1, tl.load(layer))
        tl.store(row + 2, tl.load(number))
        tl.store(row + 3, tokens)
        tl.store(row, kind)
