"""Condition 4: the code around the compiled region enters it once in every pass, and calls no MoE layer itself.

That code is plain Python in every pass. It is traced like the region, with the region as one opaque function. Code that
does not trace as one graph is not proved. Each guard that Dynamo makes is a place where a pass might take another path.
"""

import dis
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from types import CodeType
from typing import Any
from unittest import mock

from shared_worker.vllm_types import GraphModule, Module, Node, Region, Tensor, VllmConfig
from vllm_launch_worker.proof import first_call
from vllm_launch_worker.proof.failure import NOTHING_OUTSIDE, Failure, failure, raised
from vllm_launch_worker.proof.order import full_name, inner_nodes, is_moe, is_opaque, layer_of, place
from vllm_launch_worker.proof.origin import Origins
from vllm_launch_worker.proof.regions import identities
from vllm_launch_worker.proof.sizes import holds
from vllm_launch_worker.proof.stores import ANY, INSIDE, is_looked_into, module_roots, stored_in
from vllm_launch_worker.proof.tracing import Guard, Trace, watching

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
"""Kinds of guards on what no pass changes, unless a function stores something else there: torch's own state, code,
modules, types, and the shapes of tensors, whose sizes have their own guards."""
GROUPS = re.compile(r"G\['__import_vllm_dot_distributed_dot_parallel_state'\]\._[A-Z]+\b")
"""vLLM's groups of processes: made before the model, and the same in every pass (elastic groups are refused)."""
NAME = re.compile(r"\w+")
CELLS = re.compile(r"\.cell_contents\b|__(?:kw)?defaults__\[.*?\]\[")
"""Variables of an enclosing function, and contents of default values: a function may change them unnoticed."""
CONTEXTS = frozenset(("set_forward_context", "override_forward_context", "create_forward_context"))
"""vLLM's functions that begin a new count of MoE calls, or end one."""
DICTIONARIES = frozenset(("__dict__", "vars"))
SWITCHES = frozenset(("moe_layer_index", "all_moe_layers", "skip_compiled", "do_not_compile"))
"""Attributes that code around a region may read but not store: they decide whether and how calls are counted."""


class Outside:
    """The code around a region.

    Args:
        model: the outermost module.
        region: the compiled module in it.
        vllm_config: the launch.
        origins: whose code a file is.
    """

    def __init__(self, model: Module, region: Region, vllm_config: VllmConfig, origins: Origins) -> None:
        self.model, self.region, self.config, self.origins = model, region, vllm_config, origins

    def failures(self, returned: Any, trace: Trace) -> list[Failure]:
        """What does not hold.

        Args:
            returned: what the region returned in its own trace.
            trace: is filled.
        """
        if self.model is self.region:
            return []
        failures = [*call_against(self.model), *self._on_path(returned, trace)]
        stored = stored_in(self._files(trace))
        failures += self._functions_against(trace, stored)
        open_guards = attributes_against(trace, stored, self.model.forward.__code__.co_freevars)
        for attribute in truths(open_guards, trace):
            for value in other_values(getattr(self.model, attribute)):
                with holding(self.model, attribute, value):
                    failures += self._on_path(returned, other := Trace())
                trace.files |= other.files
            open_guards = [guard for guard in open_guards if attribute_of(guard) != attribute]
        return failures + open_guards

    def _on_path(self, returned: Any, trace: Trace) -> list[Failure]:
        """What does not hold on the path that a trace takes, whatever makes a pass take it.

        Dynamo assumes that a variable number of tokens is not 1, and makes no guard for that. So a batch of one token
        is traced by itself.
        """
        from vllm.platforms import current_platform

        tokens = first_call.tokens(self.config, current_platform.device_type)
        failures: list[Failure] = []
        for count in sorted({1, tokens}):
            failures += self._of_batch(returned, trace, tokens, count)
        distinct = {str(entry): entry for entry in failures}
        return list(distinct.values())

    def _of_batch(self, returned: Any, trace: Trace, tokens: int, count: int) -> list[Failure]:
        """What does not hold for batches of one token, or of any other size."""
        graphs = len(trace.graphs)
        try:
            self._trace(returned, trace, tokens, count)
        except Exception as error:
            return [raised(NOTHING_OUTSIDE, "outer_not_traced", error)]
        if not trace.filtered:
            return [failure(NOTHING_OUTSIDE, "guards_not_seen")]
        most = self.config.scheduler_config.max_num_batched_tokens
        return [
            *graph_against(trace.graphs[graphs:], tensors_in(returned)),
            *handlers_against(trace),
            *words_against(trace),
            *dictionaries_against(trace),
            *sizes_against(trace, most),
        ]

    def _trace(self, returned: Any, trace: Trace, tokens: int, count: int) -> None:
        import torch

        options = {"guard_filter_fn": trace.note}
        torch._dynamo.reset()
        forward = self.model.forward
        trace.looked_into(forward.__code__)
        compiled = torch.compile(forward, fullgraph=True, dynamic=False, backend=trace.backend, options=options)
        mark = mark_batch if count > 1 else None
        with standing_in(self.region, returned, tokens), watching(trace), as_without_compiling():
            first_call.make_call(compiled, self.model, self.config, mark, count)

    def _functions_against(self, trace: Trace, stored: frozenset[str]) -> list[Failure]:
        """Functions that modules hold as attributes and that other code replaces: Dynamo guards no bound method."""
        inside = identities(self.region)
        names = trace.names & stored
        failures: dict[str, Failure] = {}
        for module in self.model.modules():
            attributes = {} if id(module) in inside else vars(module)
            for name in sorted(names.intersection(attributes)):
                if callable(attributes[name]):
                    kind, code = type(module), type(module).forward.__code__
                    place = {"file": code.co_filename, "line": code.co_firstlineno}
                    guard = f"{kind.__name__}.{name}"
                    failures[name] = failure(NOTHING_OUTSIDE, "outer_guard", guard=guard, **place)
        return list(failures.values())

    def _files(self, trace: Trace) -> frozenset[str]:
        """The files whose functions may change what this code reads: the traced files, and those of guarded modules."""
        inside = identities(self.region)
        files: set[str | None] = {*trace.files}
        for path in {(), *(path_of(guard["name"]) for guard in trace.guards)}:
            module = self.model.get_submodule(".".join(path)) if path else self.model
            if id(module) not in inside:
                for base in type(module).__mro__:
                    files.add(getattr(sys.modules.get(base.__module__), "__file__", None))
        return frozenset(file for file in files if file and file != __file__)


