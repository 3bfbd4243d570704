"""Two launches compared by what vLLM hashes: each difference is named, with what it does and what to do about it."""

from typing import Any

import pytest
from factors_samples import BOTH, NEW, OLD, changed, factors
from hashed_samples import compiled

from tuner.compile_cache.difference import Difference, Effect, differences


def of(environment: str, value: Any, *path: str) -> list[Difference]:
    """What is said of an environment's launch when one value becomes another after the warm-up."""
    return differences(factors(environment), changed(factors(environment), value, *path))


def only(environment: str, value: Any, *path: str) -> Difference:
    """As `of`, for a change that is one difference."""
    (found,) = of(environment, value, *path)
    return found


@pytest.mark.parametrize("environment", BOTH)
def test_a_launch_does_not_differ_from_itself(environment: str) -> None:
    """The same document twice has no difference."""
    assert differences(factors(environment), factors(environment)) == []


@pytest.mark.parametrize("environment", BOTH)
def test_a_hashed_variable_moves_the_key(environment: str) -> None:
    """It is named with both values and the one to go back to."""
    difference = only(environment, "SD2", "variables", "values", "VLLM_PP_LAYER_PARTITION")
    assert (difference.kind, difference.name, difference.effect) == ("variable", "VLLM_PP_LAYER_PARTITION", Effect.KEY)
    assert (difference.before, difference.after) == (None, "SD2")
    assert difference.fix == "Leave VLLM_PP_LAYER_PARTITION unset, as while warming, or warm with it."


def test_the_home_moves_the_key_up_to_0_26() -> None:
    """0.19.1 hashes two folders that lie below HOME: both are told as the home's doing, and HOME itself as harmless."""
    moved = changed(factors(OLD), "/home/me", "paths", "HOME")
    moved = changed(moved, "/home/me/.config/vllm", "variables", "values", "VLLM_CONFIG_ROOT")
    first, second = differences(factors(OLD), moved)
    assert (first.kind, first.name, first.effect) == ("home", "VLLM_CONFIG_ROOT", Effect.KEY)
    assert "Keep HOME" in first.fix
    assert "VLLM_CONFIG_ROOT=/home/user/.config/vllm" in first.fix
    assert (second.kind, second.name, second.effect) == ("home", "HOME", Effect.NONE)


def test_a_folder_set_by_hand_is_a_variable() -> None:
    """Where HOME is the same, the variable itself was set."""
    difference = only(OLD, "/etc/vllm", "variables", "values", "VLLM_CONFIG_ROOT")
    assert (difference.kind, difference.effect) == ("variable", Effect.KEY)


def test_the_home_does_not_count_in_0_32() -> None:
    """Neither folder is hashed there."""
    assert not {"VLLM_CONFIG_ROOT", "VLLM_XLA_CACHE_PATH"} & set(factors(NEW)["variables"]["values"])
    difference = only(NEW, "/home/me", "paths", "HOME")
    assert (difference.kind, difference.effect, difference.fix) == ("home", Effect.NONE, "")


def test_the_api_key_counts_up_to_0_28() -> None:
    """The document of 0.19.1 has it and that of 0.32.0 does not; the value itself is in neither."""
    difference = only(OLD, "sha256:ba7816bf8f01", "variables", "values", "VLLM_API_KEY")
    assert difference.effect is Effect.KEY
    assert "--api-key" in difference.fix
    assert "VLLM_API_KEY" not in factors(NEW)["variables"]["values"]


@pytest.mark.parametrize("environment", BOTH)
def test_an_option_is_named_with_its_option(environment: str) -> None:
    """A field of the model's config is what `vllm serve` calls by the same name."""
    difference = only(environment, 128, "config", "parts", "model_config", "factors", "max_model_len")
    assert (difference.kind, difference.name, difference.effect) == ("config", "model_config.max_model_len", Effect.KEY)
    assert difference.fix == "Give --max-model-len as while warming, when it came to 256; or warm again."


@pytest.mark.parametrize(("environment", "position"), [(OLD, "0"), (NEW, "0"), (NEW, "1")])
def test_factors_without_a_name_get_theirs(environment: str, position: str) -> None:
    """The scheduler's factors by position alone; 0.32.0 has one more."""
    names = {"0": "scheduler_config.max_num_batched_tokens", "1": "scheduler_config.max_num_seqs"}
    difference = only(environment, 512, "config", "parts", "scheduler_config", "factors", position)
    assert difference.name == names[position]
    assert "--max-num-" in difference.fix


