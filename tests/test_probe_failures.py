"""What the probe says of a model that this vLLM does not know: a draft of speculative decoding is named as one."""

from typing import Any

import pytest

from rules.errors import ErrorKind, TunerError
from tuner.probe.failures import about_draft, failed

TARGET = "its target meta-llama/Llama-3.1-8B"
UNKNOWN = "This vLLM registers no architecture XForCausalLM."


def failure(kind: str = "unknown_architecture") -> TunerError:
    """The failure that a report of the worker describes."""
    return failed({"result": "failed", "kind": kind, "message": UNKNOWN})


@pytest.mark.parametrize(
    ("config", "sign"),
    [
        ({"architectures": ["Eagle3NewForCausalLM"]}, "By its name"),
        ({"architectures": ["PeagleNewForCausalLM"]}, "By its name"),
        ({"architectures": ["NewMTPModel"]}, "By its name"),
        ({"architectures": ["XForCausalLM"], "draft_vocab_size": 32000}, "By its field draft_vocab_size"),
        ({"architectures": ["XForCausalLM"], "speculators_config": {}}, "By its field speculators_config"),
    ],
)
def test_an_unknown_draft_is_named_as_one(config: dict[str, Any], sign: str) -> None:
    """The message says by what it is known, and the hint names the target; the kind stays."""
    told = about_draft(failure(), config)
    assert told.message == (
        f"{UNKNOWN} {sign}: it looks like a draft of speculative decoding, which runs only beside its target."
    )
    assert told.hint == "Probe the target in a vLLM release that has the draft, with `-- --speculative-config`."
    assert told.kind is ErrorKind.UNKNOWN_ARCHITECTURE


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Eagle2_5_VLForConditionalGeneration"]},
        {"architectures": ["XForCausalLM"], "num_nextn_predict_layers": 1, "draft_vocab_size": None},
        {"architectures": []},
        {},
    ],
)
def test_another_unknown_model_is_not_called_a_draft(config: dict[str, Any]) -> None:
    """A target that has layers for drafting is not a draft."""
    assert about_draft(failure(), config).message == UNKNOWN


def test_a_draft_that_fails_for_another_reason_keeps_its_message() -> None:
    """What the machine lacks is not explained by being a draft."""
    assert about_draft(failure("kernel_missing"), {"architectures": ["NewMTPModel"]}).message == UNKNOWN


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({}, "the target"),
        ({"target_hidden_size": 4096}, "a target whose hidden_size is 4096"),
        ({"target_hidden_size": "4096"}, "the target"),
        ({"speculators_config": {"verifier": {"name_or_path": "meta-llama/Llama-3.1-8B"}}}, TARGET),
        ({"speculators_config": {"verifier": {"name_or_path": 3}}}, "the target"),
        ({"speculators_config": ["verifier"]}, "the target"),
    ],
)
def test_a_draft_that_cannot_be_built_alone_names_its_target(fields: dict[str, Any], target: str) -> None:
    """VLLM has the class of the draft, and the class asks its config for what only the target has."""
    error = about_draft(failure("model"), {"architectures": ["DeepSeekMTPModel"], **fields})
    assert error.hint == f"Probe {target}, with `-- --speculative-config`."
    assert "which runs only beside its target" in error.message