def path_of(name: str) -> tuple[str, ...]:
    """The names of the modules on the way from the outermost module to the guarded one."""
    match = MODULES.match(name)
    return tuple(MODULE.findall(match[0])) if match else ()


MODULE = re.compile(r"\._modules\['(\w+)'\]")
MODULES = re.compile(rf"self(?:{MODULE.pattern})+")


@contextmanager
def as_without_compiling() -> Iterator[None]:
    """While the block runs, traced code that asks whether it is compiled gets the answer no, as in each pass.

    A function that Dynamo would run once and take for constant (`assume_constant_result`) is refused.
    """
    from torch._dynamo.variables import functions, nn_module
    from torch._dynamo.variables.torch import tracing_state_functions

    answers = tracing_state_functions()
    compiling = [function for function, answer in answers.items() if answer]

    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("a result is assumed to be constant")

    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(answers, dict.fromkeys(compiling, False)))
        for home in (functions, nn_module):
            if hasattr(home, "invoke_and_store_as_constant"):
                patches.enter_context(mock.patch.object(home, "invoke_and_store_as_constant", refused))
        yield


def call_against(model: Module) -> list[Failure]:
    """Whether a call of the outermost module runs more than its `forward`: hooks, or its own `__call__`."""
    import torch
    from torch.nn.modules import module as home

    attributes = [*vars(model).items(), *vars(home).items()]
    has_hooks = any(value for name, value in attributes if HOOKS.fullmatch(name))
    if type(model).__call__ is torch.nn.Module.__call__ and not has_hooks and "forward" not in vars(model):
        return []
    return [failure(NOTHING_OUTSIDE, "outer_call", **{"class": type(model).__name__})]


STANDS_IN = re.compile(r"\['__call__'\]\.__closure__\[0\]\.cell_contents\b")
"""The closure of the function that stands for the region; see `standing_in`."""
HOOKS = re.compile(r"_(?:global_)?forward(?:_pre)?_hooks")


def mark_batch(keywords: dict[str, Any]) -> None:
    """Mark the number of tokens as variable: the trace must not settle on one number."""
    import torch

    for name, value in keywords.items():
        if isinstance(value, torch.Tensor):
            torch._dynamo.mark_dynamic(value, value.ndim - 1 if name == "positions" else 0)
        for tensor in getattr(value, "tensors", {}).values():
            torch._dynamo.mark_dynamic(tensor, 0)


