"""What of a launch, beyond the model itself, keeps a flag from being switched on."""

import json
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, SETTABLE, Answer, Serving, serving_in, tuner
from msgspec.structs import replace

from tuner.arguments.serve_arguments import parse
from tuner.launch.plan import other_model
from tuner.model.model import identify
from tuner.verdicts.identity import Subject

FLAG = "fast_moe_cold_start"


@pytest.fixture
def where(serving: Serving, store: Path) -> tuple[object, ...]:
    """An environment where the launch decides the flag, and a store that knows Mixtral as uniform."""
    return "--python", serving.python, "--store", serving.store_of(store, MIXTRAL)


def planned(where: tuple[object, ...], *args: str, env: dict[str, str] | None = None) -> Answer:
    """The plan of a launch."""
    return tuner("plan", MIXTRAL, *where, "--json", "--", *args, env=env, code=0)


@pytest.mark.parametrize("args", [[], ["--port", "9000"], ["--disable-log-stats"]])
def test_settings_that_never_reach_the_model_leave_the_flag_on(where: tuple[object, ...], args: list[str]) -> None:
    """The launch is the plain one, whose proof is stored."""
    assert planned(where, *args).document["launch"]["compilation_config"] == {FLAG: True}


@pytest.mark.parametrize(
    "args",
    [
        ["-tp", "8"],
        ["-dcp", "2"],
        ["-q", "fp8"],
        ["--tokenizer-mode", "slow"],
        ["-pcp", "2"],
        ["--config-format", "mistral"],
        ["--enable-dbo"],
        ["--hf-overrides.a=1"],
        ["--hf-overrides", '{"a": NaN}'],
    ],
)
def test_a_launch_without_a_proof_of_its_own_switches_it_off(where: tuple[object, ...], args: list[str]) -> None:
    """The reason names the command that would try to prove it."""
    document = planned(where, *args).document
    assert document["launch"]["compilation_config"] == {FLAG: False}
    assert any(" -- " in str(reason["fields"].get("command")) for reason in document["reasons"])


def test_a_number_that_json_lacks_is_text_in_the_document(where: tuple[object, ...], tmp_path: Path) -> None:
    """The list has it as a number; the document stays JSON, and decides for the same list."""
    own = ("-cc", '{"inductor_compile_config": {"a": [NaN, -Infinity, 1.5]}}', "-sc", '{"model": "d", "a": NaN}')
    answer = planned(where, *own)
    launch = answer.document["launch"]
    assert launch["compilation_config"] == {"inductor_compile_config": {"a": ["NaN", "-Infinity", 1.5]}, FLAG: False}
    assert '{"inductor_compile_config": {"a": [NaN, -Infinity, 1.5]}, "fast_moe_cold_start": false}' in launch["args"]
    json.dumps(answer.document, allow_nan=False)
    (tmp_path / "decision.json").write_text(answer.out)
    again = tuner("serve", *where[:2], "--decision", tmp_path / "decision.json", "--dry-run", MIXTRAL, *own, code=0)
    assert '"fast_moe_cold_start": false' in again.out


@pytest.mark.parametrize("name", ["VLLM_MODEL_REDIRECT_PATH", "VLLM_USE_MODELSCOPE", "VLLM_PLUGINS"])
@pytest.mark.parametrize("value", ["", "true", "0"])
def test_variables_that_may_bring_another_model(where: tuple[object, ...], name: str, value: str) -> None:
    """A redirected name counts, and any choice of plugins; another hub does only where the model is not a folder."""
    document = planned(where, env={name: value}).document
    another = name == "VLLM_PLUGINS" or (name == "VLLM_MODEL_REDIRECT_PATH" and bool(value))
    assert document["launch"]["compilation_config"] == {FLAG: not another}
    assert any(name in reason["text"] for reason in document["reasons"]) is another


def test_another_hub_counts_for_a_model_that_is_no_folder(tmp_path: Path) -> None:
    """The configuration that was read is then perhaps not that of the model which is served."""
    environment = serving_in(tmp_path / "env", SETTABLE).read()
    folder = Subject(identify(str(MIXTRAL)), environment)
    on_hub = replace(folder, model=replace(folder.model, name="mistralai/Mixtral-8x7B-v0.1"))
    variables = {"VLLM_USE_MODELSCOPE": "True"}
    assert (other_model(folder, variables), other_model(on_hub, variables)) == ((), ("VLLM_USE_MODELSCOPE",))


def test_the_facts_are_read() -> None:
    """Each in its own attribute, in any of its spellings."""
    words = ["m", "--tokenizer_mode=slow", "--config-format", "hf", "-pcp=2", "-pc", "3", "--tokenizer", "t"]
    serving = parse(words).serving
    assert (serving.tokenizer_mode, serving.config_format, serving.prefill_context_parallel_size) == ("slow", "hf", 3)
