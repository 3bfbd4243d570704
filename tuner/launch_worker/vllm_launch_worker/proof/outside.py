"""Condition 4: the code around the compiled region enters it once in every pass, and calls no MoE layer itself.

That code is plain Python in every pass. It is traced like the region, with the region as one opaque function. What does
not trace as one graph is not proved, and each guard that Dynamo makes is a place where a pass might go otherwise.
"""

import ast
import re
import sys
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from vllm_launch_worker.proof import first_call
from vllm_launch_worker.proof.failure import NOTHING_OUTSIDE, failure, raised
from vllm_launch_worker.proof.order import full_name, is_moe, is_opaque, layer_of, place
from vllm_launch_worker.proof.tracing import Trace, watching

ENTERED, PASSED_BY = "entered", "passed_by"
"""Names of the functions that stand for the region in the graph: a call of it, and a call of its `forward` alone."""
STATE = frozenset(
    (
        "AUTOGRAD_SAVED_TENSORS_HOOKS",
        "BUILTIN_MATCH",
        "CLASS_MATCH",
        "CLOSURE_MATCH",
        "DEFAULT_DEVICE",
        "DETERMINISTIC_ALGORITHMS",
        "DUPLICATE_INPUT",
        "EMPTY_NN_MODULE_HOOKS_DICT",
        "FUNCTION_MATCH",
        "FUNCTORCH_STACK_MATCH",
        "GLOBAL_STATE",
        "GRAD_MODE",
        "MODULE_MATCH",
        "NN_MODULE",
        "NOT_PRESENT_IN_GENERIC_DICT",
        "SHAPE_ENV",
        "TENSOR_MATCH",
        "TENSOR_SUBCLASS_METADATA_MATCH",
        "TORCH_FUNCTION_STATE",
        "TYPE_MATCH",
    )
)
"""Kinds of guards on what no pass changes: torch's own state, code, modules, types, and the shapes of tensors, whose
sizes have guards of their own."""
GROUPS = re.compile(r"G\['__import_vllm_dot_distributed_dot_parallel_state'\]\._[A-Z]+\b")
"""vLLM's groups of processes: made before the model, and the same in every pass (elastic ones are refused)."""
NAME = re.compile(r"\w+")
CONSTRUCTORS = frozenset(("__init__", "__post_init__", "__new__"))


class Outside:
    """The code around a region.

    Args:
        model: the outermost module.
        region: the compiled module in it.
        vllm_config: the launch.
        origins: whose code a file is.
    """

    def __init__(self, model, region, vllm_config, origins) -> None:
        self.model, self.region, self.config, self.origins = model, region, vllm_config, origins

    def failures(self, returned, trace: Trace) -> list:
        """What does not hold.

        Args:
            returned: what the region returned in its own trace.
            trace: filled.
        """
        if self.model is self.region:
            return []
        failures = self._on_one_path(returned, trace)
        open_guards = attributes_against(trace)
        for attribute in truths(open_guards):
            with without(self.model, attribute):
                failures += self._on_one_path(returned, other := Trace())
            trace.files |= other.files
            decided = f" self.{attribute}"
            open_guards = [guard for guard in open_guards if not guard["fields"]["guard"].endswith(decided)]
        return failures + open_guards

    def _on_one_path(self, returned, trace: Trace) -> list:
        """What does not hold on the path that a trace takes, whatever decides for it."""
        try:
            self._trace(returned, trace)
        except Exception as error:
            return [raised(NOTHING_OUTSIDE, "outer_not_traced", error)]
        if not trace.filtered:
            return [failure(NOTHING_OUTSIDE, "guards_not_seen")]
        most = self.config.scheduler_config.max_num_batched_tokens
        return [*graph_against(trace), *handlers_against(trace), *sizes_against(trace, most)]

    def _trace(self, returned, trace: Trace) -> None:
        import torch
        from vllm.platforms import current_platform

        tokens = first_call.tokens(self.config, current_platform.device_type)
        options = {"guard_filter_fn": trace.note}
        torch._dynamo.reset()
        compiled = torch.compile(
            self.model.forward, fullgraph=True, dynamic=False, backend=trace.backend, options=options
        )
        with standing_in(self.region, returned, tokens), watching(trace):
            first_call.made(compiled, self.model, self.config, mark_batch)


