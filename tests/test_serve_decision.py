"""`tuner serve --decision FILE`: an exported decision decides, on every rank alike and without a store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_environment import (
    ABSENT,
    ERNIE,
    INERT,
    LLAMA,
    MIXTRAL,
    QWEN,
    Answer,
    Serving,
    model_like,
    serving_in,
    tuner,
)
from reports import proof

from cache.verdicts.store import VerdictStore
from rules.launch_key import value_digest
from tuner.verdicts.lookup import remember_proofs

FLAG = "fast_moe_cold_start"
Decide = Callable[..., Path]


@pytest.fixture
def decide(serving: Serving, tmp_path: Path) -> Decide:
    """Exports the decision about a proved launch, from a store that only this export sees."""

    def decide(model: Path, *args: str, code: int = 0, **changes: Any) -> Path:
        store = tmp_path / "elsewhere.sqlite"
        if model in {MIXTRAL, ERNIE, LLAMA}:
            entry, _ = serving.remember(store, model)
            if args and model == MIXTRAL:
                new_proof = proof(entry.report["registered"], *args, sources=entry.sources, **changes)
                remember_proofs(VerdictStore(store), entry, [new_proof])
        words = ("export", model, "--python", serving.python, "--store", store, *(["--", *args] if args else []))
        path = tmp_path / "decision.json"
        path.write_text(tuner(*words, code=code).out, encoding="utf-8")
        return path

    return decide


def serve(serving: Serving, path: Path, *args: object, code: int = 0, env: dict[str, str] | None = None) -> Answer:
    """A rank: the command that `tuner serve --decision` would start, without a store and without a HOME."""
    own = ("--python", serving.python, "--store", "/nowhere/store", "--decision", path, "--dry-run")
    return tuner("serve", *own, *args, code=code, env=env)


@pytest.mark.parametrize(("model", "value"), [(MIXTRAL, "true"), (ERNIE, "false")])
def test_the_file_decides_without_a_store(serving: Serving, decide: Decide, model: Path, value: str) -> None:
    """What was decided where the store is, is written where none is, with one line that says why."""
    answer = serve(serving, decide(model), model, "--port", "8")
    assert answer.out.endswith(f"serve {model} --port 8 --compilation-config '{{\"{FLAG}\": {value}}}'\n")
    assert ("tuner-proof/" in answer.out) == (value == "true")
    (line,) = answer.err.splitlines()
    assert f"{FLAG}={value}: decided by " in line
    assert "key " in line


def test_every_rank_decides_alike(serving: Serving, decide: Decide) -> None:
    """The head and the headless ranks differ in what no decision depends on, and get the same key."""
    path = decide(MIXTRAL, "-tp", "8", "-dp", "2")
    ranks = [["--port", "8000"], ["--headless", "--data-parallel-start-rank", "1"]]
    told = [serve(serving, path, MIXTRAL, "-tp", "8", "-dp", "2", *rank) for rank in ranks]
    assert [answer.out.count(f'"{FLAG}": true') for answer in told] == [1, 1]
    assert told[0].err == told[1].err


def test_what_tuner_plan_prints_is_read_too(serving: Serving, tmp_path: Path) -> None:
    """`plan --json` and `export --format json` are one document."""
    store, path = tmp_path / "store", tmp_path / "plan.json"
    serving.remember(store, MIXTRAL)
    path.write_text(tuner("plan", MIXTRAL, "--python", serving.python, "--store", store, "--json").out)
    assert f'"{FLAG}": true' in serve(serving, path, MIXTRAL).out


def test_a_decision_without_a_verdict_is_the_safe_value(serving: Serving, decide: Decide) -> None:
    """Nothing was known: every rank starts with the flag off, or none does on request."""
    path = decide(QWEN, code=3)
    answer = serve(serving, path, QWEN)
    assert f'"{FLAG}": false' in answer.out
    assert len(answer.err.splitlines()) == 1
    own = ("--python", serving.python, "--decision", path, "--on-missing", "fail", "--dry-run")
    stopped = tuner("serve", *own, QWEN, code=3)
    assert stopped.out == ""
    assert "write the file anew with `tuner export --format json`" in stopped.err


def test_nothing_is_written_where_nothing_was_decided(tmp_path: Path) -> None:
    """Where the flag is inert the arguments pass through untouched."""
    inert, path = serving_in(tmp_path / "inert", INERT), tmp_path / "decision.json"
    path.write_text(tuner("export", MIXTRAL, "--python", inert.python, "--store", tmp_path / "s", code=0).out)
    assert serve(inert, path, MIXTRAL, "--port", "1").out.endswith(f" serve {MIXTRAL} --port 1\n")


def test_the_cache_root_of_the_file_is_set_on_every_rank(serving: Serving, tmp_path: Path) -> None:
    """Unless the rank names one itself."""
    path = tmp_path / "decision.json"
    own = ("--python", serving.python, "--store", tmp_path / "none")
    path.write_text(tuner("export", MIXTRAL, *own, "--cache-root", "/shared", code=3).out)
    assert serve(serving, path, MIXTRAL).out.startswith("VLLM_CACHE_ROOT=/shared ")
    rank = ("serve", *own, "--decision", path, "--dry-run", "--cache-root", "/mine", MIXTRAL)
    assert tuner(*rank).out.startswith("VLLM_CACHE_ROOT=/mine ")


def test_a_value_of_the_users_own_wins(serving: Serving, decide: Decide) -> None:
    """As without a file: it is kept with a warning, and refused with `--enforce` where the verdict is unsafe."""
    path = decide(ERNIE)
    answer = serve(serving, path, ERNIE, f"-cc.{FLAG}=true")
    assert answer.out.endswith(f"-cc.{FLAG}=true\n")
    assert "was given by the user and is kept" in answer.err
    own = ("--python", serving.python, "--decision", path, "--dry-run")
    assert "refused" in tuner("serve", *own, "--enforce", ERNIE, f"-cc.{FLAG}=true", code=4).err
    assert "refused" in tuner("serve", *own, "--fail-on-unknown", ERNIE, f"-cc.{FLAG}=true", code=3).err


def test_keys_of_the_rank_are_kept(serving: Serving, decide: Decide) -> None:
    """The decided key is merged into the compilation config of the rank, as ever."""
    answer = serve(serving, decide(ERNIE), ERNIE, "-cc.cudagraph_mode=NONE")
    assert f"""'{{"cudagraph_mode": "NONE", "{FLAG}": false}}'""" in answer.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-pp", "2"], "it is another launch (there: the plain launch, here: -pp 2)"),
        (["-cc.cudagraph_mode=NONE"], 'here: --compilation-config \'{"cudagraph_mode": "NONE"}\')'),
        (["--max-num-seqs", "8"], "here: --max-num-seqs 8"),
        (["--model-impl", "transformers"], "model_impl (there: auto, here: transformers)"),
        (["--trust-remote-code"], "only one of the two has --trust-remote-code"),
        (["-sc", '{"method": "mtp", "num_speculative_tokens": 1}'], "it is another launch"),
        (["--hf-overrides", '{"n": 1}'], "it is another launch"),
    ],
)
def test_another_launch_is_refused(serving: Serving, decide: Decide, args: list[str], said: str) -> None:
    """A launch that was not proved stops the rank; ranks that fall back one by one would disagree."""
    answer = serve(serving, decide(MIXTRAL), MIXTRAL, *args, code=1)
    assert answer.out == ""
    assert said in answer.err
    assert "tuner export MODEL" in answer.err


def test_a_launch_that_the_decision_was_made_for_is_not_refused(serving: Serving, decide: Decide) -> None:
    """The same arguments on both sides are one launch; its decision is the one with them."""
    args = ["--dtype", "half", "--enable-lora"]
    assert f'"{FLAG}": true' in serve(serving, decide(MIXTRAL, *args), MIXTRAL, *args).out


def test_a_false_is_right_for_every_launch(serving: Serving, decide: Decide) -> None:
    """It costs a longer compile at most, so that no rank need be refused."""
    assert f'"{FLAG}": false' in serve(serving, decide(ERNIE), ERNIE, "-tp", "8", "--enable-lora").out


def test_a_variable_that_the_proof_read_must_be_the_same(serving: Serving, decide: Decide) -> None:
    """The file holds its digest, and a rank with another value is refused."""
    digest = value_digest(None)
    path = decide(MIXTRAL, "--dtype", "half", variables={"DEPTH": digest, "HOME": value_digest("/elsewhere")})
    assert json.loads(path.read_text())["proof"]["variables"] == {"DEPTH": digest}
    assert f'"{FLAG}": true' in serve(serving, path, MIXTRAL, "--dtype", "half").out
    answer = serve(serving, path, MIXTRAL, "--dtype", "half", code=1, env={"DEPTH": "4"})
    assert "the environment variable DEPTH has another value" in answer.err


def test_a_true_that_names_no_proof_is_refused(serving: Serving, decide: Decide) -> None:
    """As of an older release: nothing says for which launch it holds."""
    path = decide(MIXTRAL)
    document = json.loads(path.read_text())
    document["launch"]["env"] = {}
    path.write_text(json.dumps(document))
    assert "names no proof of the launch" in serve(serving, path, MIXTRAL, code=1).err


def test_a_rank_with_a_root_of_its_own_keeps_the_proofs_folder(serving: Serving, decide: Decide) -> None:
    """Its compiled code is kept apart below the folder that the rank names."""
    own = ("--python", serving.python, "--decision", decide(MIXTRAL), "--dry-run", "--cache-root", "/mine")
    assert tuner("serve", *own, MIXTRAL).out.startswith("VLLM_CACHE_ROOT=/mine/tuner-proof/")


def test_another_model_or_environment_is_refused(serving: Serving, decide: Decide, tmp_path: Path) -> None:
    """The sentence names every difference."""
    path = decide(MIXTRAL)
    assert (
        "architecture (there: MixtralForCausalLM, here: Qwen3MoeForCausalLM)" in serve(serving, path, QWEN, code=1).err
    )
    changed = model_like(MIXTRAL, tmp_path / "changed", num_hidden_layers=3)
    assert "the model's configuration" in serve(serving, path, changed, code=1).err
    err = serve(serving_in(tmp_path / "other", ABSENT), path, MIXTRAL, code=1).err
    assert "vllm (there: 0.19.1, here: 0.14.1); torch (there: 2.10.0, here: 2.9.0)" in err
    assert serve(serving, path, tmp_path / "nowhere", code=1).out == ""


@pytest.mark.parametrize("name", ["VLLM_MODEL_REDIRECT_PATH", "VLLM_USE_MODELSCOPE"])
def test_a_variable_that_may_bring_another_model_refuses_a_true(serving: Serving, decide: Decide, name: str) -> None:
    """The model that was read is then perhaps not the one that is served."""
    path = decide(MIXTRAL)
    refused = name == "VLLM_MODEL_REDIRECT_PATH"  # MIXTRAL is a folder, which no hub replaces
    answer = serve(serving, path, MIXTRAL, code=int(refused), env={name: "true"})
    assert (name in answer.err) is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 1}, "an older release of the tool made it (schema_version 1), and this one reads 2"),
        ({"schema_version": 3}, "has schema_version 3, and this release reads 2"),
        ({"schema_version": True}, "has schema_version True"),
        ({"schema_version": "1"}, "has schema_version '1'"),
        ({"verdict": "fine"}, "is not a decision: a field is missing or damaged"),
        ({"model": None}, "is not a decision"),
        ({"environment": {}}, "is not a decision"),
        ({"refusal": "perhaps"}, "is not a decision"),
        ({"launch": {"args": [1], "compilation_config": {}}}, "is not a decision"),
        ({"launch": []}, "is not a decision"),
        ({"launch": {"args": ["m"], "compilation_config": {}, "env": {"VLLM_CACHE_ROOT": 1}}}, "is not a decision"),
        ({"evidence": {}}, "is not a decision"),
        ({"proof": {}}, "is not a decision"),
        ({"proof": {"variables": [1]}}, "is not a decision"),
    ],
)
def test_a_damaged_document_is_refused(serving: Serving, decide: Decide, change: dict[str, Any], said: str) -> None:
    """Whatever is wrong in it, it never becomes a decision."""
    path = decide(MIXTRAL)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    answer = serve(serving, path, MIXTRAL, code=1)
    assert said in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "is not a JSON document"),
        ("[" * 100_000, "is not a JSON document"),
        ("[]", "it is not a JSON object"),
        ('{"schema_version": 2, "results": []}', "it is about several models"),
        ('{"schema_version": 2, "environment": {}}', "it is about no launch"),
    ],
)
def test_what_is_no_decision_is_refused(serving: Serving, tmp_path: Path, text: str | None, said: str) -> None:
    """One sentence says what the file is, and the hint how to make one."""
    path = tmp_path / "decision.json"
    if text is not None:
        path.write_text(text)
    assert said in serve(serving, path, MIXTRAL, code=1).err


def test_a_file_and_a_probe_exclude_each_other(serving: Serving, decide: Decide) -> None:
    """A probe would not change what the file says."""
    own = ("--python", serving.python, "--decision", decide(MIXTRAL), "--on-missing", "probe")
    assert "exclude each other" in tuner("serve", *own, MIXTRAL, code=2).err
