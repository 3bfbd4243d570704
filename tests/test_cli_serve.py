"""`tuner serve`: a drop-in for `vllm serve` that starts although knowledge is missing.

A tiny script stands in the place of `vllm`, to show the arguments and variables that arrive; real servers are started
in `test_serve_vllm.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, QWEN, SETTABLE, Answer, Serving, serving_in, tuner_process

FLAG = "fast_moe_cold_start"
STAND_IN = """#!{python}
import json, os, sys
print(json.dumps({{"args": sys.argv[1:], "root": os.environ.get("VLLM_CACHE_ROOT")}}))
"""
MESSAGE = "tuner: "


@pytest.fixture
def serving(serving: Serving) -> Serving:
    """It has a stand-in for `vllm`."""
    return with_server(serving)


def with_server(serving: Serving) -> Serving:
    """Put a script in the place of `vllm` that shows what it was given."""
    script = serving.folder / "bin" / "vllm"
    script.write_text(STAND_IN.format(python=serving.python))
    script.chmod(0o755)
    return serving


@pytest.fixture
def store(serving: Serving, store: Path) -> Path:
    """A store that knows Mixtral and ERNIE."""
    return serving.store_of(store, MIXTRAL, ERNIE)


def serve(serving: Serving, store: Path, *args: object, code: int = 0, **env: str) -> Answer:
    """Run `tuner serve` with our options for environment and store first."""
    return tuner_process("serve", "--python", serving.python, "--store", store, *args, code=code, env=env)


def served(answer: Answer) -> list[str]:
    """The arguments that arrived behind `vllm serve`."""
    facts: dict[str, Any] = answer.document
    assert facts["args"][0] == "serve"
    return list(facts["args"][1:])


def config_in(args: list[str]) -> dict[str, Any]:
    """The one compilation config of an argument list."""
    assert args.count("--compilation-config") == 1
    document: dict[str, Any] = json.loads(args[args.index("--compilation-config") + 1])
    return document


@pytest.mark.parametrize(("model", "value"), [(MIXTRAL, True), (ERNIE, False), (QWEN, False)])
def test_the_server_gets_the_decision(serving: Serving, store: Path, model: Path, value: bool) -> None:
    """One merged compilation config arrives, and one line on stderr says why."""
    answer = serve(serving, store, model, "--port", "8000")
    args = served(answer)
    assert args[:3] == [str(model), "--port", "8000"]
    assert config_in(args) == {FLAG: value}
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith(MESSAGE)


def test_everything_from_the_first_foreign_token_is_vllms(tmp_path: Path, store: Path) -> None:
    """Tokens that look like options of other commands of ours arrive untouched, in order, byte for byte."""
    inert = with_server(serving_in(tmp_path / "inert", INERT))
    rest = ["--json", "--help", "--environment", "x", "", "a b", "--", "-x", "--dry-run"]
    assert served(serve(inert, store, LLAMA, *rest)) == [str(LLAMA), *rest]


@pytest.mark.parametrize("token", ["--port=8000", "--json", "-cc.mode=3", "--stor"])
def test_an_option_before_the_model_that_is_not_ours_ends_ours(tmp_path: Path, store: Path, token: str) -> None:
    """A prefix of ours is not ours: vLLM has options of its own, and new ones with every release."""
    inert = with_server(serving_in(tmp_path / "inert", INERT))
    rest = [token, "--seed", "0", str(LLAMA)]
    assert served(serve(inert, store, *rest)) == rest


def test_two_dashes_end_our_options(tmp_path: Path, store: Path) -> None:
    """A `--` of the user's own does not reach vLLM twice."""
    inert = with_server(serving_in(tmp_path / "inert", INERT))
    assert served(serve(inert, store, "--fail-on-unknown", LLAMA, "--x", "--", "y")) == [str(LLAMA), "--x", "--", "y"]


