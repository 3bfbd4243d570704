"""Inputs derived from a condition that was never seen the other way round."""

import ast
import inspect
import math
from itertools import product
from operator import add, mul, sub

from moe_probe_worker import engine
from moe_probe_worker.constants import argument
from moe_probe_worker.functions import NoSource
from moe_probe_worker.scenarios import Scenario, take

DEPTH = 6
"""How many assignments, calls and arguments a number is followed through."""
MOST = 12
"""Numbers of one condition that are tried."""
LARGEST = 10_000_000
"""No token, count or position is as large."""
ARITHMETIC = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.FloorDiv: lambda one, other: one // max(other, 1)}
"""What is computed of two numbers before they are tried."""


def derived(branch, trace, calls, passes) -> list:
    """Scenarios that may change the outcome: each number the condition depends on as a token, a count, a position.

    Args:
        branch: the branch point.
        trace: what was seen while the passes ran.
        calls: knows the live values of expressions.
        passes: tells vocabulary, longest position and how the model is fed.
    """
    if branch.test is None:
        return []
    found = sorted(Numbers(trace, calls).behind(branch.test, branch.function, DEPTH))
    return [one for number in found[:MOST] for one in around(number, passes)]


class Numbers:
    """Collects the integers that an expression depends on: literals, attributes, and those behind names and calls."""

    def __init__(self, trace, calls) -> None:
        self.trace, self.calls = trace, calls
        self._done: set = set()

    def behind(self, node, function, depth: int) -> set:
        """The integers, each node looked at once."""
        if node is None or depth < 0 or id(node) in self._done:
            return set()
        self._done.add(id(node))
        return set().union(*(self._part(part, function, depth) for part in ast.walk(node)))

    def _part(self, part, function, depth: int) -> set:
        if isinstance(part, ast.Constant):
            return whole(part.value)
        if isinstance(part, ast.BinOp):
            return self._computed(part, function, depth)
        found: set = set()
        if isinstance(part, ast.Attribute | ast.Name):
            found = set().union(*(whole(value) for value in self.calls.values(part, function)))
        if isinstance(part, ast.Name):
            stored = [self.behind(value, function, depth - 1) for value, _ in function.stores(part.id)]
            found = found.union(*stored, self._given(part.id, function, depth))
        return found | self._called(part, function, depth) if isinstance(part, ast.Call) else found

    def _computed(self, part, function, depth: int) -> set:
        """What plain arithmetic gives, such as a first token plus a number of others."""
        sides = [Numbers(self.trace, self.calls).behind(side, function, depth - 1) for side in (part.left, part.right)]
        operation = ARITHMETIC.get(type(part.op))
        pairs = product(*(sorted(side)[:4] for side in sides)) if operation else ()
        return set().union(*(whole(operation(*pair)) for pair in pairs))

    def _given(self, name: str, function, depth: int) -> set:
        """Integers behind the expressions that callers pass for a parameter."""
        edges = self.trace.edges.get(function.code, ()) if name in function.parameters else ()
        calls = [(caller, caller.call_at(offset)) for caller, offset in edges if caller]
        passed = [(argument(name, function, call), caller) for caller, call in calls if call is not None]
        return set().union(*(self.behind(node, caller, depth - 1) for node, caller in passed))

    def _called(self, call, function, depth: int) -> set:
        """Integers in a function of the model's own that the condition calls."""
        found: set = set()
        for value in self.calls.values(call.func, function):
            method = inspect.unwrap(value) if callable(value) else None
            code = getattr(method, "__code__", None)
            if code is None or "/torch/" in code.co_filename:
                continue
            try:
                inner = self.trace.function(code, method.__globals__)
            except NoSource:  # nothing to derive
                continue
            self.trace.instances.setdefault(code, [value.__self__] if inspect.ismethod(value) else [])
            parts = [
                *(node.test for node in inner.nodes(ast.If, ast.IfExp)),
                *(n.value for n in inner.nodes(ast.Return)),
            ]
            found = found.union(*(self.behind(part, inner, depth - 1) for part in parts))
        return found


def whole(value) -> set:
    """The value as an integer worth trying, if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return set()
    return {math.ceil(value)} if 1 < value < LARGEST else set()


def around(number: int, passes) -> list:
    """Scenarios with this number as token id, token count and position, and its neighbours."""
    vocabulary, special, multimodal, longest = passes.inputs([])
    feed, plain = "embeds" if multimodal else "ids", [token for token in range(64) if token not in special]
    found = as_token(number, plain) if number < vocabulary else []
    for count in (number + 1, number, number - 1):
        if 0 < count <= engine.MAX_TOKENS:
            found.append((f"tokens_{count}", take(plain, count), list(range(count))))
    for position in (number + 1, number, number - 1):
        if position < longest:
            found.append((f"position_{position}", take(plain, 1), [position]))
    if 4 < number < longest - 8:  # noqa: PLR2004  four positions on either side
        found.append((f"span_{number}", take(plain, 9), list(range(number - 4, number + 5))))
    return [Scenario(f"derived_{name}", ids, positions, feed, optional=True) for name, ids, positions in found]


def as_token(number: int, plain: list) -> list:
    """The number as the only token, among others, and as every token: name, ids and positions."""
    among = [*take(plain, 4), number, *take(plain, 4)]
    return [
        (f"token_{number}_alone", [number], [100]),
        (f"token_{number}_among", among, list(range(9))),
        (f"token_{number}_only", [number] * 9, list(range(9))),
    ]