def mark_batch(given: dict) -> None:
    """The number of tokens may be any: the trace must not settle on one."""
    import torch

    for name, value in given.items():
        if isinstance(value, torch.Tensor):
            torch._dynamo.mark_dynamic(value, value.ndim - 1 if name == "positions" else 0)
        for tensor in getattr(value, "tensors", {}).values():
            torch._dynamo.mark_dynamic(tensor, 0)


@contextmanager
def standing_in(region, returned, tokens: int):
    """While the block runs, the region is one opaque function that returns tensors of the same shape."""
    import torch

    enter = partial(again, returned, torch.compiler.allow_in_graph(entered), tokens)
    pass_by = partial(again, returned, torch.compiler.allow_in_graph(passed_by), tokens)

    def call(_self, *args, **kwargs):
        return enter(positions_of(args, kwargs))

    def forward(_self, *args, **kwargs):
        return pass_by(positions_of(args, kwargs))

    compiled = type(region)
    region.__class__ = type(compiled.__name__, (compiled,), {"__call__": call, "forward": forward})
    try:
        yield
    finally:
        region.__class__ = compiled


def again(value, function, tokens: int, positions):
    """The structure of a value, each of its tensors made by a function in the shape of another batch."""
    import torch
    from vllm.sequence import IntermediateTensors

    if isinstance(value, torch.Tensor):
        return function(positions, list(value.shape), value.dtype, tokens)
    if isinstance(value, IntermediateTensors):
        return IntermediateTensors({key: again(item, function, tokens, positions) for key, item in value.items()})
    if isinstance(value, tuple):
        return tuple([again(item, function, tokens, positions) for item in value])
    if isinstance(value, list):
        return [again(item, function, tokens, positions) for item in value]
    return value


def entered(positions, shape, dtype, tokens):
    """An unfilled tensor of this shape, with the batch's own number of tokens where the trace had `tokens`."""
    import torch

    sizes = [positions.shape[-1] if size == tokens else size for size in shape]
    return torch.empty(sizes, dtype=dtype, device=positions.device)


def passed_by(positions, shape, dtype, tokens):
    """As `entered`, for a call that goes past the compiled code."""
    return entered(positions, shape, dtype, tokens)


def positions_of(args, kwargs):
    """The tensor whose last dimension counts the batch's tokens: the positions, which every region is given."""
    return kwargs["positions"] if "positions" in kwargs else args[1]


def graph_against(trace: Trace) -> list:
    """Whether the traced path enters the region exactly once, and calls nothing else that could reach a layer."""
    if len(trace.graphs) != 1:
        return [failure(NOTHING_OUTSIDE, "outer_entries", count=len(trace.graphs))]
    failures, entries = [], 0
    for node in trace.graphs[0].graph.nodes:
        name = getattr(node.target, "__name__", "")
        if node.op == "call_function" and name == ENTERED:
            entries += 1
        elif node.op == "call_function" and name == PASSED_BY:
            failures.append(failure(NOTHING_OUTSIDE, "outer_passed_by"))
        elif is_moe(node):
            failures.append(failure(NOTHING_OUTSIDE, "outer_calls_layer", layer=layer_of(node)))
        elif is_opaque(node):
            file, line = place(node)
            failures.append(failure(NOTHING_OUTSIDE, "opaque_operator", operator=full_name(node), file=file, line=line))
    if not entries and not failures:
        failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=0))
    return failures


def handlers_against(trace: Trace) -> list:
    """Functions around the region that catch exceptions: one could hide that the counter ran past its list."""
    failures = []
    for file, line in trace.handlers:
        if file != __file__ and "torch" not in module_roots(file):
            failures.append(failure(NOTHING_OUTSIDE, "outer_handler", file=file, line=line))
    return failures


