"""What the code around a region asks of a list, and the lists that stand for all lists of which it asks no more."""

import ast
from dataclasses import dataclass
from typing import Any

from shared_worker.vllm_types import Tensor
from vllm_launch_worker.proof.stores import LATER, mentioned, nulled_by

MOST_ROWS = 2**40
"""More rows than a batch has tokens, in any launch."""
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension, ast.ListComp, ast.SetComp, ast.DictComp, *LATER)
PLACES = frozenset(("device", "dtype"))
"""Attributes of a tensor, and arguments of torch's functions, that say where and in which type a tensor is kept."""

ASKS = (
    frozenset(("shape", "size", "sym_size", "numel", "nelement", "ndim", "dim", "ndimension", "stride", "nbytes"))
    | {"dtype", "device", "type", "layout", "element_size", "itemsize", "storage", "untyped_storage", "is_contiguous"}
    | {"is_floating_point", "is_complex", "is_cuda", "is_cpu", "is_meta", "result_type", "equal", "allclose"}
)
"""Attributes of tensors, and functions of torch, that tell of sizes, types and devices."""
SPLITS = frozenset(
    ("list", "tuple", "map", "filter", "reduce", "zip", "enumerate", "iter", "next", "sum", "any", "all")
) | {"unbind", "split", "chunk", "tolist"}
"""Functions that may take a tensor apart into its rows."""


@dataclass(frozen=True)
class Use:
    """A place that reads a list.

    Attributes:
        node: the syntax node that reads it.
        around: identity (`id`) of each syntax node of the function -> the node around it.
        is_repeated: whether the function ran more than once in one trace.
    """

    node: ast.AST
    around: dict[int, ast.AST]
    is_repeated: bool

    @property
    def user(self) -> ast.AST:
        """The syntax node around it."""
        return self.around[id(self.node)]

    @property
    def is_plain(self) -> bool:
        """Whether the code asks only whether the list is there or is true, or uses an element plainly."""
        user = self.user
        if isinstance(user, ast.UnaryOp):
            return isinstance(user.op, ast.Not)
        if isinstance(user, (ast.If, ast.IfExp)):
            return user.test is self.node
        if isinstance(user, ast.Compare):
            others = [operand for operand in [user.left, *user.comparators] if operand is not self.node]
            is_identity = all(isinstance(operator, (ast.Is, ast.IsNot)) for operator in user.ops)
            return is_identity and all(isinstance(other, ast.Constant) and other.value is None for other in others)
        return self.takes_rows or self.tells_place or self.element_with_rows is not None

    @property
    def asks_for_truth(self) -> bool:
        """Whether the code asks whether the list is true, which an empty list is not."""
        return isinstance(self.user, (ast.UnaryOp, ast.If, ast.IfExp))

    @property
    def takes_rows(self) -> bool:
        """Whether the code only takes the first rows of an element, and asks for nothing of them."""
        rows = self._around_element
        if not isinstance(rows, ast.Subscript) or not isinstance(rows.slice, ast.Slice):
            return False
        user = self.around[id(rows)]
        return isinstance(user, (ast.BinOp, ast.Dict, ast.DictComp)) or mentioned(user) == "zero_"

    @property
    def tells_place(self) -> bool:
        """Whether the code only gives the device or the type of an element to torch, for the elements of a new list.

        The new list must take the place of this one, so that what asks for its elements is a place that reads it.
        """
        place = self._around_element
        argument = self.around[id(place)] if mentioned_place(place) else None
        if not isinstance(argument, ast.keyword) or argument.arg not in PLACES:
            return False
        call = self.around[id(argument)]
        return isinstance(call, ast.Call) and is_of_torch(call.func) and self._replaced_with(self.around[id(call)])

    def _replaced_with(self, values: ast.AST) -> bool:
        """Whether code stores a list that it writes out in the same attribute, and nowhere else."""
        assignment = self.around[id(values)] if isinstance(values, (ast.List, ast.ListComp)) else None
        if not isinstance(assignment, ast.Assign) or assignment.value is not values or len(assignment.targets) > 1:
            return False
        target = assignment.targets[0]
        return (
            isinstance(target, ast.Attribute) and isinstance(self.node, ast.Attribute) and target.attr == self.node.attr
        )

    @property
    def element_with_rows(self) -> int | None:
        """The index of the element whose number of rows the code compares, to be below or above another number.

        None if the code does not only do this, or does it more than once in a pass.
        """
        if self.is_repeated or self.is_in_loop:
            return None
        size = self._around_element
        call = self.around[id(size)] if mentioned(size) == "size" else None
        if not isinstance(call, ast.Call) or call.func is not size or not is_first_dimension(call):
            return None
        compared = self.around[id(call)]
        if not isinstance(compared, ast.Compare) or len(compared.ops) > 1 or not isinstance(compared.ops[0], ORDERS):
            return None
        return constant_index(self.user)

    @property
    def is_in_loop(self) -> bool:
        """Whether the place is in a loop, or in a function inside the function."""
        node = self.node
        while id(node) in self.around:
            node = self.around[id(node)]
            if isinstance(node, LOOPS) and id(node) in self.around:
                return True
        return False

    @property
    def _around_element(self) -> ast.AST:
        """The syntax node around an element of the list. The list itself if the code takes no element."""
        element = self.user
        is_element = isinstance(element, ast.Subscript) and not isinstance(element.slice, ast.Slice)
        return self.around[id(element)] if is_element else self.node


