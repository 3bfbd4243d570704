"""Cuts a real model's config as little as memory allows, so that kernels run with the sizes of the real model.

Pure, as `shrink.py`: a config goes in; a smaller config and the list of changes come out.
"""

from dataclasses import replace

from tuner.model.shrink import (
    EXPERT_COUNTS,
    EXPERTS_PER_TOKEN,
    MIN_EXPERTS,
    Config,
    Cut,
    Shrunk,
    cut_config,
    shrink,
    text_nodes,
)
from tuner.model.shrink_layers import layer_key, numbers

BYTES_OF_A_NUMBER = 2
INNER_WIDTHS = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")
"""The width within an expert, and that of a dense layer. Of two in a config the first is that of experts."""
MATRICES_OF_AN_EXPERT, MATRICES_OF_ATTENTION, MATRICES_OF_WORDS = 3, 4, 2


def shrink_to_memory(config: Config, limit: int) -> Shrunk:
    """Cut layers alone, and more where the weights would take more than `limit` bytes.

    Then the vocabulary is cut, and then the experts are halved as often as is needed. The widths stay, because kernels
    are chosen by them. Where that is not enough, or where the config does not name its sizes, the model is cut as by
    `shrink`. The quantisation is dropped, as there.

    Raises:
        TunerError: a size is not an integer, or is out of all proportion.
    """
    smallest = shrink(config)
    for cut in (Cut(), Cut(vocabulary=True), *_fewer_experts(config)):
        small = cut_config(config, cut)
        size = weights_size(small.config)
        if size is not None and size <= limit:
            return replace(small, deep=smallest.deep)
    return smallest


def _fewer_experts(config: Config) -> list[Cut]:
    """Cuts to half of the experts, a quarter, and so on, as far as every token still has experts to choose from."""
    counts, chosen, groups = [0], [1], [1]
    for node in text_nodes(config):
        for key in EXPERT_COUNTS:
            counts += numbers(node.get(key))
        for key in EXPERTS_PER_TOKEN:
            chosen += numbers(node.get(key))
        groups += numbers(node.get("n_group"))
    least = max(MIN_EXPERTS, 2 * max(chosen), 2 * max(groups))
    cuts = []
    experts = max(counts)
    while experts % 2 == 0 and experts // 2 >= least and experts // 2 % max(groups) == 0:
        experts //= 2
        cuts.append(Cut(vocabulary=True, experts=experts))
    return cuts


def weights_size(config: Config) -> int | None:
    """About how many bytes the 16-bit weights of a text model take; None if the config does not name its sizes.

    Every layer is counted with all experts and with a dense part, so the number is rather too high.
    """
    total = 0
    for node in text_nodes(config):
        if layer_key(node) is not None:
            size = _numbers_of(node)
            if size is None:
                return None
            total += size
    return total * BYTES_OF_A_NUMBER or None


def _numbers_of(node: Config) -> int | None:
    """How many numbers the weights of a text model have."""
    sizes = [node.get(key) for key in (layer_key(node) or "", "hidden_size", "vocab_size")]
    experts = max([0, *(count for key in EXPERT_COUNTS for count in numbers(node.get(key)))])
    widths = [max(numbers(node[key])) for key in INNER_WIDTHS if numbers(node.get(key))]
    if None in sizes or not widths:
        return None
    layers, hidden, vocabulary = (int(size or 0) for size in sizes)
    dense = widths[-1] if len(widths) > 1 or not experts else 0  # the one width is that of experts
    matrices = MATRICES_OF_AN_EXPERT * (experts * widths[0] + dense) + MATRICES_OF_ATTENTION * hidden
    return hidden * (layers * matrices + MATRICES_OF_WORDS * vocabulary)
