"""Condition 4: the code around the compiled region enters it once in every pass, and calls no MoE layer itself.

That code is plain Python in every pass. It is traced like the region, with the region as one opaque function. What does
not trace as one graph is not proved, and each guard that Dynamo makes is a place where a pass might go otherwise.
"""

import dis
import math
import re
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

from vllm_launch_worker.proof import first_call
from vllm_launch_worker.proof.failure import NOTHING_OUTSIDE, failure, raised
from vllm_launch_worker.proof.order import full_name, inner_nodes, is_moe, is_opaque, layer_of, place
from vllm_launch_worker.proof.sizes import holds
from vllm_launch_worker.proof.stores import ANY, INSIDE, is_looked_into, module_roots, stored_in
from vllm_launch_worker.proof.tracing import Trace, watching

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
modules, types, and the shapes of tensors, whose sizes have guards of their own."""
GROUPS = re.compile(r"G\['__import_vllm_dot_distributed_dot_parallel_state'\]\._[A-Z]+\b")
"""vLLM's groups of processes: made before the model, and the same in every pass (elastic ones are refused)."""
NAME = re.compile(r"\w+")
CELLS = re.compile(r"\.cell_contents\b|__(?:kw)?defaults__\[.*?\]\[")
"""Variables of an enclosing function, and what a default value holds: a function may change them unseen."""
CONTEXTS = frozenset(("set_forward_context", "override_forward_context", "create_forward_context"))
"""vLLM's functions that begin a new count of MoE calls, or end one."""
DICTIONARIES = frozenset(("__dict__", "vars"))
SWITCHES = frozenset(("moe_layer_index", "all_moe_layers", "skip_compiled", "do_not_compile"))
"""Attributes that code around a region may read and never store: they decide whether and how calls are counted."""


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
        failures = [*call_against(self.model), *self._on_one_path(returned, trace)]
        stored = stored_in(self._files(trace))
        failures += self._functions_against(trace, stored)
        open_guards = attributes_against(trace, stored, self.model.forward.__code__.co_freevars)
        for attribute in truths(open_guards, trace):
            for value in other_values(getattr(self.model, attribute)):
                with holding(self.model, attribute, value):
                    failures += self._on_one_path(returned, other := Trace())
                trace.files |= other.files
            open_guards = [guard for guard in open_guards if attribute_of(guard) != attribute]
        return failures + open_guards

    def _on_one_path(self, returned, trace: Trace) -> list:
        """What does not hold on the path that a trace takes, whatever decides for it.

        Dynamo takes a number of tokens that may be any for one other than 1, and makes no guard of it. So a batch of
        one token is traced by itself.
        """
        from vllm.platforms import current_platform

        tokens = first_call.tokens(self.config, current_platform.device_type)
        failures: list = []
        for count in sorted({1, tokens}):
            failures += self._of_batch(returned, trace, tokens, count)
        unlike = {str(entry): entry for entry in failures}
        return list(unlike.values())

    def _of_batch(self, returned, trace: Trace, tokens: int, count: int) -> list:
        """What does not hold for batches of one size, or of any size but 1."""
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

    def _trace(self, returned, trace: Trace, tokens: int, count: int) -> None:
        import torch

        options = {"guard_filter_fn": trace.note}
        torch._dynamo.reset()
        forward = self.model.forward
        trace.looked_into(forward.__code__)
        compiled = torch.compile(forward, fullgraph=True, dynamic=False, backend=trace.backend, options=options)
        mark = mark_batch if count > 1 else None
        with standing_in(self.region, returned, tokens), watching(trace), as_without_compiling():
            first_call.made(compiled, self.model, self.config, mark, count)

    def _functions_against(self, trace: Trace, stored: frozenset) -> list:
        """Functions that modules hold as attributes and that other code replaces: Dynamo guards no bound method."""
        inside = {id(module) for module in self.region.modules()}
        names = trace.names & stored
        failures = {}
        for module in self.model.modules():
            held = {} if id(module) in inside else vars(module)
            for name in sorted(name for name in names & set(held) if callable(held[name])):
                kind, code = type(module), type(module).forward.__code__
                failures[name] = failure(
                    NOTHING_OUTSIDE,
                    "outer_guard",
                    guard=f"{kind.__name__}.{name}",
                    file=code.co_filename,
                    line=code.co_firstlineno,
                )
        return list(failures.values())

    def _files(self, trace: Trace) -> frozenset:
        """The files whose functions may change what this code reads: those traced, and those of the modules it asks."""
        inside = {id(module) for module in self.region.modules()}
        asked = {path_of(guard["name"]) for guard in trace.guards}
        modules = [self.model, *(self.model.get_submodule(".".join(path)) for path in asked)]
        kinds = {type(module) for module in modules if id(module) not in inside}
        names = {base.__module__ for kind in kinds for base in kind.__mro__}
        files = {getattr(sys.modules.get(name), "__file__", None) for name in names}
        return frozenset(file for file in {*trace.files, *files} if file and file != __file__)


