"""The factors of real launches in both environments, and the folders that real servers make.

Each document costs a start of Python with vLLM, 11 to 40 s; a real server compiles for a minute.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from factors_samples import BOTH, NEW, OLD
from fake_environment import MIXTRAL
from real_environment import checkpoint_of, python_of
from vllm_server import SERVER_ENVIRONMENT, running_server

from cache.compiled.factors import env_hash
from rules.errors import TunerError
from tuner.compile_cache.difference import Difference, Effect, differences
from tuner.compile_cache.factors import launch_factors
from tuner.compile_cache.factors_document import is_factors, is_whole

pytestmark = pytest.mark.vllm

LIMITS = ("--max-model-len", "256", "--max-num-batched-tokens", "256", "--max-num-seqs", "4")
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=BOTH)
def environment(request: pytest.FixtureRequest) -> str:
    """Each of the two environments."""
    python_of(str(request.param))
    return str(request.param)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all launches of this module."""
    return tmp_path_factory.mktemp("serving-home")


def variables(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a launch inherits; nothing of vLLM's but what the tests' servers need."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "XDG_"))}
    return {**outer, **SERVER_ENVIRONMENT, "HOME": str(home), **(extra or {})}


@pytest.fixture(scope="module")
def ask(environment: str, home: Path) -> Ask:
    """The document of a launch of a published model, of which no weights are needed."""

    def asked(*args: object, model: Path = MIXTRAL, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
        words = [str(model), *LIMITS, *map(str, args)]
        return launch_factors(str(python_of(environment)), words, variables(home, extra))

    return asked


@pytest.fixture(scope="module")
def plain(ask: Ask) -> dict[str, Any]:
    """The document of the launch from which the others differ by one thing."""
    return ask()


def keyed(found: list[Difference]) -> dict[str, tuple[Any, Any]]:
    """What moves the key, with both values."""
    return {one.name: (one.before, one.after) for one in found if one.effect is Effect.KEY}


def keys(document: dict[str, Any]) -> list[str]:
    """The folders' names."""
    return [entry["key"] for entry in document["keys"]["aot"]]


def test_a_document_is_complete(plain: dict[str, Any], environment: str) -> None:
    """Everything that the comparison reads is there, and the lists of the release are not empty."""
    assert is_factors(plain)
    assert is_whole(plain)
    assert plain["system"]["vllm"] == {OLD: "0.19.1", NEW: "0.32.0"}[environment]
    assert plain["compiles"]["mega"] is (environment == NEW)
    (entry,) = plain["keys"]["aot"]
    assert (entry["function"], entry["module"]) == ("MixtralModel.forward", "model")
    assert re.fullmatch("[0-9a-f]{64}", entry["key"])
    assert entry["file"] in plain["sources"]
    graphs = plain["keys"]["graphs"]
    assert re.fullmatch("[0-9a-f]{10}", graphs["compiler_hash"])
    assert graphs["modules"] == [{name: value for name, value in entry.items() if name != "key"}]
    assert (graphs["disabled"], graphs["cache_dir"], graphs["unknown"]) == (False, "", "")
    assert env_hash(plain["variables"]["values"]) == plain["variables"]["hash"]
    assert len(plain["sources"]) > 300
    assert len(plain["variables"]["values"]) > 100
    parts = plain["config"]["parts"]
    assert {"model_config", "cache_config", "parallel_config", "scheduler_config", "compilation_config"} <= set(parts)
    assert len(parts["compilation_config"]["factors"]["static_all_moe_layers"]) == 32
    assert parts["compilation_config.pass_config"]["factors"]
    assert parts["model_config"]["factors"]["hf_config"]["num_hidden_layers"] == 32


def test_what_is_not_hashed_moves_nothing(plain: dict[str, Any], ask: Ask) -> None:
    """Names, seeds, ports and places of caches; nor does time, process or control folder."""
    extra = {"VLLM_PORT": "7000", "VLLM_LOGGING_LEVEL": "ERROR", "CUDA_VISIBLE_DEVICES": "0"}
    other = ask("--seed", 5, "--served-model-name", "other", "--port", 1, extra=extra)
    assert differences(plain, other) == []
    assert other["keys"] == plain["keys"]


def test_each_difference_is_named(plain: dict[str, Any], ask: Ask, tmp_path: Path) -> None:
    """An option, a variable as vLLM reads it, and a copy of the model's folder, each with both values."""
    copied = shutil.copytree(MIXTRAL, tmp_path / "copy")
    other = ask("--max-model-len", 128, model=copied, extra={"VLLM_MOE_USE_DEEP_GEMM": "0"})
    changed = differences(plain, other)
    moved = keyed(changed)
    assert moved["model_config.max_model_len"] == (256, 128)
    assert moved["VLLM_MOE_USE_DEEP_GEMM"] == (True, False)
    assert moved["model_config.model"] == (str(MIXTRAL), str(copied))
    assert {one.kind for one in changed if one.name == "model_config.model"} == {"path"}
    assert keys(other) != keys(plain)


def test_the_home_and_the_api_key_count_in_the_older_release(
    plain: dict[str, Any], ask: Ask, environment: str, tmp_path: Path
) -> None:
    """Both are named there; the key itself is in no document."""
    other = ask(extra={"HOME": str(tmp_path), "VLLM_API_KEY": "open-sesame"})
    moved = {"VLLM_API_KEY", "VLLM_CONFIG_ROOT", "VLLM_XLA_CACHE_PATH"}
    assert set(keyed(differences(plain, other))) == (moved if environment == OLD else set())
    assert (keys(other) != keys(plain)) is (environment == OLD)
    assert "open-sesame" not in str(other)


@pytest.mark.parametrize("environment", [OLD], indirect=True, scope="module")
def test_eager_execution_has_no_key(ask: Ask) -> None:
    """Nothing is compiled, so nothing is looked for; a cache that is switched off is told, too."""
    other = ask("--enforce-eager", extra={"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"})
    graphs = other["keys"].pop("graphs")
    assert other["keys"] == {"aot": [], "parts": {}, "unknown": "Nothing in this launch is compiled."}
    assert (graphs["modules"], graphs["unknown"], graphs["disabled"]) == ([], other["keys"]["unknown"], True)


@pytest.mark.parametrize("environment", [OLD], indirect=True, scope="module")
def test_a_launch_that_is_not_followed_has_no_key(ask: Ask) -> None:
    """The factors are told all the same, and the reason with them."""
    other = ask("--enable-lora")
    assert other["keys"]["aot"] == []
    assert other["keys"]["unknown"].startswith("LoRA wraps layers")
    assert other["keys"]["graphs"]["unknown"] == other["keys"]["unknown"]
    assert other["config"]["hash"]


@pytest.mark.parametrize("environment", [NEW], indirect=True, scope="module")
def test_what_vllm_refuses_is_told(ask: Ask, tmp_path: Path) -> None:
    """In its own words."""
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"], "model_type": "llama"}')
    with pytest.raises(TunerError, match="vLLM refuses this launch"):
        ask(model=tmp_path)


@pytest.mark.parametrize("environment", [OLD], indirect=True, scope="module")
def test_the_key_is_the_folder_that_a_real_server_makes(environment: str, home: Path, tmp_path: Path) -> None:
    """A tiny model is compiled and served; the artifact lies where the document says.

    The newer release makes one in `test_cache_warm_vllm.py`.
    """
    python = python_of(environment)
    model = checkpoint_of(environment, tmp_path)
    args = [str(model), *LIMITS]
    inherited = {**os.environ, **SERVER_ENVIRONMENT, "HOME": str(home)}  # as `running_server` starts it
    said = keys(launch_factors(str(python), args, inherited))
    command = [str(python.with_name("vllm")), "serve", *args]
    with running_server(command, tmp_path / "server", {"HOME": str(home)}):
        made = tmp_path / "server" / "cache" / "torch_compile_cache" / "torch_aot_compile"
        assert [file.parts[-3] for file in made.glob("*/rank_0_0/model")] == said
