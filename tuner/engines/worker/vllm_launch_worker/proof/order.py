"""Condition 2: the traced graph calls every registered layer once, in order, and each call depends on the call before.

Call B depends on call A if a chain of operations carries values from the result of A to the input of B. An operation
carries values only if it is in the list `CARRIERS` and its result is a non-empty tensor of floating-point numbers. The
MoE operator declares that it changes its input. An edge that exists only for this reason does not count.
"""

from itertools import chain
from typing import Any

from shared_worker.vllm_types import GraphModule, Module, Node
from vllm_launch_worker.proof.failure import IN_ORDER, Failure, failure
from vllm_launch_worker.proof.sizes import is_positive, vanishes

HANDING_OVER = "vllm.transformers_moe_forward"
"""The operator of vLLM's Transformers backend. It hands the chosen experts to a layer that it finds by name, and makes
one MoE call by the counter (0.17.1 to 0.32.0, vllm/model_executor/models/transformers/moe.py). If the calls have the
registered order, both are the same layer."""
MOE = ("vllm.moe_forward", "vllm.moe_forward_shared", HANDING_OVER)
"""vLLM's operators for a MoE layer (0.15.0 to 0.33.0, vllm/model_executor/layers/fused_moe)."""
VIEWS = (
    "view reshape flatten unflatten unsqueeze squeeze transpose permute contiguous clone expand expand_as t movedim "
    "detach alias view_as reshape_as swapaxes getitem split chunk narrow select unbind tensor_split split_with_sizes"
)
CONVERSIONS = "to float bfloat16 half double type type_as"
SUMS = "add iadd sub isub rsub add_ sub_ sum mean cat stack concat pad"
PRODUCTS = "mul imul div truediv neg mul_ div_"
LINEAR = "linear matmul mm bmm einsum onednn_mm addmm"
NORMS = "rms_norm layer_norm fused_add_rms_norm group_norm"
ACTIVATIONS = "silu gelu tanh sigmoid softplus relu"
COLLECTIVES = "all_reduce all_gather reduce_scatter sequence_parallel_chunk_impl"
CARRIERS = frozenset(f"{VIEWS} {CONVERSIONS} {SUMS} {PRODUCTS} {LINEAR} {NORMS} {ACTIVATIONS} {COLLECTIVES}".split())
"""Operations that carry values from each input into the result. The sets below name the exceptions."""
SAME_CANCELS = frozenset(["sub", "isub", "rsub", "sub_", "div", "truediv", "div_"])
"""Carriers whose result is a constant if both inputs are equal."""
JOINS = frozenset(["cat", "concat", "stack", "pad"])
"""Carriers whose result consists of parts. Some parts may not carry the values of every input."""
SELECTIONS = frozenset(("getitem", "split", "chunk", "narrow", "select", "unbind", "tensor_split", "split_with_sizes"))
"""Views that may show only a part of their input. If a split undoes a `cat`, Inductor removes both of them."""
FACTORS = frozenset(f"{PRODUCTS} {LINEAR} {NORMS}".split())
"""Carriers whose result is zero if one of the inputs is zero."""
RESHAPES = frozenset(["view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "flatten", "unflatten"])
"""Views that show all numbers of their input."""
CREATORS = frozenset(
    (
        "zeros",
        "ones",
        "full",
        "empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_tensor",
        "arange",
        "tensor",
        "scalar_tensor",
        "eye",
        "zero_",
        "fill_",
    )
)
"""Operations whose result the compiler may know, because it does not depend on the values of tensors."""
IN_PLACE = frozenset(["add_", "sub_", "mul_", "div_", "iadd", "isub", "imul", "itruediv"])
"""Carriers that write their result into their first input."""
TRUSTED = frozenset(
    ("aten", "prims", "tuner_proof", "vllm", "vllm_ir", "_C", "_C_cpu", "_moe_C", "_C_cache_ops", "_C_custom_ar")
)
"""Namespaces of operators that torch and vLLM register."""
PLAIN = frozenset(("torch", "_operator", "operator", "builtins", "math", "einops"))
"""Modules whose functions torch puts into a graph by default. einops registers its own functions for this; they only
move dimensions."""
HIGHER = frozenset(
    (
        "cond",
        "while_loop",
        "scan",
        "associative_scan",
        "map",
        "map_impl",
        "wrap",
        "tag_activation_checkpoint",
        "wrap_activation_checkpoint",
        "autograd_function_apply",
        "invoke_subgraph",
        "triton_kernel_wrapper_mutation",
        "triton_kernel_wrapper_functional",
        "flex_attention",
        "auto_functionalized",
        "auto_functionalized_v2",
        "out_dtype",
        "wrap_with_set_grad_enabled",
        "wrap_with_autocast",
    )
)
"""Torch's higher-order operators that run a graph or a kernel. The proof reads these graphs, too. Other higher-order
operators, such as `flat_apply`, run Python."""


class Order:
    """Checks condition 2 on one graph.

    Args:
        graph_module: the graph that Dynamo passes to a backend. Each node holds its example value.
        registered: the names of the MoE layers, in construction order.
        most: the number of tokens in the largest batch.

    Attributes:
        calls: the names of the layers that the graph calls, in order.
        operators: the operators of these calls, as `splitting_ops` names them.
        failures: the failures of condition 2. Empty if the condition holds.
        depth: node -> index of the last MoE call that its value depends on, or `NOTHING`.
        written_depth: storage -> the depth of the last value that an operation wrote into it.
        broken_storages: storages that are not trusted any more (see `_overwrite`).
        partial: nodes that may carry values in some parts only.
        constant: nodes whose numbers the compiler may know.
        filled_storages: storages that a kernel filled with numbers that the compiler does not know.
    """

    def __init__(self, graph_module: GraphModule, registered: list[str], most: int) -> None:
        self.module, self.registered, self.most = graph_module, registered, most
        self.failures: list[Failure] = []
        self.depth: dict[Node, int] = {}
        self.written_depth: dict[int, int] = {}
        self.broken_storages: set[int] = set()
        self.partial: set[Node] = set()
        self.constant: set[Node] = set()
        self.filled_storages: set[int] = set()
        nodes = [node for node in graph_module.graph.nodes if is_moe(node)]
        self.calls = [layer_of(node) for node in nodes]
        self.operators = {full_name(node).replace(".", "::") for node in nodes}
        self._check()

    def _check(self) -> None:
        if self._is_nested():
            self.failures.append(failure(IN_ORDER, "nested_call"))
            return
        if self.calls != self.registered:
            order = ", ".join(self.calls[:MOST_CALLS])
            counts = {"expected": len(self.registered), "seen": len(self.calls)}
            self.failures.append(failure(IN_ORDER, "calls", **counts, order=order))
            return
        self._walk()

    def _is_nested(self) -> bool:
        """Whether a graph inside this graph calls a MoE layer."""
        return any(is_moe(node) for node in inner_nodes(self.module))

    def _walk(self) -> None:
        self._look_for_opaque()
        number = 0
        for node in self.module.graph.nodes:
            behind = max((self._depth(source) for source in node.all_input_nodes), default=NOTHING)
            if is_moe(node):
                if self._depth(hidden_of(node)) != number - 1:
                    self._fail("not_behind", node, layer=self.calls[number])
                self.depth[node] = number
                number += 1
            elif node.op == "output":
                if behind != len(self.calls) - 1:
                    self._fail("result_not_behind", node, layer=self.calls[-1])
            else:
                self._carry(node, behind)

    def _look_for_opaque(self) -> None:
        """Add a failure for every operator that does not belong to torch or vLLM."""
        for node in [*self.module.graph.nodes, *inner_nodes(self.module)]:
            if is_opaque(node):
                self._fail("opaque_operator", node, operator=full_name(node))

    def _carry(self, node: Node, behind: int) -> None:
        """Record what an operation carries and writes. The operation is not a MoE call.

        Args:
            node: the operation.
            behind: the highest depth of its inputs.
        """
        if self._is_constant(node):
            self.constant.add(node)
        bearers = [source for source in node.all_input_nodes if self._depth(source) == behind]
        carries = behind > NOTHING and self._carries(node, bearers)
        self.depth[node] = behind if carries else NOTHING
        if carries and self._is_partial(node, bearers):
            self.partial.add(node)
        self._overwrite(node)

    def _is_constant(self, node: Node) -> bool:
        """Whether the compiler may know the numbers in the result."""
        if base_name(node) in CREATORS:
            self.filled_storages -= storages(node)
            return True
        sources = [source for source in node.all_input_nodes if is_tensor(source)]
        return bool(sources) and all(map(self._holds_constants, sources))

    def _holds_constants(self, node: Node) -> bool:
        """Whether the compiler may still know the numbers of a value. After a kernel wrote to it, it does not."""
        return node in self.constant and not storages(node) & self.filled_storages

    def _carries(self, node: Node, bearers: list[Node]) -> bool:
        """Whether the operation carries values from its inputs into its result, and the result is never empty.

        Args:
            node: the operation.
            bearers: the inputs with the highest depth.
        """
        name = base_name(node)
        if name not in CARRIERS or not is_full(node, self.most) or is_cancelled(node, self.most):
            return False
        if name in FACTORS and any(map(self._holds_constants, node.all_input_nodes)):
            return False
        return name not in SELECTIONS or self.partial.isdisjoint(bearers)

    def _is_partial(self, node: Node, bearers: list[Node]) -> bool:
        """Whether some parts of a result may not carry the values of the inputs with the highest depth."""
        name = base_name(node)
        if name == "pad" or (name in JOINS and len(bearers) < len(node.all_input_nodes)):
            return True
        return self.partial.issuperset(bearers)

    def _depth(self, node: Node) -> int:
        """The index of the last MoE call that this value depends on, or -1 if it does not depend on a MoE call."""
        depth = self.depth.get(node, NOTHING)
        for storage in storages(node):
            depth = min(depth, self.written_depth.get(storage, depth))
        return depth

    def _overwrite(self, node: Node) -> None:
        """Record the memory that an operation overwrites.

        If a carrier writes its result into the memory, all views of the memory get the depth of the result. If another
        operation writes into it, the memory is not trusted any more, even if a carrier writes to it later: the carrier
        may write only a part.
        """
        targets: set[int] = set()
        for target in written_inputs(node):
            targets |= storages(target)
            if is_kernel(node) and is_whole(target):
                self.filled_storages |= storages(target)
        depth = self.depth[node]
        if depth == NOTHING or not targets <= storages(node):
            self.broken_storages |= targets
        for storage in targets:
            self.written_depth[storage] = NOTHING if storage in self.broken_storages else depth

    def _fail(self, code: str, node: Node, **fields: Any) -> None:
        file, line = place(node)
        self.failures.append(failure(IN_ORDER, code, **fields, file=file, line=line))


NOTHING = -1
MOST_CALLS = 6
"""The largest number of calls that the report shows of a wrong order."""


def full_name(node: Node) -> str:
    """The name of the operation with its namespace and without its overload, such as `vllm.moe_forward` or `add`."""
    target = node.target
    if hasattr(target, "_schema"):
        return str(target._schema.name).replace("::", ".")
    name = getattr(target, "_qualified_op_name", None) or getattr(target, "__name__", None) or str(target)
    return str(name).replace("::", ".")


def base_name(node: Node) -> str:
    """The name of the operation without its namespace."""
    return full_name(node).rpartition(".")[2]


def is_moe(node: Node) -> bool:
    """Whether this is a call of a MoE layer."""
    return node.op == "call_function" and full_name(node) in MOE


def layer_of(node: Node) -> str:
    """The name of the layer in a MoE call. The graph holds a string, or from torch 2.11 on an object with a string."""
    packet = getattr(node.target, "default", node.target)
    at = [argument.name for argument in packet._schema.arguments].index("layer_name")
    name: Any = node.args[at] if at < len(node.args) else node.kwargs.get("layer_name")
    if hasattr(name, "meta"):
        name = name.meta.get("example_value", name)
    name = getattr(name, "real_obj", name)
    return str(getattr(name, "value", name))


def hidden_of(node: Node) -> Node:
    """The node of the hidden states that a MoE call gets."""
    hidden: Node = node.args[0] if node.args else node.kwargs["hidden_states"]
    return hidden


def inner_nodes(module: Module) -> list[Node]:
    """The nodes of the graphs inside this graph, such as the two branches of `torch.cond`."""
    import torch

    nodes: list[Node] = []
    for part in module.modules():
        if part is not module and isinstance(part, torch.fx.GraphModule):
            nodes += part.graph.nodes
    return nodes


def is_opaque(node: Node) -> bool:
    """Whether an operator does not belong to torch or vLLM. Such an operator may change vLLM's counter."""
    import torch

    if node.op == "call_module":
        return True
    if node.op != "call_function":
        return False
    if isinstance(node.target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return full_name(node).partition(".")[0] not in TRUSTED
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return base_name(node) not in HIGHER
    return home_of(node.target) not in PLAIN


def home_of(function: Any) -> str:
    """The top-level name of the module that defines a function.

    The module comes from the function's globals. A wrapper may carry the `__module__` of the function that it wraps.
    """
    module = getattr(function, "__globals__", {}).get("__name__") or getattr(function, "__module__", None)
    return str(module or "torch").partition(".")[0]


def is_tensor(node: Node) -> bool:
    """Whether a node's value is a tensor, or holds a tensor."""
    import torch

    return any(isinstance(value, torch.Tensor) for value in example_values(node))


def example_values(node: Node) -> list[Any]:
    """The example values of a node, as a list. A node with one value gives a list of length 1."""
    value = node.meta.get("example_value")
    return list(value) if isinstance(value, (tuple, list)) else [value]


def is_full(node: Node, most: int) -> bool:
    """Whether every result is a tensor of floating-point numbers, and no size of it can be 0."""
    import torch

    values = example_values(node)
    for value in values:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return False
        if not all(is_positive(size, most) for size in value.shape):
            return False
    return bool(values)


def is_cancelled(node: Node, most: int) -> bool:
    """Whether the result may lose the values of the inputs.

    This happens in a product with 0, in a difference or quotient of equal inputs, and if a `pad` cuts numbers off.
    """
    name, keywords = base_name(node), node.kwargs
    if name == "getitem":
        return False
    if "out" in keywords or keywords.get("rounding_mode"):
        return True
    if any(is_vanishing(keywords[key], most) for key in keywords.keys() & {"alpha", "beta"}):
        return True
    if name in SAME_CANCELS and len(node.all_input_nodes) < input_count(node):
        return True
    if name == "pad":
        return may_cut(node)
    return name in PRODUCTS.split() and any(is_vanishing(value, most) for value in [*node.args, *keywords.values()])


def may_cut(node: Node) -> bool:
    """Whether a `pad` may cut numbers off. It may if an amount is negative or is not a plain integer."""
    amounts = list(node.args[1:2])
    amounts += [node.kwargs[key] for key in node.kwargs.keys() & {"pad", "padding"}]
    return not all(isinstance(size, int) and size >= 0 for size in chain.from_iterable(amounts))


def is_vanishing(value: Any, most: int) -> bool:
    """Whether a factor may be zero. The result for a node whose value is a tensor is False."""
    if hasattr(value, "meta"):
        return not is_tensor(value) and vanishes(value.meta.get("example_value"), most)
    return vanishes(value, most)


def input_count(node: Node) -> int:
    """The number of arguments that are results of other operations. A result that is passed twice counts twice."""
    return sum(hasattr(value, "meta") for value in [*node.args, *node.kwargs.values()])


def written_inputs(node: Node) -> list[Node]:
    """The inputs that an operation writes to. The operation is not a MoE call.

    A higher-order operator does not declare what its graphs write, so all its inputs count as written.
    """
    import torch

    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return list(node.all_input_nodes)
    if "out" in node.kwargs:
        return [node.kwargs["out"]]
    overload = overload_of(node)
    if overload is not None:
        return written_by_schema(node, overload)
    name = base_name(node)
    in_place = name == "setitem" or name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return [node.args[0]] if in_place and node.args else []


def overload_of(node: Node) -> Any:
    """The operator with a schema that a node calls. None if the node calls a Python function or method."""
    import torch

    if isinstance(node.target, torch._ops.OpOverloadPacket):
        return node.target.default
    return node.target if isinstance(node.target, torch._ops.OpOverload) else None


def written_by_schema(node: Node, overload: Any) -> list[Node]:
    """The inputs that an operator writes to, according to its schema."""
    targets: list[Node] = []
    for index, argument in enumerate(overload._schema.arguments):
        value: Any = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write and hasattr(value, "meta"):
            targets.append(value)
    return targets


def is_kernel(node: Node) -> bool:
    """Whether this node calls an operator that the compiler does not look into. Torch decomposes its own operators."""
    overload = overload_of(node)
    return overload is not None and full_name(node).partition(".")[0] not in ("aten", "prims")


def is_whole(node: Node) -> bool:
    """Whether a value covers all the memory that an operation made, and not only a part."""
    while base_name(node) in RESHAPES and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return base_name(node) in CREATORS


def storages(node: Node) -> set[int]:
    """The identities of the storages of a node's tensors. A view has the same storage as its input."""
    import torch

    if not hasattr(node, "meta"):
        return set()
    tensors = [value for value in example_values(node) if isinstance(value, torch.Tensor)]
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def place(node: Node) -> tuple[str, int]:
    """The file and the line of the code that made an operation, or an empty string and 0 if they are unknown."""
    stack = node.meta.get("stack_trace") or ""
    lines = [line for line in stack.splitlines() if line.strip().startswith("File ")]
    if not lines:
        return "", 0
    file, _, line = lines[-1].strip().removeprefix('File "').partition('", line ')
    return file, int(line.partition(",")[0] or 0)
