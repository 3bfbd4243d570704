"""Runs inside a serving environment: small functions that call vLLM's MoE operator, and what `order.py` says of them.

Usage: `python proof_order_cases.py`. Prints one JSON object: name of the case -> codes of the failures, in order.
"""
# ruff: noqa: ANN001, ANN201, ANN202, ARG005, D103  the functions are the data; most are one line

import json
import operator
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tuner" / "processes" / "worker"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tuner" / "engines" / "worker"))

import torch
import vllm.model_executor.layers.fused_moe
import vllm.model_executor.models.transformers  # noqa: F401  both register operators
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from vllm.utils import torch_utils

from vllm_launch_worker.proof.mixers import operator as mixing_operator
from vllm_launch_worker.proof.order import Order
from vllm_launch_worker.proof.tracing import Trace

TOKENS, WIDTH, MOST = 8, 4, 2048
MOE, SHARED = torch.ops.vllm.moe_forward, torch.ops.vllm.moe_forward_shared
LIBRARY = torch.library.Library("hostile", "DEF")
LIBRARY.define("rewind(Tensor x) -> Tensor")
LIBRARY.impl("rewind", torch.clone, "CompositeExplicitAutograd")
KERNELS = torch.library.Library("vllm", "FRAGMENT")
KERNELS.define("proof_case_kernel(Tensor x, Tensor(a!) out) -> ()")
KERNELS.impl("proof_case_kernel", lambda x, out: None, "CompositeExplicitAutograd")
"""As vLLM's own kernels it writes into memory that its caller made."""
MIXED_INTO = mixing_operator("mixed_into")
SCHEMA = MOE.default._schema.arguments
ARGUMENTS = [argument.name for argument in SCHEMA]
ABSENT = {argument.name: 0 if str(argument.type) == "int" else None for argument in SCHEMA}
"""What the other arguments of a release's operator are given."""
TAKES_TEXT = any(argument.name == "layer_name" and str(argument.type) == "str" for argument in SCHEMA)
WEIGHT = torch.zeros(WIDTH, WIDTH, device="meta")
Between = Callable[[Any, Any], Any]


def named(name: str):
    """The name of a layer as the release's operator takes it: a text, or from torch 2.11 on an object."""
    if TAKES_TEXT:
        return name
    kind = getattr(torch_utils, "LayerName", None) or torch_utils.ModuleName
    return kind(name)


def values_of(hidden, name: str) -> dict[str, Any]:
    return {**ABSENT, "hidden_states": hidden, "router_logits": hidden, "layer_name": named(name)}


def moe(hidden, name: str, packet=MOE):
    values = values_of(hidden, name)
    return packet(*[values[argument] for argument in ARGUMENTS])


def moe_by_keyword(hidden, name: str):
    return MOE(**values_of(hidden, name))


def handed(hidden, name: str):
    """A call of a MoE layer by the operator of the Transformers backend, which takes the name as a text."""
    return torch.ops.vllm.transformers_moe_forward(hidden, hidden.to(torch.int32), hidden, name)


def second_behind(between: Between):
    """Two MoE layers; the second is given what `between` makes of the input and the first one's result."""
    return lambda h: moe(between(h, moe(h, "a")), "b")


def zeroed(h, x):
    x.zero_()
    return h + x


def zeroed_view(h, x):
    x.view(-1).zero_()
    return h + x


def copied_over(h, x):
    x.copy_(h)
    return h + x


def filled(h, x):
    x[:] = 0
    return h + x


def written_out(h, x):
    torch.mul(h, 2, out=x)
    return h + x


def part_written_back(h, x):
    copy = x.clone()
    x.zero_()
    x[:, :1].add_(copy[:, :1])
    return h + x[:, 1:2]


def zeroed_in_checkpoint(h, x):
    def zero(value):
        value.zero_()
        return value + 1

    checkpoint(zero, x, use_reentrant=False)
    return h + x


def rewound_in_branch(h, x):
    chosen = torch.cond(h.sum() > 0, torch.ops.hostile.rewind, lambda v: v + 1, (h,))
    return h + x + chosen


def mixed_into(x):
    """What a token mixer makes of `x`, in memory of its caller's."""
    out = torch.zeros_like(x)
    MIXED_INTO(x, out)
    return out


