"""The probe in real vLLM: real configurations, and models that misbehave.

One probe process serves many tests, because importing vLLM takes 10 to 40 seconds.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_environment import (
    ERNIE,
    LLAMA,
    MIXTRAL,
    MODELS,
    QWEN,
    ROOT,
    SETTABLE,
    Answer,
    model_like,
    serving_in,
    tuner_process,
)

GPT_OSS = MODELS / "openai--gpt-oss-120b"
MINIMAX = MODELS / "MiniMaxAI--MiniMax-M2.5"
QWEN_3_5 = MODELS / "Qwen--Qwen3.5-35B-A3B"
MOBIUS = "InternS2MobiusForConditionalGeneration"
HANG_LIMIT_S = 50
"""Longer than any of these models takes on two busy cores, import excluded."""

pytestmark = pytest.mark.vllm


@dataclass(frozen=True)
class Probed:
    """One `tuner probe` over several models, and its store.

    Attributes:
        python: of the serving environment.
        store: where the verdicts are.
        answer: what the command printed and how it ended.
        documents: one for each model, by the last part of its name.
    """

    python: Path
    store: Path
    answer: Answer
    documents: dict[str, Any]

    def of(self, model: Path) -> Any:
        """The document of a model."""
        return self.documents[model.name]


def probed(environment: str, folder: Path, models: list[Path], *options: object) -> Probed:
    """Probe models in a real environment; skip where it is not installed."""
    python = ROOT / ".envs" / environment / "bin" / "python"
    if not python.exists():
        target = {"current": "setup", "flag-live": "setup-flag-live"}[environment]
        pytest.skip(f"No serving environment .envs/{environment}; `make {target}` creates it.")
    store, own = folder / "verdicts.sqlite", variables(folder)
    answer = tuner_process(
        "probe", "--python", python, "--store", store, "--json", *options, *models, cwd=folder, env=own
    )
    results = answer.document["results"]
    assert [result["model"]["name"] for result in results] == list(map(str, models))
    return Probed(python, store, answer, {Path(result["model"]["name"]).name: result for result in results})


def variables(home: Path) -> dict[str, str]:
    """The faulty models as a plugin, and a home of the probe's own."""
    return {"PYTHONPATH": str(ROOT / "tests" / "faulty_models"), "HOME": str(home)}


def faulty(folder: Path, name: str, **changes: Any) -> Path:
    """A Qwen3-MoE configuration for one of the models in `faulty_models`."""
    return model_like(QWEN, folder / name, architectures=[f"{name}ForCausalLM"], **changes)


def tied(folder: Path) -> Path:
    """InternS2-Mobius with four blocks of experts, shared by its layers; the rest is Qwen3.5's, whose config it reads.

    No config of it is published: how many blocks a model has is made up here.
    """
    text = json.loads((QWEN_3_5 / "config.json").read_text())["text_config"] | {"num_blocks": 4}
    return model_like(QWEN_3_5, folder / "tied", architectures=[MOBIUS], text_config=text)


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Probed:
    """Real configurations and every model of `faulty_models` in vLLM 0.32.0, into a store that holds a verdict already.

    A dense model comes first, since what vLLM sets up once, for the first model, must serve the others; then models
    around a hang and a kill.
    """
    folder = tmp_path_factory.mktemp("current")
    serving_in(folder / "env", SETTABLE).remember(folder / "verdicts.sqlite", MIXTRAL)
    unknown = model_like(MIXTRAL, folder / "unknown", architectures=["NoSuchMoeForCausalLM"])
    code = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}
    remote = model_like(MIXTRAL, folder / "remote", architectures=["XForCausalLM"], model_type="x", auto_map=code)
    (remote / "configuration_x.py").write_text("raise SystemExit('remote code ran')\n")
    misbehaving = [faulty(folder, name) for name in ("Hanging", "Repeating", "Killed", "Raising", "Reversing")]
    models = [
        *(LLAMA, MIXTRAL, QWEN, GPT_OSS, ERNIE, MINIMAX, unknown, remote, tied(folder)),
        *(faulty(folder, "Plain"), *misbehaving, faulty(folder, "Unbuildable")),
        faulty(folder, "Skipping", skip_token_id=77),
    ]
    return probed("current", folder, models, "--time-limit", HANG_LIMIT_S)


@pytest.fixture(scope="module")
def flag_live(tmp_path_factory: pytest.TempPathFactory) -> Probed:
    """Real configurations and unsafe models in vLLM 0.19.1, where the counter can be seen at work."""
    folder = tmp_path_factory.mktemp("flag-live")
    unsafe = [faulty(folder, "Repeating"), faulty(folder, "Reversing"), faulty(folder, "Skipping", skip_token_id=77)]
    return probed("flag-live", folder, [MIXTRAL, QWEN, GPT_OSS, LLAMA, ERNIE, *unsafe])


