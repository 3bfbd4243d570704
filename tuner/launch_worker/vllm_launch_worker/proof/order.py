"""Condition 2: the traced graph calls every registered layer once, in order, each behind the one before.

A call is behind another if a chain of operations carries values from the one's result to the other's input. An
operation carries only if it is in a fixed list, and its result is a non-empty tensor of floating-point numbers. An edge
that exists only because the MoE operator declares that it changes its input does not count.
"""

import operator

from vllm_launch_worker.proof.failure import IN_ORDER, failure

MOE = ("vllm.moe_forward", "vllm.moe_forward_shared")
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
"""Operations that carry values from their inputs into their result, whatever the other inputs are."""
SAME_CANCELS = frozenset(["sub", "isub", "rsub", "sub_", "div", "truediv", "div_"])
"""Of these the result of twice the same input is a constant."""
IN_PLACE = frozenset(["add_", "sub_", "mul_", "div_", "iadd", "isub", "imul", "itruediv"])
"""Carriers that write into their first input what they return."""
TRUSTED = frozenset(
    ["aten", "prims", "tuner_proof", "vllm", "vllm_ir", "_C", "_C_cpu", "_moe_C", "_C_cache_ops", "_C_custom_ar"]
)
"""Namespaces of operators that torch and vLLM register."""
PLAIN = frozenset(("torch", "_operator", "operator", "builtins", "math", "einops"))
"""Modules whose functions torch puts into a graph by itself; einops asks it to, for functions that move dimensions."""


class Order:
    """Walks one graph.

    Args:
        graph_module: as Dynamo gives it to a backend; each node holds its example value.
        registered: names of the MoE layers in construction order.

    Attributes:
        calls: the layers that the graph calls, in order.
        failures: what does not hold.
    """

    def __init__(self, graph_module, registered: list) -> None:
        self.module = graph_module
        self.registered = registered
        self.failures: list = []
        self.depth: dict = {}
        self.left: dict = {}
        self.calls = [layer_of(node) for node in graph_module.graph.nodes if is_moe(node)]
        self._check()

    def _check(self) -> None:
        if self._is_nested():
            self.failures.append(failure(IN_ORDER, "nested_call"))
            return
        if self.calls != self.registered:
            seen = ", ".join(self.calls[:SHOWN])
            fields = {"expected": len(self.registered), "seen": len(self.calls), "order": seen}
            self.failures.append(failure(IN_ORDER, "calls", **fields))
            return
        self._walk()

    def _is_nested(self) -> bool:
        """Whether a graph inside this one calls a layer."""
        import torch

        inner = [part for part in self.module.modules() if part is not self.module]
        graphs = [part.graph for part in inner if isinstance(part, torch.fx.GraphModule)]
        return any(is_moe(node) for graph in graphs for node in graph.nodes)

    def _walk(self) -> None:
        number = 0
        for node in self.module.graph.nodes:
            behind = max((self._depth(source) for source in node.all_input_nodes), default=NOTHING)
            if is_opaque(node):
                self._fail("opaque_operator", node, operator=full_name(node))
            if is_moe(node):
                self._enter_call(node, number)
                number += 1
            elif node.op == "output":
                self._leave(node, behind)
            else:
                self.depth[node] = behind if behind > NOTHING and carries(node) else NOTHING
                self._overwrite(node)

    def _enter_call(self, node, number: int) -> None:
        """Note the MoE call with this number, from 0; it fails where its input is not behind the call before it."""
        if self._depth(node.args[0]) != number - 1:
            self._fail("not_behind", node, layer=self.calls[number])
        self.depth[node] = number

    def _leave(self, node, behind: int) -> None:
        """Hold the result against the last MoE call; `behind` is the last call that it depends on."""
        if behind != len(self.calls) - 1:
            self._fail("result_not_behind", node, layer=self.calls[-1])

    def _depth(self, node) -> int:
        """The last MoE call that this value depends on; -1 if it depends on none."""
        depth = self.depth.get(node, NOTHING)
        return min([depth, *(self.left[storage] for storage in storages(node) if storage in self.left)])

    def _overwrite(self, node) -> None:
        """What an operation writes over carries nothing more, and neither do its views; a carrier leaves its result."""
        for target in written(node):
            self.left.update(dict.fromkeys(storages(target), NOTHING))
        if carries(node):
            overwritten = [storage for storage in storages(node) if storage in self.left]
            self.left.update(dict.fromkeys(overwritten, self.depth[node]))

    def _fail(self, code: str, node, **fields) -> None:
        file, line = place(node)
        self.failures.append(failure(IN_ORDER, code, **fields, file=file, line=line))