def mentioned_place(node: ast.AST) -> bool:
    """Whether an expression is the device or the type of a tensor."""
    return isinstance(node, ast.Attribute) and node.attr in PLACES


def is_of_torch(function: ast.expr) -> bool:
    """Whether a called function is named as one of torch: `torch.NAME`."""
    return isinstance(function, ast.Attribute) and mentioned(function.value) == "torch"


def is_first_dimension(call: ast.Call) -> bool:
    """Whether the only argument of a call is the constant 0."""
    return [ast.unparse(argument) for argument in call.args] == ["0"] and not call.keywords


def constant_index(element: ast.AST) -> int | None:
    """The constant index with which code takes an element. None if it is not constant."""
    index = element.slice if isinstance(element, ast.Subscript) else None
    return index.value if isinstance(index, ast.Constant) and type(index.value) is int else None


def asks_of_tensors(function: ast.AST, name: str, arguments: frozenset[str]) -> bool:
    """Whether a function may ask for the size, type or device of a tensor, or take one apart.

    Args:
        function: the function.
        name: an attribute with a list. To ask for its elements is left out.
        arguments: the arguments of the outermost call. A variable of this name holds one of them, unless the function
            stores another value than None in it.
    """
    nodes = list(ast.walk(function))
    nulled = {id(target) for node in nodes for target in nulled_by(node)}
    stored = {name for node in nodes if id(node) not in nulled for name in variable_stored_by(node)}
    return any(asks(node, name, arguments - stored) or takes_apart(node) for node in nodes)


def variable_stored_by(node: ast.AST) -> list[str]:
    """The variable that a syntax node stores or deletes, as a list. Empty for other nodes."""
    return [node.id] if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else []


def asks(node: ast.AST, name: str, arguments: frozenset[str]) -> bool:
    """Whether a syntax node asks for something of a tensor (see `asks_of_tensors`)."""
    if mentioned(node) not in ASKS or isinstance(node, ast.Name):
        return False
    owner = node.value if isinstance(node, ast.Attribute) else None
    if isinstance(owner, ast.Subscript) and mentioned(owner.value) == name:
        return False
    return not isinstance(owner, ast.Name) or owner.id not in arguments


def takes_apart(node: ast.AST) -> bool:
    """Whether a syntax node may take a tensor apart: by one of `SPLITS`, or by a loop over anything but a range."""
    if isinstance(node, (ast.For, ast.comprehension)):
        return not isinstance(node.iter, ast.Call) or mentioned(node.iter.func) != "range"
    return isinstance(node, (ast.Starred, ast.YieldFrom)) or mentioned(node) in SPLITS


def lists_like(value: Any, uses: list[Use]) -> list[Any]:
    """Values that may lead to different paths. The result is empty if the code uses the list in another way.

    It is empty, too, for a value that is not a list or a tuple.

    A list, None, and the list with one more element stand for all. The empty list is one of them if code asks whether
    the list is true. Else it is as another list or an IndexError. If code compares the number of rows of an element
    with another number, once in a pass, then elements without rows, and with very many, are two of them: with these the
    comparison has both its results.

    Args:
        value: the list.
        uses: the places that read it.
    """
    if not isinstance(value, (list, tuple)) or not all(use.is_plain for use in uses):
        return []
    values = [value, None, [*value, *(value[-1:] or [None])]]
    if any(use.asks_for_truth for use in uses):
        values.append([])
    comparing = [use for use in uses if use.element_with_rows is not None]
    if len(comparing) > 1 or (comparing and not has_rows(value)):
        return []
    if comparing:
        values += [[resized(element, rows) for element in value] for rows in (0, MOST_ROWS)]
    return values


def has_rows(value: Any) -> bool:
    """Whether a value is a list of tensors that is not empty."""
    import torch

    return isinstance(value, list) and bool(value) and all(isinstance(element, torch.Tensor) for element in value)


def resized(element: Tensor, rows: int) -> Tensor:
    """A tensor as another, with this number of rows. It needs memory for one row."""
    return element.new_zeros((1, *element.shape[1:])).expand(rows, *element.shape[1:])
