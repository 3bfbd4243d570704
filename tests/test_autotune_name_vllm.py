"""The name of the folder for FlashInfer's autotune, against the function of a real vLLM; that needs no FlashInfer."""

from typing import Any

import pytest
from factors_samples import NEW, changed, factors
from fake_environment import MIXTRAL
from real_environment import answer_of, python_of

from tuner.compile_cache.autotune_name import autotune_name

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    """What vLLM 0.32.0 says of one launch, before and after it made the KV cache."""
    python_of(NEW)
    seen: dict[str, Any] = answer_of(NEW, "vllm_autotune_name.py", MIXTRAL)
    return seen


def document_of(moment: dict[str, Any]) -> dict[str, Any]:
    """The document of that launch, as far as the name needs it."""
    document = {**factors(NEW), "config": moment["config"], "variables": moment["variables"]}
    return changed(document, False, "compiles", "mega")


@pytest.mark.parametrize("moment", ["early", "late"])
def test_the_name_is_what_vllm_computes(moment: str, answer: dict[str, Any]) -> None:
    """From the config as the worker reads it, with and without what the KV cache adds."""
    assert answer["early"]["config"]["hash"] != answer["late"]["config"]["hash"]
    assert autotune_name(document_of(answer[moment])) == answer[moment]["name"]


def test_the_name_of_older_releases_is_made_as_vllm_makes_it(answer: dict[str, Any]) -> None:
    """By the function of 0.25.0 to 0.29.0, whose source is the same in 0.32.0."""
    document = changed(document_of(answer["early"]), "0.28.0", "system", "vllm")
    assert autotune_name(document) == answer["early"]["older"]