@contextmanager
def standing_in(region: Region, returned: Any, tokens: int) -> Iterator[None]:
    """While the block runs, the region is one opaque function that returns tensors of the same shape."""
    import torch

    enter = partial(again, returned, torch.compiler.allow_in_graph(entered), tokens)
    pass_by = partial(again, returned, torch.compiler.allow_in_graph(passed_by), tokens)

    def call(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return enter(positions_of(args, kwargs))

    def forward(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return pass_by(positions_of(args, kwargs))

    compiled: type[Any] = type(region)
    region.__class__ = type(compiled.__name__, (compiled,), {"__call__": call, "forward": forward})
    try:
        yield
    finally:
        region.__class__ = compiled


def again(value: Any, function: Callable[..., Tensor], tokens: int, positions: Tensor) -> Any:
    """The structure of a value; a function makes each of its tensors in the shape of another batch."""
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


def entered(positions: Tensor, shape: list[Any], dtype: Any, tokens: int) -> Tensor:
    """An unfilled tensor of this shape, with the batch's own number of tokens where the trace had `tokens`."""
    import torch

    sizes = [positions.shape[-1] if size == tokens else size for size in shape]
    unfilled: Tensor = torch.empty(sizes, dtype=dtype, device=positions.device)
    return unfilled


def passed_by(positions: Tensor, shape: list[Any], dtype: Any, tokens: int) -> Tensor:
    """As `entered`, for a call that bypasses the compiled code."""
    return entered(positions, shape, dtype, tokens)


def positions_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The tensor whose last dimension counts the batch's tokens: the positions, an argument of every region."""
    positions: Tensor = kwargs["positions"] if "positions" in kwargs else args[1]
    return positions


def tensors_in(value: Any) -> int:
    """How many tensors a region returns: each entry calls `entered` that often."""
    import torch
    from vllm.sequence import IntermediateTensors

    if isinstance(value, IntermediateTensors):
        return tensors_in(list(value.tensors.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(tensors_in, value))
    return int(isinstance(value, torch.Tensor))


def graph_against(graphs: list[GraphModule], tensors: int) -> list[Failure]:
    """Whether the traced path enters the region once, and calls nothing else that could reach a layer.

    Args:
        graphs: of the trace.
        tensors: how many tensors the region returns.
    """
    if len(graphs) != 1:
        return [failure(NOTHING_OUTSIDE, "outer_entries", count=len(graphs))]
    nodes, inner = list(graphs[0].graph.nodes), inner_nodes(graphs[0])
    entries = count_entries(nodes) / max(tensors, 1)
    failures: list[Failure] = []
    if count_entries(inner) > 0:
        failures.append(failure(NOTHING_OUTSIDE, "nested_call", layer="the compiled region"))
    for node in [*nodes, *inner]:
        failures += node_against(node)
    if entries > 1 or (not entries and not failures):
        failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=math.ceil(entries)))
    return failures


def count_entries(nodes: list[Node]) -> int:
    """How many of these operations enter the region."""
    return sum(node.target is entered for node in nodes)


def node_against(node: Node) -> list[Failure]:
    """Whether an operation goes past the region, or could reach a layer otherwise."""
    if node.target is passed_by:
        return [failure(NOTHING_OUTSIDE, "outer_passed_by")]
    if is_moe(node):
        return [failure(NOTHING_OUTSIDE, "outer_calls_layer", layer=layer_of(node))]
    if is_opaque(node) and node.target is not entered:
        file, line = place(node)
        return [failure(NOTHING_OUTSIDE, "opaque_operator", operator=full_name(node), file=file, line=line)]
    return []


def handlers_against(trace: Trace) -> list[Failure]:
    """Functions around the region that catch exceptions: they could hide that the counter ran past its list."""
    failures = []
    for file, line in trace.handlers:
        if file != __file__ and "torch" not in module_roots(file):
            failures.append(failure(NOTHING_OUTSIDE, "outer_handler", file=file, line=line))
    return failures


def words_against(trace: Trace) -> list[Failure]:
    """Functions around the region that make a forward context, or store what decides how calls are counted."""
    words: set[tuple[str, str]] = set()
    for code in trace.codes:
        words.update(product([code.co_filename], words_of(code)))
    return [failure(NOTHING_OUTSIDE, "context_word", file=file, word=word) for file, word in sorted(words)]


def dictionaries_against(trace: Trace) -> list[Failure]:
    """Functions around the region that read the dictionary of an object: Dynamo makes no guard for it."""
    failures = []
    for code in sorted(trace.codes, key=lambda code: (code.co_filename, code.co_firstlineno)):
        names, file = DICTIONARIES.intersection(code.co_names), code.co_filename
        if names and is_looked_into(file):
            place = {"file": file, "line": code.co_firstlineno}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=min(names), **place))
    return failures


