"""The name of the folder for FlashInfer's autotune, against the function of a real vLLM; that needs no FlashInfer."""

import pytest
from factors_samples import NEW, factors
from fake_environment import MIXTRAL
from real_environment import answer_of, python_of

from tuner.compile_cache.autotune_name import autotune_name

pytestmark = pytest.mark.vllm


def test_the_name_is_what_vllm_computes() -> None:
    """From the config as the worker reads it, with and without what the KV cache adds."""
    python_of(NEW)
    pairs = answer_of(NEW, "vllm_autotune_name.py", MIXTRAL)
    names = [autotune_name({**factors(NEW), "config": pair["config"]}) for pair in pairs]
    assert names == [pair["name"] for pair in pairs]
    assert pairs[0]["config"]["hash"] != pairs[1]["config"]["hash"]