def is_prefix(order: list[str], registered: list[str]) -> bool:
    """Whether counting would resolve every call of this order rightly."""
    return order == registered[: len(order)]


@pytest.mark.parametrize("model", [MIXTRAL, QWEN, GPT_OSS, MINIMAX], ids=lambda one: one.name)
def test_uniform_models_are_proved_in_current(current: Probed, model: Path) -> None:
    """Every scenario ran, in the registered order, and nothing is written where the flag is inert.

    A plugin of somebody else's is there: it leaves vLLM's own functions as they are, and so vLLM's own models too.
    """
    document = current.of(model)
    assert (document["verdict"], document["witness"]) == ("uniform", None)
    assert document["environment"]["flag_status"] == "inert"
    assert document["launch"]["args"] == [str(model)]
    evidence = document["evidence"]
    assert len(evidence["registered"]) >= 3
    assert {scenario["status"] for scenario in evidence["scenarios"]} <= {"ran", "not_applicable"}


@pytest.mark.parametrize("model", [MIXTRAL, QWEN, GPT_OSS], ids=lambda one: one.name)
def test_uniform_models_are_proved_in_flag_live(flag_live: Probed, model: Path) -> None:
    """The counter was seen at work, resolved every call rightly, and so the launch switches it on."""
    document = flag_live.of(model)
    assert document["verdict"] == "uniform"
    assert document["environment"]["flag_status"] == "settable"
    assert document["launch"]["compilation_config"] == {"fast_moe_cold_start": True}
    counter = document["evidence"]["counter"]
    assert counter["ran"] is True
    assert counter["called"] == counter["resolved"] != []


@pytest.mark.parametrize("environment", ["current", "flag_live"])
def test_a_model_without_moe_layers_is_known_as_such(request: pytest.FixtureRequest, environment: str) -> None:
    """Llama-3.1 registers none, and nothing is written for it."""
    document = request.getfixturevalue(environment).of(LLAMA)
    assert (document["verdict"], document["evidence"]["registered"]) == ("no_moe", [])
    assert document["launch"]["args"] == [str(LLAMA)]


@pytest.mark.parametrize("environment", ["current", "flag_live"])
def test_ernie_is_conditional_with_a_witness(request: pytest.FixtureRequest, environment: str) -> None:
    """A text pass leaves the vision experts out, which no rule said; the witness shows both orders."""
    document = request.getfixturevalue(environment).of(ERNIE)
    assert document["verdict"] == "conditional"
    witness = document["witness"]
    assert not is_prefix(witness["executed"], witness["registered"])
    assert witness["other_executed"] != witness["executed"]
    assert any("vision_experts" in name for name in witness["registered"])
    assert not any("vision_experts" in name for name in witness["executed"])


def test_blocks_shared_between_layers_are_repeated(current: Probed) -> None:
    """A published class of vLLM's calls its first blocks again for each further layer, as reading it shows."""
    document = current.of(Path("tied"))
    assert document["verdict"] == "repeated"
    registered = document["evidence"]["registered"]
    assert len(registered) == 4
    assert document["witness"]["executed"][:5] == [*registered, registered[0]]


def test_ernie_runs_wrong_experts_where_the_counter_lives(flag_live: Probed) -> None:
    """The counter of vLLM 0.19.1 was seen resolving calls to other layers than were meant."""
    document = flag_live.of(ERNIE)
    counter = document["evidence"]["counter"]
    assert counter["ran"] is True
    assert counter["resolved"] != counter["called"]
    assert document["launch"]["compilation_config"] == {"fast_moe_cold_start": False}


def test_what_was_stubbed_is_said(current: Probed) -> None:
    """MiniMax's experts have no kernel on the CPU, and ERNIE's configuration class is remote code."""
    kinds = {
        model: {assumption["kind"] for assumption in current.of(model)["evidence"]["assumptions"]}
        for model in (MINIMAX, ERNIE, MIXTRAL)
    }
    assert "experts_stubbed" in kinds[MINIMAX]
    assert "plain_config" in kinds[ERNIE]
    assert not {"experts_stubbed", "attention_stubbed"} & kinds[MIXTRAL]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("unknown", "unknown_architecture", "This vLLM registers no architecture NoSuchMoeForCausalLM."),
        ("remote", "remote_code", "XForCausalLM exists only as remote code, which was not run."),
    ],
)
def test_what_vllm_cannot_build_is_one_sentence(current: Probed, name: str, kind: str, said: str) -> None:
    """The reason has a name and a way out, the other models keep their verdicts, and the exit code is 1."""
    error = current.documents[name]["error"]
    assert (error["kind"], error["message"]) == (kind, said)
    assert error["hint"]
    assert f"{name}: {said}" in current.answer.err
    assert current.answer.code == 1


