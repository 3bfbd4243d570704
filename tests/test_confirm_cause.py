"""Why the flag has the value that an engine runs with: by the decision, and by the log alone."""

from dataclasses import replace

import pytest

from rules.releases import FlagStatus
from rules.verdict import Word
from tuner.confirm.expected import Written
from tuner.confirm.flag_cause import FlagCause, cause_text, flag_cause
from tuner.server_log.engine_line import EngineConfig, FlagValue, NoDraft, Speculative
from tuner.server_log.log import Start

QWEN, ERNIE_VL = "Qwen3MoeForCausalLM", "Ernie4_5_VLMoeForConditionalGeneration"
ON, OFF, UNSET, UNSAID = FlagValue.ON, FlagValue.OFF, FlagValue.UNSET, FlagValue.UNSAID
NGRAM = Speculative("ngram", None, 2)
ENGINE = EngineConfig("0.19.1", "m", flag=OFF, mode=3, speculative=NoDraft.NONE)
DRAFTED = replace(ENGINE, speculative=NGRAM)
SETTABLE = Written(
    vllm="0.19.1",
    model="m",
    architecture=QWEN,
    flag=None,
    status=FlagStatus.SETTABLE,
    verdict=Word.UNIFORM,
    refused=False,
    mode=None,
    eager=None,
    speculative=None,
    cache_root=None,
    cache_dir=None,
)
INERT = replace(SETTABLE, status=FlagStatus.INERT)


@pytest.mark.parametrize(
    ("config", "launch", "architecture", "written", "cause"),
    [
        # The decision tells what the flag can do there.
        (ENGINE, UNSET, QWEN, INERT, FlagCause.RELEASE),
        (ENGINE, ON, QWEN, INERT, FlagCause.RELEASE),
        (DRAFTED, UNSET, QWEN, INERT, FlagCause.RELEASE),
        (DRAFTED, UNSET, QWEN, SETTABLE, FlagCause.DRAFT),
        (ENGINE, OFF, QWEN, SETTABLE, FlagCause.LAUNCH),
        (ENGINE, UNSET, ERNIE_VL, SETTABLE, FlagCause.ARCHITECTURE),
        (ENGINE, ON, ERNIE_VL, SETTABLE, FlagCause.ARCHITECTURE),
        (DRAFTED, UNSET, ERNIE_VL, SETTABLE, FlagCause.ARCHITECTURE),
        (ENGINE, UNSET, QWEN, SETTABLE, FlagCause.UNKNOWN),
        (ENGINE, ON, QWEN, SETTABLE, FlagCause.UNKNOWN),
        # The log has no line with the arguments: those of the decision count.
        (ENGINE, UNSAID, QWEN, replace(SETTABLE, flag=False), FlagCause.LAUNCH),
        (replace(ENGINE, flag=ON), UNSAID, QWEN, replace(SETTABLE, flag=True), FlagCause.LAUNCH),
        (DRAFTED, UNSAID, None, SETTABLE, FlagCause.DRAFT),
        (ENGINE, UNSAID, None, replace(SETTABLE, architecture=ERNIE_VL), FlagCause.ARCHITECTURE),
        # A decision for another release says nothing of this one.
        (replace(DRAFTED, vllm="0.32.0"), UNSET, QWEN, SETTABLE, FlagCause.UNKNOWN),
        (replace(ENGINE, vllm="0.16.0"), UNSET, QWEN, INERT, FlagCause.UNKNOWN),
        # The log alone: what is left when nothing else can be.
        (ENGINE, UNSET, QWEN, None, FlagCause.RELEASE),
        (ENGINE, ON, QWEN, None, FlagCause.RELEASE),
        (DRAFTED, ON, QWEN, None, FlagCause.RELEASE),
        (DRAFTED, UNSET, QWEN, None, FlagCause.UNKNOWN),
        (replace(ENGINE, speculative=NoDraft.UNSAID), UNSET, QWEN, None, FlagCause.UNKNOWN),
        (ENGINE, UNSET, None, None, FlagCause.UNKNOWN),
        (ENGINE, UNSAID, QWEN, None, FlagCause.UNKNOWN),
        (ENGINE, OFF, QWEN, None, FlagCause.LAUNCH),
        (ENGINE, UNSET, ERNIE_VL, None, FlagCause.ARCHITECTURE),
        (replace(ENGINE, vllm="0.16.0"), UNSET, ERNIE_VL, None, FlagCause.UNKNOWN),
        (replace(ENGINE, vllm="0.99.0"), UNSET, QWEN, None, FlagCause.UNKNOWN),
        (replace(ENGINE, vllm="0.1.dev1"), UNSET, QWEN, None, FlagCause.UNKNOWN),
        (replace(ENGINE, vllm=None), UNSET, QWEN, None, FlagCause.UNKNOWN),
        # On.
        (replace(ENGINE, flag=ON), ON, QWEN, None, FlagCause.LAUNCH),
        (replace(ENGINE, flag=ON), UNSET, QWEN, None, FlagCause.DEFAULT),
        (replace(ENGINE, flag=ON), UNSET, QWEN, SETTABLE, FlagCause.DEFAULT),
        (replace(DRAFTED, flag=ON), UNSET, QWEN, None, FlagCause.UNKNOWN),
        (replace(ENGINE, flag=ON), OFF, QWEN, None, FlagCause.UNKNOWN),
        (replace(ENGINE, flag=ON), UNSAID, QWEN, None, FlagCause.UNKNOWN),
    ],
)
def test_the_cause_of_a_value(
    config: EngineConfig, launch: FlagValue, architecture: str | None, written: Written | None, cause: FlagCause
) -> None:
    """It is named where one way alone leads to the value, and unknown otherwise."""
    start = Start(launch_flag=launch, architecture=architecture)

    assert flag_cause(config, start, written) is cause


def test_each_cause_has_a_text_of_its_own() -> None:
    """With the release where the release decides."""
    texts = {cause: cause_text(cause, ENGINE) for cause in FlagCause}

    assert len(set(texts.values())) == len(FlagCause)
    assert texts[FlagCause.RELEASE] == "vLLM 0.19.1 forces it off with torch 2.11 or later"
    assert cause_text(FlagCause.DRAFT, EngineConfig()) == "vLLM turns it off beside speculative decoding"
