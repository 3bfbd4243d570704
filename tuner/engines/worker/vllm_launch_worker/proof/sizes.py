"""Decides whether a condition on the number of tokens holds for every batch of a launch."""

import math
from functools import lru_cache
from typing import Any

ALL_SIZES = 2048
"""Every batch of up to this number of tokens is tried."""


@lru_cache
def holds(condition: Any, most: int) -> bool:
    """Whether a sympy condition is true for every number of tokens from 1 to `most`.

    Above `ALL_SIZES` only some numbers are tried (see `sizes_to_try`).
    """
    import sympy

    symbols = sorted(getattr(condition, "free_symbols", ()), key=str)
    if not symbols:
        return bool(condition)
    for count in sizes_to_try(most, condition):
        if not bool(condition.subs(dict.fromkeys(symbols, sympy.Integer(count)))):
            return False
    return True


def sizes_to_try(most: int, condition: Any) -> list[int]:
    """The numbers of tokens to try: every number up to `ALL_SIZES`, and some larger ones.

    The larger ones are each integer in the condition with its two neighbours, and `most - 1` and `most`.
    """
    import sympy

    if most <= ALL_SIZES:
        return list(range(1, most + 1))
    sizes = {*range(1, ALL_SIZES + 1), most - 1, most}
    for number in map(int, condition.atoms(sympy.Integer)):
        sizes.update(size for size in (number - 1, number, number + 1) if 1 <= size <= most)
    return sorted(sizes)


def is_positive(size: Any, most: int) -> bool:
    """Whether a size is above 0 in every batch. False if the size depends on the values of a tensor."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    if isinstance(size, torch.SymInt):
        return not free_unbacked_symbols(size) and holds(size.node.expr > 0, most)
    return bool(size > 0)


def vanishes(value: Any, most: int) -> bool:
    """Whether a factor may be 0, infinite or NaN, so that the product loses the other factor.

    True also for symbolic floats, symbolic booleans and complex numbers. `value` must not be a tensor.
    """
    import torch

    if isinstance(value, torch.SymInt):
        return not is_positive(value, most)
    if isinstance(value, (int, float)):
        return value == 0 or not math.isfinite(value)
    return isinstance(value, (torch.SymFloat, torch.SymBool, complex))
