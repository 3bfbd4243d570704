"""Condition 2 on small graphs of both environments: what carries a MoE layer's result to the next, and what does not.

Each environment's cases run in one process; importing vLLM takes most of its time.
"""

import pytest
from real_environment import TARGETS, answer_of

pytestmark = pytest.mark.vllm

SOUND = [
    "residual",
    "in_place",
    "cast",
    "view",
    "split",
    "cat",
    "cat_whole",
    "stack_sum",
    "linear",
    "norm",
    "product",
    "all_reduce",
    "mean",
    "tensor_product",
    "factor_of_kernel",
    "mixed_beside",
    "three_in_place",
    "keyword",
    "shared",
    "shared_half",
    "handed",
    "handed_and_moe",
]
LOST = [
    "two_sets",
    "times_0",
    "times_0.0",
    "times_false",
    "times_0_by_keyword",
    "times_size_that_may_be_0",
    "times_zeros",
    "weight_of_zeros",
    "div_by_infinity",
    "empty_slice",
    "slice_empty_for_few",
    "slice_empty_for_one",
    "zeros_like",
    "less_itself",
    "less_itself_by_keyword",
    "by_itself",
    "alpha_0",
    "beta_0",
    "zeroed",
    "zeroed_view",
    "zeroed_in_checkpoint",
    "copied_over",
    "filled",
    "written_out",
    "part_written_back",
    "other_half_of_cat",
    "other_of_stack",
    "only_padding",
    "cropped_away",
    "integers",
    "size_alone",
    "mixed_alone",
    "mixed_and_used",
    "factor_of_kernel_in_part",
    "factor_of_kernel_zeroed",
    "handed_in_two_sets",
    "handed_times_0",
    "handed_by_indices",
]


@pytest.fixture(scope="module", params=TARGETS)
def answers(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Codes of the failures of every case, in each environment."""
    found: dict[str, list[str]] = answer_of(request.param, "proof_order_cases.py")
    return found


@pytest.mark.parametrize("case", SOUND)
def test_what_carries_a_result_is_accepted(answers: dict[str, list[str]], case: str) -> None:
    """Layers that the data orders are proved: refusing them would cost every model its `true`."""
    assert answers[case] == []


@pytest.mark.parametrize("case", LOST)
def test_what_loses_a_result_is_refused(answers: dict[str, list[str]], case: str) -> None:
    """A dependence in form only leaves the second layer behind no other: the compiler may swap or drop them."""
    assert answers[case] == ["not_behind"]


@pytest.mark.parametrize("case", ["swapped", "missing", "repeated", "handed_swapped", "handed_and_called"])
def test_another_order_is_refused(answers: dict[str, list[str]], case: str) -> None:
    """The graph calls the registered layers in their order, each once."""
    assert answers[case] == ["calls"]


@pytest.mark.parametrize("case", ["dead_result", "handed_dead"])
def test_a_result_that_nobody_reads_is_refused(answers: dict[str, list[str]], case: str) -> None:
    """The compiler drops a layer of which nothing depends."""
    assert answers[case] == ["result_not_behind"]


def test_a_call_in_a_branch_of_the_graph_is_refused(answers: dict[str, list[str]]) -> None:
    """Which side of `torch.cond` runs is decided in each pass; some releases of torch do not trace it at all."""
    assert answers["branch"] in (["nested_call"], ["not_traced"])


@pytest.mark.parametrize("case", ["operator", "operator_in_branch", "function_in_disguise"])
def test_what_runs_untraced_is_refused(answers: dict[str, list[str]], case: str) -> None:
    """Somebody else's operator may change the counter, also inside a branch, also under a name of torch's."""
    assert "opaque_operator" in answers[case] or answers[case] == ["not_traced"]