def module_roots(file: str) -> set:
    """Top-level names of the imported modules that come from this file."""
    return {
        name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", "") == file
    }


def sizes_against(trace: Trace, most: int) -> list:
    """Guards on sizes that do not hold for every batch of 1 to `most` tokens."""
    failures = []
    for guard in trace.sizes:
        if not always_holds(guard.condition, most):
            place = {"file": guard.file, "line": guard.line}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=str(guard.condition), **place))
    return failures


def always_holds(condition, most: int) -> bool:
    """Whether a guard, as sympy has it, is true for every number of tokens; all its symbols stand for that number."""
    import sympy

    symbols = condition.free_symbols
    if not symbols:
        return bool(condition)
    for count in sizes_to_try(most, condition):
        if condition.subs(dict.fromkeys(symbols, sympy.Integer(count))) != sympy.true:
            return False
    return True


def sizes_to_try(most: int, parsed) -> list:
    """Every size up to some thousands; beyond, those beside each number of the guard, and the ends."""
    import sympy

    if most <= ALL_SIZES:
        return list(range(1, most + 1))
    numbers = {int(number) for number in parsed.atoms(sympy.Integer)}
    near = {number + step for number in numbers for step in (-1, 0, 1)}
    return sorted({*range(1, ALL_SIZES + 1), *(size for size in near if 1 <= size <= most), most - 1, most})


ALL_SIZES = 2048


def attributes_against(trace: Trace) -> list:
    """Guards on attributes that code outside constructors stores, and on values that are no attribute.

    An argument that is None is given alike in every pass: a launch feeds its model always in one way.
    """
    files = frozenset(trace.files)
    failures = []
    for guard in trace.guards:
        if guard["type"] in STATE or is_fixed(guard["name"], files):
            continue
        name = f"{guard['type']} {guard['name']}"[:200]
        failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=name, file=guard["file"], line=guard["line"]))
    return failures


def truths(guards: list) -> list:
    """Attributes of the model of which guards ask only whether something is there: the other way can be traced, too."""
    asked: dict = {}
    for guard in guards:
        kind, _, name = guard["fields"]["guard"].partition(" ")
        match = DIRECT.fullmatch(name)
        if match:
            asked.setdefault(match[1], set()).add(kind)
    return sorted(name for name, kinds in asked.items() if kinds <= PRESENCE)


DIRECT = re.compile(r"self\.(\w+)")
PRESENCE = frozenset(("HASATTR", "SEQUENCE_LENGTH"))


@contextmanager
def without(model, attribute: str):
    """While the block runs, the attribute of the model is None."""
    value = getattr(model, attribute)
    setattr(model, attribute, None)
    try:
        yield
    finally:
        setattr(model, attribute, value)


def is_fixed(name: str, files: frozenset) -> bool:
    """Whether what a guard names stays as construction left it."""
    if not name or GROUPS.match(name):
        return True
    root, _, path = name.partition(".")
    if not path and NAME.fullmatch(root) and root != "self":
        return True  # an argument of the outermost call
    if root != "self" and not root.startswith("dict(type(self"):
        return False
    attributes = {part for part in NAME.findall(path) if not part.isdigit() and not part.startswith("_modules")}
    return not attributes & stored_in(files)


@lru_cache
def stored_in(files: frozenset) -> frozenset:
    """Names of attributes that functions of these files store outside constructors."""
    names: set = set()
    for file in files:
        if not file.startswith("<") and "torch" not in module_roots(file):
            names |= stored_attributes(Path(file).read_text(encoding="utf-8"))
    return frozenset(names)


def stored_attributes(source: str) -> set:
    """Names of attributes that functions of this source store, delete or set by text outside constructors."""
    names: set = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name not in CONSTRUCTORS:
            for node in ast.walk(function):
                names |= stored_by(node)
    return names


def stored_by(node) -> set:
    """The attribute that one syntax node stores, if it does."""
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return {node.attr}
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
        values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        return {value for value in values if isinstance(value, str)}
    return set()
