"""The cut models that the page of replays serves."""

from tools.evidence.make_replay import PICTURED, PUBLISHED, stand_in_config

ERNIE = PUBLISHED["ERNIE-4.5-VL, cut"]


def test_two_processes_can_share_the_heads_of_a_cut_model() -> None:
    """The cut ERNIE-4.5-VL has five heads. For two processes it has twice as many, each as wide as before."""
    alone = stand_in_config(PICTURED, ERNIE, 1)
    shared = stand_in_config(PICTURED, ERNIE, 2)
    assert alone is not None
    assert shared is not None
    sizes = ("hidden_size", "num_attention_heads", "num_key_value_heads")
    assert [alone["config"][size] for size in sizes] == [640, 5, 1]
    assert [shared["config"][size] for size in sizes] == [1280, 10, 2]