NOTHING = -1
SHOWN = 6
"""Calls of a wrong order that are told."""


def full_name(node) -> str:
    """Name of the operation with its namespace, without an overload's: `vllm.moe_forward`, `add`."""
    target = node.target
    if hasattr(target, "_schema"):
        return str(target._schema.name).replace("::", ".")
    name = getattr(target, "_qualified_op_name", None) or getattr(target, "__name__", None) or str(target)
    return str(name).replace("::", ".")


def base_name(node) -> str:
    """Name of the operation alone."""
    return full_name(node).rpartition(".")[2]


def is_moe(node) -> bool:
    """Whether this is a call of a MoE layer."""
    return node.op == "call_function" and full_name(node) in MOE


def layer_of(node) -> str:
    """Name of the layer that a MoE call names: a text, or from torch 2.11 on an object that holds one."""
    packet = getattr(node.target, "default", node.target)
    positions = {argument.name: index for index, argument in enumerate(packet._schema.arguments)}
    at = positions["layer_name"]
    name = node.args[at] if at < len(node.args) else node.kwargs.get("layer_name")
    if hasattr(name, "meta"):
        name = name.meta.get("example_value", name)
    name = getattr(name, "real_obj", name)
    return str(getattr(name, "value", name))


def is_opaque(node) -> bool:
    """Whether this is neither torch's nor vLLM's: it may do anything, to the counter too."""
    import torch

    if node.op == "call_module":
        return True
    if node.op != "call_function":
        return False
    if isinstance(node.target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return full_name(node).partition(".")[0] not in TRUSTED
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return False
    return (getattr(node.target, "__module__", None) or "torch").partition(".")[0] not in PLAIN


def carries(node) -> bool:
    """Whether the operation carries values from its inputs into a non-empty result."""
    return base_name(node) in CARRIERS and is_full(node) and not is_cancelled(node)


def is_full(node) -> bool:
    """Whether every result is a tensor of floating-point numbers without an empty dimension."""
    import torch

    value = node.meta.get("example_value")
    values = value if isinstance(value, (tuple, list)) else [value]
    for item in values:
        if not isinstance(item, torch.Tensor) or not item.is_floating_point():
            return False
        if any(isinstance(size, int) and size == 0 for size in item.shape):
            return False
    return bool(values)


def is_cancelled(node) -> bool:
    """Whether numbers of the call take the values away: a product with 0, a difference of twice the same."""
    name = base_name(node)
    if name == "getitem" or node.target is operator.getitem:
        return False
    if "out" in node.kwargs or node.kwargs.get("alpha", 1) == 0 or node.kwargs.get("beta", 1) == 0:
        return True
    if name in SAME_CANCELS and len(node.args) > 1 and node.args[0] is node.args[1]:
        return True
    return name in PRODUCTS.split() and any(type(value) in (int, float) and value == 0 for value in node.args)


def written(node) -> list:
    """The inputs that an operation writes into; a MoE call is not among them."""
    if "out" in node.kwargs:
        return [node.kwargs["out"]]
    overload = overload_of(node)
    if overload is not None:
        return written_by_schema(node, overload)
    name = base_name(node)
    in_place = name == "setitem" or name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return [node.args[0]] if in_place and node.args else []


def overload_of(node):
    """The operator with a schema that a node calls; None if it calls a method or a function of Python."""
    import torch

    if isinstance(node.target, torch._ops.OpOverloadPacket):
        return node.target.default
    return node.target if isinstance(node.target, torch._ops.OpOverload) else None


def written_by_schema(node, overload) -> list:
    """The inputs that an operator's schema says it writes into."""
    targets = []
    for index, argument in enumerate(overload._schema.arguments):
        value = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write and hasattr(value, "meta"):
            targets.append(value)
    return targets


def storages(node) -> set:
    """What tells the memory of a node's tensors from that of others; views share it with what they show."""
    import torch

    if not hasattr(node, "meta"):
        return set()
    value = node.meta.get("example_value")
    values = value if isinstance(value, (tuple, list)) else [value]
    return {item.untyped_storage()._cdata for item in values if isinstance(item, torch.Tensor)}


def place(node) -> tuple:
    """File and line of the code that an operation comes from."""
    stack = node.meta.get("stack_trace") or ""
    lines = [line for line in stack.splitlines() if line.strip().startswith("File ")]
    if not lines:
        return "", 0
    file, _, line = lines[-1].strip().removeprefix('File "').partition('", line ')
    return file, int(line.partition(",")[0] or 0)