@pytest.mark.parametrize("form", ["--model", "--config"])
def test_the_model_may_stand_in_an_option_or_a_file(serving: Serving, store: Path, tmp_path: Path, form: str) -> None:
    """As for vLLM, the model need not be the first word."""
    file = tmp_path / "serve.yaml"
    file.write_text(f"model: {MIXTRAL}\nport: 8000\n")
    rest = ["--model", str(MIXTRAL)] if form == "--model" else ["--config", str(file)]
    args = served(serve(serving, store, *rest))
    assert args[:2] == rest
    assert config_in(args)[FLAG] is True


def test_a_cache_root_becomes_the_servers_variable(serving: Serving, store: Path) -> None:
    """Only when asked for; else the variable passes through. A proved launch gets a root of its own below it."""
    assert serve(serving, store, "--cache-root", "/big", ERNIE, VLLM_CACHE_ROOT="/mine").document["root"] == "/big"
    assert serve(serving, store, ERNIE, TUNER_CACHE_ROOT="/big").document["root"] == "/big"
    assert serve(serving, store, ERNIE, VLLM_CACHE_ROOT="/mine").document["root"] == "/mine"
    assert serve(serving, store, ERNIE).document["root"] is None
    proved = serve(serving, store, MIXTRAL, VLLM_CACHE_ROOT="/mine").document["root"]
    assert proved.startswith("/mine/tuner-proof/")
    assert serve(serving, store, MIXTRAL, VLLM_CACHE_ROOT=proved).document["root"] == proved


def test_a_dry_run_prints_the_command_alone(serving: Serving, store: Path) -> None:
    """Stdout is one line that a shell takes; nothing is started."""
    answer = serve(serving, store, "--dry-run", "--cache-root", "/a b", ERNIE)
    config = f"--compilation-config '{{\"{FLAG}\": false}}'"
    assert answer.out == f"VLLM_CACHE_ROOT='/a b' {serving.folder}/bin/vllm serve {ERNIE} {config}\n"


def test_a_missing_verdict_can_stop_the_start(serving: Serving, store: Path) -> None:
    """`--on-missing fail` ends with 3, says what is missing and gives the command; nothing is started."""
    answer = serve(serving, store, "--on-missing", "fail", QWEN, code=3)
    assert "no verdict is stored for Qwen3MoeForCausalLM" in answer.err
    assert f"Run `tuner probe --python {serving.python} --store {store} {QWEN}` first." in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("why", ["no folder", "hub", "damaged store", "no store", "store is a folder"])
def test_missing_knowledge_does_not_stop_the_server(serving: Serving, tmp_path: Path, why: str) -> None:
    """Without model identity or store the safe value is written and one line says why."""
    model, store = str(MIXTRAL), tmp_path / "store"
    if why == "no folder":
        model = str(tmp_path / "nowhere")
    if why == "hub":
        model = "nobody/nothing"
    if why == "damaged store":
        store.write_bytes(b"SQLite format 3\0" + b"damage" * 1000)
    if why == "store is a folder":
        store.mkdir()
    answer = serve(serving, store, model)
    assert config_in(served(answer)) == {FLAG: False}
    (line,) = answer.err.splitlines()
    assert line.startswith("tuner: no verdict (")


def test_a_hub_that_does_not_answer_does_not_stop_the_server(serving: Serving, tmp_path: Path) -> None:
    """The hub is asked once, and the server starts."""
    env = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    answer = serve(serving, tmp_path / "store", "nobody/nothing", **env)
    assert config_in(served(answer)) == {FLAG: False}
    assert "could not be fetched" in answer.err


def test_a_draft_is_no_reason_to_stop_beside_a_damaged_store(serving: Serving, tmp_path: Path) -> None:
    """The draft's verdict cannot be read either; the safe value covers both."""
    store = tmp_path / "store"
    store.write_text("no database")
    draft = ["--speculative-config", json.dumps({"model": str(LLAMA), "num_speculative_tokens": 1})]
    assert config_in(served(serve(serving, store, MIXTRAL, *draft))) == {FLAG: False}