def test_every_verdict_reached_is_a_success(flag_live: Probed) -> None:
    """Safe or not: the probe did its work, and ends with 0."""
    assert flag_live.answer.code == 0, flag_live.answer.err


@pytest.mark.parametrize("environment", ["current", "flag_live"])
@pytest.mark.parametrize("model", [MIXTRAL, ERNIE, LLAMA], ids=lambda one: one.name)
def test_what_was_probed_is_found_again(request: pytest.FixtureRequest, environment: str, model: Path) -> None:
    """The look-up hashes the real source files, finds the verdict, and starts nothing."""
    run: Probed = request.getfixturevalue(environment)
    where = ("--python", run.python, "--store", run.store, "--json")
    document = tuner_process("verdict", *where, model, env=variables(run.store.parent), code=0).document
    assert document["evidence"]["sources_verified"] is True
    assert document == run.of(model)


@pytest.mark.parametrize(
    ("name", "word"), [("Repeating", "repeated"), ("Reversing", "reordered"), ("Skipping", "conditional")]
)
@pytest.mark.parametrize("environment", ["current", "flag_live"])
def test_each_way_to_leave_the_order_has_its_word(
    request: pytest.FixtureRequest, environment: str, name: str, word: str
) -> None:
    """In both releases, with the pass that proves it; the skipped layer is found by the token the config names."""
    document = request.getfixturevalue(environment).documents[name]
    assert document["verdict"] == word
    witness = document["witness"]
    assert not is_prefix(witness["executed"], witness["registered"])
    if word == "repeated":
        assert len(set(witness["executed"])) < len(witness["executed"])
    if word == "reordered":
        assert witness["executed"] == witness["registered"][::-1]
    if word == "conditional":
        assert witness["executed"] == witness["registered"][1:]
        assert witness["scenario"].startswith("token_77_")


@pytest.mark.parametrize("name", ["Repeating", "Reversing", "Skipping"])
def test_the_counter_goes_wrong_on_unsafe_models(flag_live: Probed, name: str) -> None:
    """What the verdict predicts is what vLLM 0.19.1 does: another layer ran, or the counter ran past its list."""
    counter = flag_live.documents[name]["evidence"]["counter"]
    assert counter["ran"] is True
    assert counter["error"] or counter["resolved"] != counter["called"]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("Hanging", "timeout", f"The probe was stopped after {HANG_LIMIT_S} s without a result."),
        ("Killed", "crash", "The probe worker died (killed by SIGKILL)."),
        ("Unbuildable", "model", "ValueError: this model cannot be built"),
    ],
)
def test_a_model_that_misbehaves_is_blamed_alone(current: Probed, name: str, kind: str, said: str) -> None:
    """Hang, kill and exception each cost one model; of the plain one in front every scenario has its answer."""
    error = current.documents[name]["error"]
    assert error["kind"] == kind
    assert said in error["message"]
    plain = current.documents["Plain"]
    assert plain["witness"] is None
    assert {scenario["status"] for scenario in plain["evidence"]["scenarios"]} <= {"ran", "not_applicable"}
    assert current.answer.code == 1


def test_a_model_whose_passes_raise_is_never_safe(current: Probed) -> None:
    """It was built, so there is a verdict; nothing was seen of it, and scenarios quote the exception and its place."""
    document = current.documents["Raising"]
    assert document["verdict"] in {"inconclusive", "not_compiled"}
    said = {scenario["detail"] for scenario in document["evidence"]["scenarios"] if scenario["status"] == "failed"}
    assert len(said) == 1
    assert re.fullmatch(r"RuntimeError: no pass of this model succeeds at \w+\.py:[0-9]+", said.pop())


def test_misbehaviour_loses_nothing_that_is_stored(current: Probed) -> None:
    """What was there before, and every verdict reached before, between and after hang and kill."""
    listed = tuner_process("verdicts", "list", "--store", current.store, "--json", code=0).document["verdicts"]
    rows = [(row["factors"]["architecture"], row["factors"]["vllm"]) for row in listed]
    assert ("MixtralForCausalLM", "0.19.1") in rows
    probed_here = sorted(name for name, vllm in rows if vllm == "0.32.0")
    reached = [one["model"]["architecture"] for one in current.documents.values() if "verdict" in one]
    assert probed_here == sorted(reached)
    assert len(reached) == 12