@pytest.mark.parametrize("environment", BOTH)
def test_another_path_is_another_model(environment: str) -> None:
    """The string that names the model is hashed."""
    difference = only(environment, "/mnt/tiny", "config", "parts", "model_config", "factors", "model")
    assert (difference.kind, difference.effect) == ("path", Effect.KEY)
    assert difference.fix == "Serve the model as /models/tiny: the path or hub id itself is hashed."


@pytest.mark.parametrize("environment", BOTH)
def test_a_field_of_the_models_config_is_told_once(environment: str) -> None:
    """The config of a text model is hashed twice."""
    path = ("config", "parts", "model_config", "factors")
    other = changed(factors(environment), 5, *path, "hf_config", "num_hidden_layers")
    other = changed(other, 5, *path, "hf_text_config", "num_hidden_layers")
    (found,) = differences(factors(environment), other)
    assert found.name == "model_config.hf_config.num_hidden_layers"
    assert "config.json" in found.fix


def test_another_transformers_is_named() -> None:
    """Its version stands in the config that it reads, and is hashed with it."""
    path = ("config", "parts", "model_config", "factors", "hf_config", "transformers_version")
    assert only(OLD, "4.57.0", *path).fix.startswith("Serve with transformers 5.5.4")


@pytest.mark.parametrize("environment", BOTH)
def test_a_nested_config_is_told_field_by_field(environment: str) -> None:
    """The hash of the inner config, which the outer one holds, is not told beside its field."""
    parts = ("config", "parts")
    other = changed(factors(environment), "0" * 64, *parts, "compilation_config", "factors", "pass_config")
    other = changed(other, True, *parts, "compilation_config.pass_config", "factors", "fuse_norm_quant")
    (found,) = differences(factors(environment), other)
    assert found.name == "compilation_config.pass_config.fuse_norm_quant"
    assert found.fix == "Set pass_config.fuse_norm_quant to false in --compilation-config, or warm again."


def test_nobody_is_told_to_undo_a_verdict() -> None:
    """A cache that was filled without the tuner has the flag as vLLM sets it, which may be unsafe."""
    difference = only(OLD, False, "config", "parts", "compilation_config", "factors", "fast_moe_cold_start")
    assert (difference.before, difference.after, difference.effect) == (True, False, Effect.KEY)
    assert "The verdict decides" in difference.fix


@pytest.mark.parametrize("environment", BOTH)
def test_what_vllm_fills_itself_follows(environment: str) -> None:
    """Nobody sets the list of MoE layers; the fix does not ask for it."""
    difference = only(environment, [], "config", "parts", "compilation_config", "factors", "static_all_moe_layers")
    assert difference.effect is Effect.KEY
    assert "follows from" in difference.fix


@pytest.mark.parametrize("environment", BOTH)
def test_a_part_without_names_is_told_by_its_hash(environment: str) -> None:
    """Where the fields say nothing, the hash of the config still does."""
    difference = only(environment, "f" * 64, "config", "parts", "load_config", "hash")
    assert (difference.name, difference.after, difference.effect) == ("load_config", "f" * 64, Effect.KEY)


@pytest.mark.parametrize(("environment", "effect"), [(OLD, Effect.LOAD), (NEW, Effect.KEY)])
def test_torch_is_in_the_key_of_mega_artifacts_alone(environment: str, effect: Effect) -> None:
    """Without them the folder is the same, and torch refuses what another torch made."""
    difference = only(environment, "2.14.0", "system", "torch")
    assert (difference.kind, difference.effect) == ("compiler", effect)
    assert difference.fix.startswith("Serve with torch 2.1")


@pytest.mark.parametrize("environment", BOTH)
def test_another_python_is_refused(environment: str) -> None:
    """An artifact is loaded by the very same Python only."""
    assert only(environment, "3.12.3", "system", "python").effect is Effect.LOAD


@pytest.mark.parametrize("environment", BOTH)
def test_triton_does_not_count_on_a_cpu(environment: str) -> None:
    """Neither vLLM's key nor torch's check asks for it there."""
    difference = only(environment, "3.9.0", "system", "triton")
    assert (difference.effect, difference.fix) == (Effect.NONE, "")


def test_of_another_release_the_lists_are_not_compared() -> None:
    """0.32.0 against 0.19.1: the release, torch and Python's packages differ, and no field is blamed."""
    found = differences(factors(OLD), factors(NEW))
    assert {one.kind for one in found} == {"compiler"}
    assert found[0].name == "vllm"
    assert found[0].effect is Effect.KEY