def test_an_unsafe_value_of_the_users_own_is_refused_on_request(serving: Serving, store: Path) -> None:
    """`--enforce` ends with 4 before anything starts; without it the user's value is served with a warning."""
    given = [ERNIE, "-cc.fast_moe_cold_start=true"]
    answer = serve(serving, store, "--enforce", *given, code=4)
    assert (answer.out, "This launch is refused" in answer.err) == ("", True)
    answer = serve(serving, store, *given)
    assert served(answer) == [str(ERNIE), "-cc.fast_moe_cold_start=true"]
    assert "contradicts what is known" in answer.err


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        ([], "Missing argument", 2),
        (["--python"], "requires an argument", 2),
        (["--on-missing", "hope", str(MIXTRAL)], "'hope' is not one of", 2),
        ([str(MIXTRAL), "-cc", "{"], "is not a JSON object", 2),
        ([str(MIXTRAL), "--config", "nowhere.yaml"], "cannot be read", 1),
    ],
)
def test_usage_errors_start_nothing(tmp_path: Path, args: list[str], said: str, code: int) -> None:
    """Our own options misused end with 2, and what vLLM would refuse with its own code."""
    serving = with_server(serving_in(tmp_path / "env2", SETTABLE))
    ours = [] if args[:1] == ["--python"] else ["--python", str(serving.python)]
    answer = tuner_process("serve", *ours, *args, code=code)
    assert said in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "args", [["--port", "8000"], ["--served-model-name", "a", str(MIXTRAL)], ["--new", str(MIXTRAL)]]
)
def test_arguments_that_do_not_tell_the_model_start_safely(serving: Serving, store: Path, args: list[str]) -> None:
    """A default model exists in vLLM, an option may take every word behind it, and an unknown one any number."""
    answer = serve(serving, store, *args)
    assert config_in(served(answer)) == {FLAG: False}
    assert "The model cannot be told from these arguments" in answer.err


def test_help_is_ours_only_in_front_of_the_model() -> None:
    """`tuner serve --help` explains our options; behind the model the word is vLLM's."""
    assert "--on-missing" in tuner_process("serve", "--help", code=0).out


def test_the_model_may_stand_behind_an_option_with_a_value(serving: Serving, store: Path) -> None:
    """How many words an option takes is known of each release, so the decision is that of the model in front."""
    option = ["--max-model-len", "1000"]
    answer = serve(serving, store, *option, MIXTRAL)
    assert served(answer)[:3] == [*option, str(MIXTRAL)]
    assert config_in(served(answer)) == config_in(served(serve(serving, store, MIXTRAL, *option))) == {FLAG: True}
    assert config_in(served(serve(serving, store, *option, ERNIE))) == {FLAG: False}


@pytest.mark.parametrize("option", [["--dry-run"], ["--store=x"], ["--on-missing", "fail"]])
def test_an_option_of_ours_behind_the_model_starts_nothing(serving: Serving, option: list[str]) -> None:
    """VLLM would refuse it only after seconds of imports; the next command has it in its place."""
    answer = tuner_process("serve", "--python", str(serving.python), "MODEL", *option, "--port", "80", code=2)
    name = option[0].partition("=")[0]
    assert f"tuner: `{name}` is an option of tuner, and stands behind the model" in answer.err
    assert (
        f"Write it before the model: `tuner serve --python {serving.python} {' '.join(option)} MODEL --port 80`."
        in answer.err
    )
    assert answer.out == ""


def test_a_misspelt_first_option_is_named(serving: Serving, store: Path) -> None:
    """It is neither ours nor vLLM's, and the nearest of ours is said."""
    answer = serve(serving, store, "--dry-rum", MIXTRAL)
    assert "`--dry-rum` is neither an option of tuner nor one of vLLM 0.19.1. `--dry-run` may be meant." in answer.err
    assert "may be meant" not in serve(serving, store, "--port", "80", MIXTRAL).err
    assert "is an option of tuner" not in serve(serving, store, MIXTRAL, "--", "--dry-run").err