def words_of(code: CodeType) -> frozenset[str]:
    """The names of `CONTEXTS` in a function's code, and those of `SWITCHES` that it stores or holds as texts."""
    stored = {entry.argval for entry in dis.get_instructions(code) if entry.opname in ("STORE_ATTR", "DELETE_ATTR")}
    texts = {value for value in code.co_consts if isinstance(value, str)}
    return CONTEXTS.intersection(code.co_names) | SWITCHES & (stored | texts)


def sizes_against(trace: Trace, most: int) -> list[Failure]:
    """Guards on sizes that do not hold for every batch of 1 to `most` tokens."""
    failures = []
    for guard in trace.sizes:
        if not holds(guard.condition, most):
            place = {"file": guard.file, "line": guard.line}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=str(guard.condition), **place))
    return failures


def attributes_against(trace: Trace, stored: frozenset[str], enclosed: tuple[str, ...]) -> list[Failure]:
    """Guards on attributes that code outside constructors stores, and on values that are not attributes.

    An argument that is None is None in every pass: a launch always feeds its model in the same way.

    Args:
        trace: of the code around the region.
        stored: names of what functions store.
        enclosed: variables of an enclosing function; guards name them as they name arguments.
    """
    failures: dict[str, Failure] = {}
    for guard in trace.guards:
        if guard["file"] == __file__ or STANDS_IN.search(guard["name"]) or is_fixed(guard, stored, enclosed):
            continue
        name = f"{guard['type']} {guard['name']}"[:200]
        failures[name] = failure(NOTHING_OUTSIDE, "outer_guard", guard=name, file=guard["file"], line=guard["line"])
    return list(failures.values())


def truths(guards: list[Failure], trace: Trace) -> list[str]:
    """Attributes of the model whose guards depend only on whether something is there: the other case is traced, too.

    No guard shows whether code depends on the length of a list. Code that calls `len` may.
    """
    if "len" in trace.names:
        return []
    kinds_by_name: dict[str, set[str]] = {}
    for guard in guards:
        kind = guard["fields"]["guard"].partition(" ")[0]
        kinds_by_name.setdefault(attribute_of(guard), set()).add(kind)
    names: list[str] = []
    for name, kinds in kinds_by_name.items():
        if name and "SEQUENCE_LENGTH" in kinds and kinds <= PRESENCE:
            names.append(name)
    return sorted(names)


def attribute_of(guard: Failure) -> str:
    """The attribute of the outermost module on which, or on an element of which, a guard depends; empty if none."""
    match = DIRECT.fullmatch(guard["fields"]["guard"].partition(" ")[2])
    return match[1] if match else ""


DIRECT = re.compile(r"self\.(\w+)(?:\[\d+\])?")
PRESENCE = frozenset(("HASATTR", "SEQUENCE_LENGTH", "TYPE_MATCH", "TENSOR_MATCH"))
"""Kinds of guards on whether a list is there, how long it is, and the shapes of the tensors in it."""


def other_values(value: Any) -> list[Any]:
    """Values in place of a list that may decide otherwise: None, and a list with one more element."""
    return [None, [*value, *(value[-1:] or [None])]]


@contextmanager
def holding(model: Module, attribute: str, value: Any) -> Iterator[None]:
    """While the block runs, an attribute of the model has this value."""
    before = getattr(model, attribute)
    setattr(model, attribute, value)
    try:
        yield
    finally:
        setattr(model, attribute, before)


def is_fixed(guard: Guard, stored: frozenset[str], enclosed: tuple[str, ...]) -> bool:
    """Whether the value on which a guard depends stays as construction left it."""
    name = guard["name"]
    if not name or GROUPS.search(name) or (NAME.fullmatch(name) and name not in enclosed):
        return True  # a plain name is an argument of the outermost call, or the model itself
    if "ITERATOR" in guard["type"]:
        return False  # reading its next element changes it
    is_of_model = name.startswith(("self.", "dict(type(self"))
    if guard["type"] not in STATE and (not is_of_model or CELLS.search(name)):
        return False
    if ANY in stored and is_of_model:
        return False
    parts = [part for part in NAME.findall(name.removeprefix("self.")) if not part.isdigit()]
    if stored.intersection(parts):
        return False
    if guard["type"] in STATE and name.endswith(parts[-1]):
        parts.pop()  # the container stays the same, whatever it holds
    return not stored.intersection(part + INSIDE for part in parts)