def mixed_beside(_h, x):
    return x + mixed_into(functional.layer_norm(x, (WIDTH,)))


def mixed_and_used(h, x):
    mixed_into(x)
    return h + x


def factor_of_kernel(h, x):
    """As the layers of DeepSeek-V3 in 8 bits."""
    factor = torch.empty_like(x)
    torch.ops.vllm.proof_case_kernel(h, factor.view(-1))
    return x * factor


def factor_of_kernel_in_part(h, x):
    factor = torch.zeros_like(x)
    torch.ops.vllm.proof_case_kernel(h, factor[:, :2])
    return x * factor


def factor_of_kernel_zeroed(h, x):
    factor = torch.empty_like(x)
    torch.ops.vllm.proof_case_kernel(h, factor)
    factor.zero_()
    return x * factor


@torch.compiler.allow_in_graph
@wraps(functional.silu)
def disguised(x):
    return x


def called_in_branch(h):
    return torch.cond(h.sum() > 0, lambda v: moe(v, "a") + 0, lambda v: v + 1, (h,))


def in_place(h, x):
    h = h.clone()
    h += x
    return h


def in_place_twice(h):
    h = h.clone()
    for name in ("a", "b", "c"):
        h += moe(h, name)
    return h


CARRIED: dict[str, Between] = {
    "residual": lambda h, x: h + x,
    "in_place": in_place,
    "cast": lambda h, x: h + x.to(torch.bfloat16).float(),
    "view": lambda h, x: h + x.view(-1, 2, 2).reshape(-1, WIDTH),
    "split": lambda h, x: h[:, :2] + x.split([2, 2], -1)[0],
    "cat": lambda h, x: torch.cat([x, x + h], -1)[..., :WIDTH],
    "cat_whole": lambda h, x: functional.linear(torch.cat([h, x], -1), torch.cat([WEIGHT, WEIGHT], -1)),
    "stack_sum": lambda h, x: torch.stack([h, x]).sum(0),
    "linear": lambda h, x: functional.linear(x, WEIGHT),
    "norm": lambda h, x: functional.rms_norm(h + x, (WIDTH,)),
    "product": lambda h, x: h + 0.5 * x,
    "all_reduce": lambda h, x: torch.ops.vllm.all_reduce(h + x, group_name="tp:0"),
    "mean": lambda h, x: h + x.mean(),
    "tensor_product": lambda h, x: h * x,
    "factor_of_kernel": factor_of_kernel,
    "mixed_beside": mixed_beside,
}
"""What carries the first layer's result on: sound."""
LOST: dict[str, Between] = {
    "two_sets": lambda h, x: h,
    "times_0": lambda h, x: h + x * 0,
    "times_0.0": lambda h, x: h + 0.0 * x,
    "times_false": lambda h, x: h + x * False,
    "times_0_by_keyword": lambda h, x: h + torch.mul(x, other=0),
    "times_size_that_may_be_0": lambda h, x: h + x * (h.shape[0] // TOKENS),
    "times_zeros": lambda h, x: h + x * torch.zeros_like(x),
    "weight_of_zeros": lambda h, x: h + functional.linear(x, x.new_zeros(WIDTH, WIDTH)),
    "div_by_infinity": lambda h, x: h + x / float("inf"),
    "empty_slice": lambda h, x: h + x[:, :0].sum(),
    "slice_empty_for_few": lambda h, x: h + x[: h.shape[0] // TOKENS].sum(),
    "slice_empty_for_one": lambda h, x: h + x[1:].sum(),
    "zeros_like": lambda h, x: h + torch.zeros_like(x),
    "less_itself": lambda h, x: h + (x - x),
    "less_itself_by_keyword": lambda h, x: h + torch.sub(input=x, other=x),
    "by_itself": lambda h, x: h + x / x,
    "alpha_0": lambda h, x: torch.add(h, x, alpha=0),
    "beta_0": lambda h, x: torch.addmm(x, h, WEIGHT, beta=0),
    "zeroed": zeroed,
    "zeroed_view": zeroed_view,
    "zeroed_in_checkpoint": zeroed_in_checkpoint,
    "copied_over": copied_over,
    "filled": filled,
    "written_out": written_out,
    "part_written_back": part_written_back,
    "other_half_of_cat": lambda h, x: torch.cat([h, x], -1).split([WIDTH, WIDTH], -1)[0],
    "other_of_stack": lambda h, x: torch.stack([h, x])[0],
    "only_padding": lambda h, x: h + functional.pad(x, (0, WIDTH))[..., WIDTH:],
    "cropped_away": lambda h, x: h + functional.pad(x, (WIDTH, -WIDTH)),
    "integers": lambda h, x: h + x.to(torch.int32),
    "size_alone": lambda h, x: h + x.shape[0],
    "mixed_alone": lambda h, x: mixed_into(x),
    "mixed_and_used": mixed_and_used,
    "factor_of_kernel_in_part": factor_of_kernel_in_part,
    "factor_of_kernel_zeroed": factor_of_kernel_zeroed,
}
"""What loses it, for every batch or for some."""
OPAQUE: dict[str, Between] = {
    "operator": lambda h, x: h + torch.ops.hostile.rewind(x),
    "operator_in_branch": rewound_in_branch,
    "function_in_disguise": lambda h, x: h + disguised(x),
}
HANDED: dict[str, tuple[list[str], Callable[[Any], Any]]] = {
    "handed": (["a", "b"], lambda h: handed(h + handed(h, "a"), "b")),
    "handed_and_moe": (["a", "b"], lambda h: moe(h + handed(h, "a"), "b")),
    "handed_in_two_sets": (["a", "b"], lambda h: handed(h, "a") + handed(h, "b")),
    "handed_times_0": (["a", "b"], lambda h: handed(h + 0 * handed(h, "a"), "b")),
    "handed_by_indices": (["a", "b"], lambda h: handed(h + handed(h, "a").to(torch.int32), "b")),
    "handed_swapped": (["a", "b"], lambda h: handed(handed(h, "b"), "a")),
    "handed_and_called": (["a", "b"], lambda h: handed(moe(handed(h, "a"), "a"), "b")),
    "handed_dead": (["a"], lambda h: (handed(h, "a"), h + 1)[1]),
}
"""Calls by the operator of the Transformers backend."""
GRAPHS: dict[str, tuple[list[str], Callable[[Any], Any]]] = {
    "three_in_place": (["a", "b", "c"], in_place_twice),
    "swapped": (["a", "b"], lambda h: moe(moe(h, "b"), "a")),
    "missing": (["a", "b"], lambda h: moe(h, "a")),
    "repeated": (["a", "b"], lambda h: moe(moe(moe(h, "a"), "a"), "b")),
    "dead_result": (["a"], lambda h: (moe(h, "a"), h + 1)[1]),
    "branch": (["a"], called_in_branch),
    "keyword": (["a", "b"], lambda h: moe_by_keyword(h + moe_by_keyword(h, "a"), "b")),
    "shared": (["a", "b"], lambda h: operator.add(*moe(moe(h, "a", SHARED)[1], "b", SHARED))),
    "shared_half": (["a", "b"], lambda h: moe(moe(h, "a", SHARED)[0], "b", SHARED)[0]),
}


def failures(names: list[str], function) -> list[str]:
    """Codes of what `order.py` finds in the graph of a function of hidden states for any number of tokens."""
    torch._dynamo.reset()
    hidden = torch.zeros(TOKENS, WIDTH, device="meta")
    torch._dynamo.mark_dynamic(hidden, 0)
    trace = Trace()
    try:
        torch.compile(function, backend=trace.backend, fullgraph=True)(hidden)
    except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.TorchRuntimeError):
        return ["not_traced"]
    return [entry["code"] for entry in Order(trace.graphs[0], names, MOST).failures]


def main() -> None:
    """Every case."""
    answers = {}
    for group in (CARRIED, LOST, OPAQUE):
        for name, between in group.items():
            answers[name] = failures(["a", "b"], second_behind(between))
    for name, (layers, function) in (HANDED | GRAPHS).items():
        answers[name] = failures(layers, function)
    print(json.dumps(answers))  # noqa: T201  the answer


if __name__ == "__main__":
    main()