def path_of(name: str) -> tuple:
    """The names of the modules from the outermost one to that of which a guard asks something."""
    match = MODULES.match(name)
    return tuple(MODULE.findall(match[0])) if match else ()


MODULE = re.compile(r"\._modules\['(\w+)'\]")
MODULES = re.compile(rf"self(?:{MODULE.pattern})+")


@contextmanager
def as_without_compiling():
    """While the block runs, traced code that asks whether it is compiled is told no, as it will be in each pass.

    What Dynamo would run once and take for constant (`assume_constant_result`) is refused.
    """
    from torch._dynamo.variables import functions, nn_module
    from torch._dynamo.variables.torch import tracing_state_functions

    asked = tracing_state_functions()
    compiling = [function for function, answer in asked.items() if answer]

    def refused(*_, **__):
        raise RuntimeError("a result is assumed to be constant")

    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(asked, dict.fromkeys(compiling, False)))
        for home in (functions, nn_module):
            if hasattr(home, "invoke_and_store_as_constant"):
                patches.enter_context(mock.patch.object(home, "invoke_and_store_as_constant", refused))
        yield


def call_against(model) -> list:
    """Whether a call of the outermost module runs its `forward` alone: hooks and a `__call__` of its own do more."""
    import torch
    from torch.nn.modules import module as home

    hooks = [value for place in (vars(model), vars(home)) for name, value in place.items() if HOOKS.fullmatch(name)]
    if type(model).__call__ is torch.nn.Module.__call__ and not any(hooks) and "forward" not in vars(model):
        return []
    return [failure(NOTHING_OUTSIDE, "outer_call", **{"class": type(model).__name__})]


STANDS_IN = re.compile(r"\['__call__'\]\.__closure__\[0\]\.cell_contents\b")
"""What the function holds that stands for the region; see `standing_in`."""
HOOKS = re.compile(r"_(?:global_)?forward(?:_pre)?_hooks")


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


def tensors_in(value) -> int:
    """How many tensors a region returns: so often `entered` is called for each entry."""
    import torch
    from vllm.sequence import IntermediateTensors

    if isinstance(value, IntermediateTensors):
        return tensors_in(list(value.tensors.values()))
    if isinstance(value, (tuple, list)):
        return sum(tensors_in(item) for item in value)
    return int(isinstance(value, torch.Tensor))


def graph_against(graphs: list, tensors: int) -> list:
    """Whether the traced path enters the region once, and calls nothing else that could reach a layer.

    Args:
        graphs: of the trace.
        tensors: how many the region returns.
    """
    if len(graphs) != 1:
        return [failure(NOTHING_OUTSIDE, "outer_entries", count=len(graphs))]
    failures, inner = [], inner_nodes(graphs[0])
    entries = sum(node.target is entered for node in graphs[0].graph.nodes) / max(tensors, 1)
    if any(node.target is entered for node in inner):
        failures.append(failure(NOTHING_OUTSIDE, "nested_call", layer="the compiled region"))
    for node in [*graphs[0].graph.nodes, *inner]:
        if node.target is passed_by:
            failures.append(failure(NOTHING_OUTSIDE, "outer_passed_by"))
        elif is_moe(node):
            failures.append(failure(NOTHING_OUTSIDE, "outer_calls_layer", layer=layer_of(node)))
        elif is_opaque(node) and node.target is not entered:
            file, line = place(node)
            failures.append(failure(NOTHING_OUTSIDE, "opaque_operator", operator=full_name(node), file=file, line=line))
    if entries > 1 or (not entries and not failures):
        failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=math.ceil(entries)))
    return failures


def handlers_against(trace: Trace) -> list:
    """Functions around the region that catch exceptions: one could hide that the counter ran past its list."""
    failures = []
    for file, line in trace.handlers:
        if file != __file__ and "torch" not in module_roots(file):
            failures.append(failure(NOTHING_OUTSIDE, "outer_handler", file=file, line=line))
    return failures


def words_against(trace: Trace) -> list:
    """Functions around the region that make a forward context, or store what decides how calls are counted."""
    words = sorted({(code.co_filename, word) for code in trace.codes for word in words_of(code)})
    return [failure(NOTHING_OUTSIDE, "context_word", file=file, word=word) for file, word in words]


