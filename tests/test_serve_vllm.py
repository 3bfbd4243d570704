"""Real `vllm serve` of 0.19.1 on the CPU: the corruption, its cure through `tuner serve`, and the effective flag."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_environment import checkpoint_of, python_of
from vllm_server import SERVER_ENVIRONMENT, effective_flag, running_server

from tuner.errors import ExitCode

ROOT = Path(__file__).parent.parent
TUNER = Path(sys.executable).parent / "tuner"
PLUGIN = {"PYTHONPATH": str(ROOT / "examples" / "two_expert_sets")}
SERVE_ARGUMENTS = ("--enforce-eager", "--max-model-len", "256")
COMPILED = ("--max-model-len", "256")
"""Of an engine that compiles: where none does, the flag saves nothing and stays off."""
PROMPTS = (
    "the river carries",
    "a teacher remembers stories of",
    "never cross over thunder and",
    "engine",
)
PROBE_LIMIT_S = 300
SERVED = ("two-expert-sets", "qwen3-moe")
"""Through the tuner: kinds of checkpoints."""


@dataclass(frozen=True)
class Served:
    """What one server run showed."""

    completions: tuple[str, ...]
    flag: bool | None
    arguments: tuple[str, ...]
    log: Path


MakeCheckpoint = Callable[[str], Path]


def serve(command: tuple[str, ...], folder: Path) -> Served:
    """Start `command`, ask every prompt in order, stop."""
    with running_server(command, folder, PLUGIN) as server:
        return Served(
            completions=tuple(server.complete(prompt) for prompt in PROMPTS),
            flag=effective_flag(server.log_text()),
            arguments=server.arguments(),
            log=server.log,
        )


def serve_plainly(model: Path, folder: Path, *setting: str) -> Served:
    """`vllm serve` itself, with arguments for the flag, or with none."""
    vllm = str(python_of("flag-live").with_name("vllm"))
    return serve((vllm, "serve", str(model), *SERVE_ARGUMENTS, *setting), folder)


def confirmed(model: Path, store: Path, served: Served, folder: Path) -> tuple[int, str]:
    """Exit code and output of `tuner confirm` for a server's log and the decision for its launch."""
    ours = ("--python", str(python_of("flag-live")), "--store", str(store))
    planned = (str(TUNER), "plan", "--json", *ours, str(model), "--", *SERVE_ARGUMENTS)
    decision = folder / "plan.json"
    decision.write_bytes(subprocess.check_output(planned, env={**os.environ, **PLUGIN}))
    process = subprocess.run(
        (str(TUNER), "confirm", str(served.log), "--decision", str(decision)),
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout


def first_words(text: str) -> list[str]:
    """Of an answer; behind them a server in bfloat16 may part from float32 by rounding."""
    return text.split()[:10]


def serve_through_tuner(model: Path, store: Path, folder: Path, arguments: tuple[str, ...] = SERVE_ARGUMENTS) -> Served:
    """`tuner serve` with the verdict that is stored, and not without one."""
    ours = ("--python", str(python_of("flag-live")), "--store", str(store), "--on-missing", "fail")
    return serve((str(TUNER), "serve", *ours, str(model), *arguments), folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Writes a thin checkpoint of a kind, once each."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(kind: str) -> Path:
        return folder / kind if (folder / kind).exists() else checkpoint_of("flag-live", folder, kind)

    return make


@pytest.fixture(scope="module")
def probed(checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes what is served, in one call; the store."""
    store = tmp_path_factory.mktemp("stores") / "verdicts.sqlite"
    models = [checkpoint(kind) for kind in SERVED]
    subprocess.run(
        [TUNER, "probe", "--python", python_of("flag-live"), "--store", store, *models],
        env={**os.environ, **SERVER_ENVIRONMENT, **PLUGIN},
        check=True,
        timeout=PROBE_LIMIT_S,
    )
    return store


@pytest.fixture(scope="module")
def flag_off(checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The two-expert-sets model as it should answer: vLLM 0.19.1, flag off."""
    model = checkpoint("two-expert-sets")
    off = ("--compilation-config", '{"fast_moe_cold_start": false}')
    return serve_plainly(model, tmp_path_factory.mktemp("off") / "server", *off)


@pytest.mark.vllm
def test_the_flag_corrupts_a_model_with_two_expert_sets(
    checkpoint: MakeCheckpoint, probed: Path, flag_off: Served, tmp_path: Path
) -> None:
    """By default 0.19.1 has the flag on, answers every prompt wrongly, and logs no error; `tuner confirm` says so."""
    model = checkpoint("two-expert-sets")
    as_it_comes = serve_plainly(model, tmp_path / "server")

    assert (flag_off.flag, as_it_comes.flag) == (False, True)
    answers = zip(PROMPTS, flag_off.completions, as_it_comes.completions, strict=True)
    agreeing = [prompt for prompt, right, wrong in answers if right == wrong]
    assert agreeing == []
    assert " ERROR " not in as_it_comes.log.read_text(errors="replace")

    code, text = confirmed(model, probed, as_it_comes, tmp_path)
    assert code == ExitCode.CONTRADICTION
    assert "the verdict is reordered: this server runs wrong experts" in text


@pytest.mark.vllm
def test_with_the_flag_off_a_server_answers_as_the_models_own_code(
    checkpoint: MakeCheckpoint, flag_off: Served
) -> None:
    """The reference is transformers with the same weights, without vLLM: with the flag on answers are wrong."""
    own = ROOT / "examples" / "own_answers.py"
    ran = subprocess.check_output([python_of("flag-live"), own, checkpoint("two-expert-sets"), *PROMPTS], text=True)

    assert [first_words(text) for text in json.loads(ran)] == [first_words(text) for text in flag_off.completions]


@pytest.mark.vllm
def test_tuner_serve_cures_the_model_with_two_expert_sets(
    checkpoint: MakeCheckpoint, probed: Path, flag_off: Served, tmp_path: Path
) -> None:
    """Served through the tuner, the model answers exactly as with the flag off."""
    model = checkpoint("two-expert-sets")
    tuned = serve_through_tuner(model, probed, tmp_path / "tuned")

    assert tuned.flag is False
    assert tuned.completions == flag_off.completions
    assert confirmed(model, probed, tuned, tmp_path)[0] == ExitCode.FINE


@pytest.mark.vllm
def test_a_uniform_model_runs_with_the_flag_on(checkpoint: MakeCheckpoint, probed: Path, tmp_path: Path) -> None:
    """Where vLLM honours the flag; `test_serve_as_vllm.py` serves where it does not."""
    model = checkpoint("qwen3-moe")
    tuned = serve_through_tuner(model, probed, tmp_path / "tuned", COMPILED)

    assert tuned.flag is True
    assert "fast_moe_cold_start" in " ".join(tuned.arguments)


@pytest.mark.parametrize("release", ["0.19.1", "0.32.0"])
@pytest.mark.parametrize("value", [True, False])
def test_the_effective_flag_is_read_from_the_engine_line(release: str, value: bool) -> None:
    """The engine's own value counts, not the one that the operator asked for."""
    log = (
        "(APIServer pid=7) INFO 11-22 21:28:45 [utils.py:233] non-default args: {'model': '/models/tiny', "
        f"'compilation_config': {{'fast_moe_cold_start': {not value}, 'mode': None}}}}\n"
        f"(EngineCore pid=9) INFO 11-22 21:29:19 [core.py:105] Initializing a V1 LLM engine (v{release}) with config: "
        "model='/models/tiny', compilation_config={'mode': <CompilationMode.NONE: 0>, 'dynamic_shapes_config': "
        f"{{'evaluate_guards': False}}, 'local_cache_dir': None, 'fast_moe_cold_start': {value}, "
        "'static_all_moe_layers': []}\n"
    )

    assert effective_flag(log) is value
    assert effective_flag(log.splitlines()[0]) is None