@pytest.mark.parametrize("environment", BOTH)
@pytest.mark.parametrize(
    ("file", "effect"),
    [
        ("vllm/model_executor/models/qwen3_moe.py", Effect.LOAD),
        ("vllm/model_executor/models/llama.py", Effect.MAYBE),
    ],
)
def test_a_changed_source_counts_if_it_was_traced(environment: str, file: str, effect: Effect) -> None:
    """The compiled function's own file was; of others only vLLM knows."""
    difference = only(environment, "0" * 64, "sources", file)
    assert (difference.kind, difference.name, difference.effect) == ("source", file, effect)
    assert "changed since the warm-up" in difference.fix


@pytest.mark.parametrize("environment", BOTH)
def test_a_function_that_moved_in_its_file_moves_the_key(environment: str) -> None:
    """The line at which it begins is hashed."""
    other = changed(factors(environment), "0" * 64, "sources", "vllm/model_executor/models/qwen3_moe.py")
    other["keys"]["aot"][0]["line"] += 1
    (found,) = differences(factors(environment), other)
    assert (found.kind, found.effect) == ("source", Effect.KEY)


@pytest.mark.parametrize("environment", BOTH)
def test_sources_that_came_or_went_are_told(environment: str) -> None:
    """Each with what happened to it."""
    more = changed(factors(environment), "0" * 64, "sources", "model/own.py")
    assert "is new" in differences(factors(environment), more)[0].fix
    assert "is gone" in differences(more, factors(environment))[0].fix


@pytest.mark.parametrize(("environment", "effect"), [(OLD, Effect.LOAD), (NEW, Effect.NONE)])
def test_where_vllm_lies_counts_without_mega_artifacts(environment: str, effect: Effect) -> None:
    """The folder of compiled code is named by paths of source files; a mega artifact brings the code along."""
    difference = only(environment, "/venv/lib/python3.11/site-packages/vllm", "paths", "vllm")
    assert (difference.kind, difference.effect) == ("path", effect)


@pytest.mark.parametrize("environment", BOTH)
@pytest.mark.parametrize(
    ("path", "effect"),
    [
        (("system", "torch"), Effect.KEY),
        (("system", "python"), Effect.MAYBE),
        (("paths", "vllm"), Effect.KEY),
        (("sources", "vllm/model_executor/models/qwen3_moe.py"), Effect.KEY),
        (("sources", "vllm/model_executor/models/llama.py"), Effect.MAYBE),
    ],
)
def test_without_artifacts_all_is_in_the_name_of_the_folder(
    environment: str, path: tuple[str, str], effect: Effect
) -> None:
    """The compiler's hash, and paths and contents of what was traced; nobody asks for the Python."""
    launch = compiled(environment, aot=False)
    (found,) = differences(launch, changed(launch, "other", *path))
    assert found.effect is effect
    assert found.fix


def test_settings_of_inductor_are_named() -> None:
    """They are in the key with mega artifacts."""
    difference = only(NEW, False, "keys", "parts", "inductor_config", "cpp.dynamic_threads")
    assert (difference.kind, difference.name, difference.effect) == (
        "compiler",
        "inductor_config.cpp.dynamic_threads",
        Effect.KEY,
    )
    assert "TORCHINDUCTOR_" in difference.fix


@pytest.mark.parametrize("environment", BOTH)
def test_what_moves_the_key_comes_first(environment: str) -> None:
    """Then what compiles again, then what may, then what does not count."""
    other = changed(factors(environment), "/home/me", "paths", "HOME")
    other = changed(other, "0" * 64, "sources", "vllm/model_executor/models/llama.py")
    other = changed(other, "0" * 64, "sources", "vllm/model_executor/models/qwen3_moe.py")
    other = changed(other, 128, "config", "parts", "model_config", "factors", "max_model_len")
    found = [one.effect for one in differences(factors(environment), other)]
    assert found == [Effect.KEY, Effect.LOAD, Effect.MAYBE, Effect.NONE]


@pytest.mark.parametrize("environment", BOTH)
def test_eager_execution_is_not_hashed(environment: str) -> None:
    """`enforce_eager` is in no document: it decides whether anything compiles, and not under which name."""
    assert "enforce_eager" not in factors(environment)["config"]["parts"]["model_config"]["factors"]