def dictionaries_against(trace: Trace) -> list:
    """Functions around the region that ask the dictionary of an object, of which Dynamo makes no guard."""
    failures = []
    for code in sorted(trace.codes, key=lambda code: (code.co_filename, code.co_firstlineno)):
        asked, file = DICTIONARIES.intersection(code.co_names), code.co_filename
        if asked and is_looked_into(file):
            place = {"file": file, "line": code.co_firstlineno}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=min(asked), **place))
    return failures


def words_of(code) -> set:
    """Which of these words a function names, or stores an attribute by."""
    stored = {entry.argval for entry in dis.get_instructions(code) if entry.opname in ("STORE_ATTR", "DELETE_ATTR")}
    texts = {value for value in code.co_consts if isinstance(value, str)}
    return CONTEXTS.intersection(code.co_names) | SWITCHES & (stored | texts)


def sizes_against(trace: Trace, most: int) -> list:
    """Guards on sizes that do not hold for every batch of 1 to `most` tokens."""
    failures = []
    for guard in trace.sizes:
        if not holds(guard.condition, most):
            place = {"file": guard.file, "line": guard.line}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=str(guard.condition), **place))
    return failures


def attributes_against(trace: Trace, stored: frozenset, enclosed: tuple) -> list:
    """Guards on attributes that code outside constructors stores, and on values that are no attribute.

    An argument that is None is given alike in every pass: a launch feeds its model always in one way.

    Args:
        trace: filled.
        stored: names of what functions store.
        enclosed: variables of an enclosing function, which guards name as they name arguments.
    """
    failures = {}
    for guard in trace.guards:
        if guard["file"] == __file__ or STANDS_IN.search(guard["name"]) or is_fixed(guard, stored, enclosed):
            continue
        name = f"{guard['type']} {guard['name']}"[:200]
        failures[name] = failure(NOTHING_OUTSIDE, "outer_guard", guard=name, file=guard["file"], line=guard["line"])
    return list(failures.values())


def truths(guards: list, trace: Trace) -> list:
    """Attributes of the model of which guards ask only whether something is there: the other way can be traced, too.

    Whether code asks how long a list is no guard tells; code that calls `len` may.
    """
    if "len" in trace.names:
        return []
    asked: dict = {}
    for guard in guards:
        kind = guard["fields"]["guard"].partition(" ")[0]
        asked.setdefault(attribute_of(guard), set()).add(kind)
    return sorted(name for name, kinds in asked.items() if name and "SEQUENCE_LENGTH" in kinds and kinds <= PRESENCE)


def attribute_of(guard: dict) -> str:
    """The attribute of the outermost module that a guard asks for, or one of whose elements; empty if it is none."""
    match = DIRECT.fullmatch(guard["fields"]["guard"].partition(" ")[2])
    return match[1] if match else ""


DIRECT = re.compile(r"self\.(\w+)(?:\[\d+\])?")
PRESENCE = frozenset(("HASATTR", "SEQUENCE_LENGTH", "TYPE_MATCH", "TENSOR_MATCH"))
"""Guards on whether a list is there, how long it is, and the shapes of the tensors in it."""


def other_values(value) -> list:
    """Values of a list that decide otherwise: None, and one more or one instead of none."""
    return [None, [*value, *(value[-1:] or [None])]]


@contextmanager
def holding(model, attribute: str, value):
    """While the block runs, an attribute of the model has this value."""
    before = getattr(model, attribute)
    setattr(model, attribute, value)
    try:
        yield
    finally:
        setattr(model, attribute, before)


def is_fixed(guard: dict, stored: frozenset, enclosed: tuple) -> bool:
    """Whether what a guard asks for stays as construction left it."""
    name = guard["name"]
    if not name or GROUPS.search(name) or (NAME.fullmatch(name) and name not in enclosed):
        return True  # the last: an argument of the outermost call, or the model itself
    if "ITERATOR" in guard["type"]:
        return False  # taking its next element changes it
    is_of_model = name.startswith(("self.", "dict(type(self"))
    if guard["type"] not in STATE and (not is_of_model or CELLS.search(name)):
        return False
    if ANY in stored and is_of_model:
        return False
    parts = [part for part in NAME.findall(name.removeprefix("self.")) if not part.isdigit()]
    if stored.intersection(parts):
        return False
    if guard["type"] in STATE and name.endswith(parts[-1]):
        parts.pop()  # it is the same container, whatever it holds
    return not stored.intersection(part + INSIDE for part in parts)
