"""What the probe says of a model that cannot be built alone: a draft of speculative decoding is named as one."""

import json
from pathlib import Path
from typing import Any

import pytest

from rules.errors import ErrorKind, TunerError
from tuner.model.model import Model, describe
from tuner.probe.failures import about_draft, failed

NAMED = "meta-llama/Llama-3.1-8B"
UNNAMED = "TARGET, the model that it drafts for"
UNKNOWN = "This vLLM registers no architecture XForCausalLM."
PYTHON = ("--python", "/opt/vllm/bin/python")


def failure(kind: str = "unknown_architecture") -> TunerError:
    """The failure that a report of the worker describes."""
    return failed({"result": "failed", "kind": kind, "message": UNKNOWN})


def draft(revision: str | None = None, **config: Any) -> Model:
    """A model with this config."""
    return describe("org/draft", Path("/models/draft"), {"architectures": ["XForCausalLM"], **config}, revision)


def command(target: str = "TARGET", **speculative: Any) -> str:
    """The command that judges the draft beside its target."""
    config = json.dumps({"model": "org/draft", **speculative, "num_speculative_tokens": 1})
    return f"`tuner probe --python /opt/vllm/bin/python {target} -- --speculative-config '{config}'`"


@pytest.mark.parametrize(
    ("config", "sign"),
    [
        ({"architectures": ["PeagleNewForCausalLM"]}, "its architecture PeagleNewForCausalLM"),
        ({"architectures": ["NewMTPModel"]}, "its architecture NewMTPModel"),
        ({"draft_vocab_size": 32000}, "its field draft_vocab_size"),
        ({"speculators_config": {}}, "its field speculators_config"),
    ],
)
def test_an_unknown_draft_is_named_as_one(config: dict[str, Any], sign: str) -> None:
    """The message says by what it is known, and the hint gives the command that judges it; the kind stays."""
    error = about_draft(failure(), draft(**config), PYTHON)
    assert error.message == (
        f"This looks like a draft of speculative decoding, by {sign}. A draft runs only beside its target. "
        f"Alone it fails: {UNKNOWN}"
    )
    assert error.hint == f"Judge it beside {UNNAMED} in a vLLM release that has this draft: {command()}."
    assert error.kind is ErrorKind.UNKNOWN_ARCHITECTURE


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Eagle2_5_VLForConditionalGeneration"]},
        {"num_nextn_predict_layers": 1, "draft_vocab_size": None},
        {},
    ],
)
def test_another_unknown_model_is_not_called_a_draft(config: dict[str, Any]) -> None:
    """A target that has layers for drafting is not a draft."""
    assert about_draft(failure(), draft(**config), PYTHON).message == UNKNOWN


def test_a_draft_that_fails_for_another_reason_keeps_its_message() -> None:
    """What the machine lacks is not explained by being a draft."""
    model = draft(architectures=["NewMTPModel"])
    assert about_draft(failure("kernel_missing"), model, PYTHON).message == UNKNOWN


@pytest.mark.parametrize(
    ("fields", "target", "word"),
    [
        ({}, UNNAMED, "TARGET"),
        ({"target_hidden_size": 4096}, "TARGET, a model whose hidden_size is 4096", "TARGET"),
        ({"target_hidden_size": "4096"}, UNNAMED, "TARGET"),
        ({"speculators_config": {"verifier": {"name_or_path": NAMED}}}, NAMED, NAMED),
        ({"speculators_config": {"verifier": {"name_or_path": 3}}}, UNNAMED, "TARGET"),
        ({"speculators_config": ["verifier"]}, UNNAMED, "TARGET"),
    ],
)
def test_a_draft_that_cannot_be_built_alone_names_its_target(fields: dict[str, Any], target: str, word: str) -> None:
    """VLLM has the class of the draft, and the class asks its config for what only the target has."""
    error = about_draft(failure("model"), draft(architectures=["DeepSeekMTPModel"], **fields), PYTHON)
    assert error.hint == f"Judge it beside {target}: {command(word)}."


@pytest.mark.parametrize(
    ("architecture", "method"),
    [("EagleLlamaForCausalLM", "eagle"), ("Eagle3LlamaForCausalLM", "eagle3"), ("EagleDeepSeekMTPModel", "eagle")],
)
def test_the_command_names_the_method_that_vllm_would_take_from_a_name(architecture: str, method: str) -> None:
    """VLLM tells EAGLE by the name of the model's folder alone."""
    error = about_draft(failure("model"), draft(architectures=[architecture]), PYTHON)
    assert command(method=method) in error.hint


def test_the_command_names_the_revision_of_the_draft() -> None:
    """Else vLLM would take the hub's latest one."""
    error = about_draft(failure("model"), draft("abc", architectures=["DeepSeekMTPModel"]), PYTHON)
    assert command(revision="abc") in error.hint
