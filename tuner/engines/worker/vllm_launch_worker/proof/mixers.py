"""Token mixers of vLLM's own stand as one operator in a trace: most of its time would go into their arithmetic.

A token mixer is a module with an attention or state-space layer in it, of a class of which no module holds a MoE layer.
What it computes carries nothing in the graph that is read (`order.py`), so that a chain through it never counts. A
class of somebody else's is traced as it is, and so is one that is not called as `mixer(..., hidden states, ...)` with
hidden states of the same shape as its result.
"""

import traceback
from contextlib import contextmanager

from vllm_launch_worker.proof import first_call
from vllm_launch_worker.proof.failure import in_words

NAMESPACE, NAME = "tuner_proof", "mixed"


@contextmanager
def stood_in(model, region, layers: dict, vllm_config, *, origins, standing):
    """While the block runs, token mixers in the region are operators.

    Args:
        model: the outermost module.
        region: the compiled module.
        layers: the MoE layers.
        vllm_config: the launch.
        origins: whose code a file is.
        standing: told what stands in.
    """
    replaced: dict = {}
    mixers = token_mixers(region, layers, vllm_config, origins)
    for kind, place in learned(model, region, mixers, vllm_config, standing).items():
        standing.note("attention_stubbed", kind.__name__)
        for mixer in mixers:
            if type(mixer) is kind:
                replaced[mixer] = kind
                mixer.__class__ = operator_of(kind, place)
    try:
        yield
    finally:
        for mixer, kind in replaced.items():
            mixer.__class__ = kind


def token_mixers(region, layers: dict, vllm_config, origins) -> list:
    """The outermost modules that hold a layer of vLLM's forward context and whose class holds no MoE layer."""
    experts = {id(layer) for layer in layers.values()}
    context = vllm_config.compilation_config.static_forward_context.values()
    mixing = {id(layer) for layer in context if id(layer) not in experts}
    holding = {type(module) for module in region.modules() if experts & {id(part) for part in module.modules()}}
    found: list = []
    inside: set = set()
    for module in region.modules():
        parts = {id(part) for part in module.modules()}
        if type(module) in holding or id(module) in inside or not mixing & parts:
            continue
        if origins.is_own(code_file(type(module))) and "forward" not in vars(module):
            found.append(module)
        inside |= parts
    return found


def code_file(kind: type) -> str:
    """The file of a module class's `forward`."""
    code = getattr(kind.forward, "__code__", None)
    return code.co_filename if code is not None else ""


def learned(model, region, mixers: list, vllm_config, standing) -> dict:
    """How each class of mixers is called: where among its arguments the hidden states are.

    One pass on the meta device, without compiling. A class whose calls differ, or whose result is no tensor in the
    shape of one argument alone, is left out. Of a class that does not run on this machine the result is taken to have
    the shape of the only argument that holds hidden states; a wrong shape would not fit what is added to it.

    Returns:
        Class -> the position or the keyword.
    """
    places: dict = {}

    def note(kind: type, args, kwargs, output) -> None:
        place = place_of_input(args, kwargs, output)
        places[kind] = place if places.get(kind, place) == place else None

    before = {module: dict(vars(module)) for module in model.modules()}
    kinds = {mixer: type(mixer) for mixer in mixers}
    for mixer, kind in kinds.items():
        mixer.__class__ = watched(kind, note, standing)
    compiles, region.do_not_compile = region.do_not_compile, True
    try:
        first_call.made(model, model, vllm_config)
    except Exception:
        traceback.print_exc()
        return {}
    finally:
        region.do_not_compile = compiles
        for mixer, kind in kinds.items():
            mixer.__class__ = kind
        restore(before)
    return {kind: place for kind, place in places.items() if place is not None}


def watched(kind: type, note, standing) -> type:
    """A subclass whose `forward` tells what it was given and gave; where it fails, its result stands for it."""

    def forward(mixer, *args, **kwargs):
        try:
            output = kind.forward(mixer, *args, **kwargs)
        except Exception as error:
            output = result_for(args, kwargs)
            if output is None:
                raise
            standing.note("attention_not_run", f"{kind.__name__}: {in_words(error)}"[:200])
        note(kind, args, kwargs, output)
        return output

    return type(kind.__name__, (kind,), {"forward": forward})


def result_for(args, kwargs):
    """A tensor like the only argument of floating-point numbers; None if there are several, or none."""
    import torch

    values = [value for value in [*args, *kwargs.values()] if isinstance(value, torch.Tensor)]
    hidden = [value for value in values if value.is_floating_point()]
    return torch.empty_like(hidden[0]) if len(hidden) == 1 else None


def restore(before: dict) -> None:
    """Give modules the attributes back that they had: to a launch the pass that is traced is the first."""
    for module, attributes in before.items():
        vars(module).clear()
        vars(module).update(attributes)


def place_of_input(args, kwargs, output):
    """The position or keyword of the one argument that has the shape and type of the result; None if it is not one."""
    import torch

    if not isinstance(output, torch.Tensor):
        return None
    named = [*enumerate(args), *kwargs.items()]
    tensors = [(place, value) for place, value in named if isinstance(value, torch.Tensor)]
    alike = [place for place, value in tensors if (value.shape, value.dtype) == (output.shape, output.dtype)]
    return alike[0] if len(alike) == 1 else None


def operator_of(kind: type, place) -> type:
    """A subclass whose `forward` is one operator."""
    mixed = operator()

    def forward(_self, *args, **kwargs):
        return mixed(args[place] if isinstance(place, int) else kwargs[place])

    return type(kind.__name__, (kind,), {"forward": forward})


def operator():
    """The operator that stands for a token mixer: it returns a tensor in the shape of its input, unfilled."""
    import torch

    namespace = getattr(torch.ops, NAMESPACE)
    if not hasattr(namespace, NAME):
        library = torch.library.Library(NAMESPACE, "DEF")
        library.define(f"{NAME}(Tensor hidden) -> Tensor")
        library.impl(NAME, torch.empty_like, "CompositeExplicitAutograd")
        KEPT.append(library)
    return getattr(namespace, NAME)


KEPT: list = []
"""Libraries of operators, which end with the object."""
