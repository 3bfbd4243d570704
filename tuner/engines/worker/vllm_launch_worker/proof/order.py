"""Condition 2: the traced graph calls every registered layer once, in order, each behind the one before.

A call is behind another if a chain of operations carries values from the one's result to the other's input. An
operation carries only if it is in a fixed list, and its result is a non-empty tensor of floating-point numbers. An edge
that exists only because the MoE operator declares that it changes its input does not count.
"""

from vllm_launch_worker.proof.failure import IN_ORDER, failure
from vllm_launch_worker.proof.sizes import is_positive, vanishes

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
JOINS = frozenset(["cat", "concat", "stack", "pad"])
"""Carriers whose result has parts: some may carry less than others."""
SELECTIONS = frozenset(("getitem", "split", "chunk", "narrow", "select", "unbind", "tensor_split", "split_with_sizes"))
"""Views that may show a part alone. Inductor gives the very input back where a split undoes a `cat`."""
FACTORS = frozenset(f"{PRODUCTS} {LINEAR} {NORMS}".split())
"""Carriers that a second input of zeros makes zero."""
RESHAPES = frozenset(["view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "flatten", "unflatten"])
"""Views that show every number of what they are given."""
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
"""Operations whose result holds numbers that the compiler knows, whatever their inputs hold."""
IN_PLACE = frozenset(["add_", "sub_", "mul_", "div_", "iadd", "isub", "imul", "itruediv"])
"""Carriers that write into their first input what they return."""
TRUSTED = frozenset(
    ("aten", "prims", "tuner_proof", "vllm", "vllm_ir", "_C", "_C_cpu", "_moe_C", "_C_cache_ops", "_C_custom_ar")
)
"""Namespaces of operators that torch and vLLM register."""
PLAIN = frozenset(("torch", "_operator", "operator", "builtins", "math", "einops"))
"""Modules whose functions torch puts into a graph by itself; einops asks it to, for functions that move dimensions."""
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
"""Torch's operators that run graphs, which are looked into, or kernels. Others run Python, as `flat_apply` does."""


class Order:
    """Walks one graph.

    Args:
        graph_module: as Dynamo gives it to a backend; each node holds its example value.
        registered: names of the MoE layers in construction order.
        most: tokens of the largest batch.

    Attributes:
        calls: the layers that the graph calls, in order.
        failures: what does not hold.
    """

    def __init__(self, graph_module, registered: list, most: int) -> None:
        self.module, self.registered, self.most = graph_module, registered, most
        self.failures: list = []
        self.depth: dict = {}
        self.left: dict = {}
        self.broken: set = set()
        self.partial: set = set()
        self.constant: set = set()
        self.filled: set = set()
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
        """Note every operator that is neither torch's nor vLLM's."""
        for node in [*self.module.graph.nodes, *inner_nodes(self.module)]:
            if is_opaque(node):
                self._fail("opaque_operator", node, operator=full_name(node))

    def _carry(self, node, behind: int) -> None:
        """Note what an operation that is no MoE call leaves."""
        if self._is_constant(node):
            self.constant.add(node)
        bearers = [source for source in node.all_input_nodes if self._depth(source) == behind]
        carries = behind > NOTHING and self._carries(node, bearers)
        self.depth[node] = behind if carries else NOTHING
        if carries and self._is_partial(node, bearers):
            self.partial.add(node)
        self._overwrite(node)

    def _is_constant(self, node) -> bool:
        """Whether the compiler may know the numbers of the result."""
        if base_name(node) in CREATORS:
            self.filled -= storages(node)
            return True
        sources = [source for source in node.all_input_nodes if is_tensor(source)]
        return bool(sources) and all(map(self._holds_constants, sources))

    def _holds_constants(self, node) -> bool:
        """Whether the compiler may know a value's numbers now: an operator may have written others into its memory."""
        return node in self.constant and not storages(node) & self.filled

    def _carries(self, node, bearers: list) -> bool:
        """Whether the operation carries values from its inputs into a result that is never empty."""
        name = base_name(node)
        if name not in CARRIERS or not is_full(node, self.most) or is_cancelled(node, self.most):
            return False
        if name in FACTORS and any(map(self._holds_constants, node.all_input_nodes)):
            return False
        return name not in SELECTIONS or not any(source in self.partial for source in bearers)

    def _is_partial(self, node, bearers: list) -> bool:
        """Whether parts of a result may carry less than others."""
        name = base_name(node)
        if name == "pad" or (name in JOINS and len(bearers) < len(node.all_input_nodes)):
            return True
        return all(source in self.partial for source in bearers)

    def _depth(self, node) -> int:
        """The last MoE call that this value depends on; -1 if it depends on none."""
        depth = self.depth.get(node, NOTHING)
        return min([depth, *(self.left[storage] for storage in storages(node) if storage in self.left)])

    def _overwrite(self, node) -> None:
        """What an operation writes over carries nothing more, and neither do its views; a carrier leaves its result.

        Memory in which something else was written is never trusted again: a carrier may write a part of it.
        """
        targets: set = set()
        for target in written(node):
            targets |= storages(target)
            if is_kernel(node) and is_whole(target):
                self.filled |= storages(target)
        depth = self.depth[node]
        if depth == NOTHING or not targets <= storages(node):
            self.broken |= targets
        for storage in targets:
            self.left[storage] = NOTHING if storage in self.broken else depth

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


def hidden_of(node):
    """The hidden states that a MoE call is given."""
    return node.args[0] if node.args else node.kwargs["hidden_states"]


def inner_nodes(module) -> list:
    """The nodes of the graphs inside this one, as those that `torch.cond` chooses between."""
    import torch

    parts = [part for part in module.modules() if part is not module and isinstance(part, torch.fx.GraphModule)]
    return [node for part in parts for node in part.graph.nodes]


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
        return base_name(node) not in HIGHER
    return home_of(node.target) not in PLAIN


def home_of(function) -> str:
    """Top-level name of the module in which a function was written; `__module__` may be that of a function it wraps."""
    module = getattr(function, "__globals__", {}).get("__name__") or getattr(function, "__module__", None)
    return (module or "torch").partition(".")[0]


def is_tensor(node) -> bool:
    """Whether a node's value is a tensor, or several."""
    import torch

    value = node.meta.get("example_value")
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(item, torch.Tensor) for item in values)


def is_full(node, most: int) -> bool:
    """Whether every result is a tensor of floating-point numbers without a dimension that may be empty."""
    import torch

    value = node.meta.get("example_value")
    values = value if isinstance(value, (tuple, list)) else [value]
    for item in values:
        if not isinstance(item, torch.Tensor) or not item.is_floating_point():
            return False
        if not all(is_positive(size, most) for size in item.shape):
            return False
    return bool(values)


def is_cancelled(node, most: int) -> bool:
    """Whether numbers of the call take the values away: a product with 0, a difference of twice the same."""
    name, named = base_name(node), node.kwargs
    if name == "getitem":
        return False
    scales = [named[key] for key in ("alpha", "beta") if key in named]
    if "out" in named or named.get("rounding_mode") or any(is_vanishing(scale, most) for scale in scales):
        return True
    if name in SAME_CANCELS and len(node.all_input_nodes) < tensors_given(node):
        return True
    if name == "pad":
        amounts = [*node.args[1:2], *(named[key] for key in ("pad", "padding") if key in named)]
        return not all(isinstance(size, int) and size >= 0 for amount in amounts for size in amount)
    return name in PRODUCTS.split() and any(is_vanishing(value, most) for value in [*node.args, *named.values()])


def is_vanishing(value, most: int) -> bool:
    """Whether a factor may be zero; a node that is a tensor is no number."""
    if hasattr(value, "meta"):
        return not is_tensor(value) and vanishes(value.meta.get("example_value"), most)
    return vanishes(value, most)


def tensors_given(node) -> int:
    """How many of the arguments are other operations' results, each as often as it is given."""
    return sum(hasattr(value, "meta") for value in [*node.args, *node.kwargs.values()])


def written(node) -> list:
    """The inputs that an operation writes into; a MoE call is not among them.

    Of an operator that runs graphs all inputs count: what the graphs write is not told.
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


def is_kernel(node) -> bool:
    """Whether this calls an operator into which no compiler looks; those of torch itself are taken apart."""
    overload = overload_of(node)
    return overload is not None and full_name(node).partition(".")[0] not in ("aten", "prims")


def is_whole(node) -> bool:
    """Whether a value is all of the memory that an operation made, and no part of it."""
    while base_name(node) in RESHAPES and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return base_name(node) in CREATORS


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
