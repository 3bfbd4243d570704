"""A decision against a log: what is the same, what differs, what nobody said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, QWEN, SETTABLE, sample, serving_in, tuner

from rules.errors import TunerError
from tuner.confirm.compare import confirm
from tuner.confirm.expected import Written, read_written
from tuner.confirm.outcome import Confirmation, FactResult, Result
from tuner.server_log.log import ServerLog, read_server_log

LOGS = Path(__file__).parent / "server_logs"
SERVED = {"0.19.1": "/srv/flag-live", "0.32.0": "/srv/current"}
EAGER = "--enforce-eager"
ON = "-cc.fast_moe_cold_start=true"
NGRAM = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2}')


class Bench:
    """A serving environment and a store with the verdicts of Mixtral (uniform), ERNIE (conditional), Llama (no MoE)."""

    def __init__(self, folder: Path, versions: dict[str, str]) -> None:
        self.serving = serving_in(folder / "serving", versions)
        self.store = folder / "verdicts.sqlite"
        self.versions = versions
        environment = "current" if versions == INERT else "flag-live"
        for model in (MIXTRAL, ERNIE, LLAMA):
            self.serving.remember(self.store, model, sample(model, environment))

    def decision(self, model: Path, *args: str, ours: tuple[str, ...] = ()) -> dict[str, Any]:
        """The document of `tuner plan --json`; a model without a verdict has one too.

        The logs are of eager servers, whose launch is never proved: the `true` of Mixtral's is the user's own.
        """
        where = ("--python", self.serving.python, "--store", self.store)
        decided_here = any("fast_moe_cold_start" in arg or "speculative" in arg for arg in args)
        if model == MIXTRAL and self.versions == SETTABLE and args and not decided_here:
            args = (*args, ON)
        document: dict[str, Any] = tuner("plan", "--json", *where, *ours, model, "--", *args).document
        return document

    def written(self, model: Path, *args: str, ours: tuple[str, ...] = ()) -> Written:
        """What that decision wrote."""
        return read_written(self.decision(model, *args, ours=ours))


@pytest.fixture
def settable(tmp_path: Path) -> Bench:
    """Where the launch decides the flag: vLLM 0.19.1."""
    return Bench(tmp_path, SETTABLE)


@pytest.fixture
def inert(tmp_path: Path) -> Bench:
    """Where vLLM forces it to false: vLLM 0.32.0."""
    return Bench(tmp_path, INERT)


def log_of(name: str, model: Path, **replaced: str) -> ServerLog:
    """A real log in which the served model goes by another name, and some words are replaced."""
    text = (LOGS / f"{name}.log").read_text(encoding="utf-8").replace(SERVED[name[:6]], str(model))
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return read_server_log(text.splitlines())


def outcomes(confirmation: Confirmation) -> dict[str, str]:
    """Each fact's outcome."""
    return {fact.name: str(fact.outcome) for fact in confirmation.facts}


def differing(confirmation: Confirmation) -> list[str]:
    """The facts that differ."""
    return [fact.name for fact in confirmation.facts if fact.outcome is FactResult.DIFFERS]


# ---- the flag


def test_a_server_that_keeps_a_written_true_is_confirmed(settable: Bench) -> None:
    """A uniform model, and the real log of a server with the flag on."""
    confirmation = confirm(log_of("0.19.1-true", MIXTRAL), settable.written(MIXTRAL, EAGER))

    assert confirmation.result is Result.CONFIRMED
    assert outcomes(confirmation) == {
        "start": "same",
        "vllm": "same",
        "model": "same",
        "flag": "same",
        "mode": "same",
        "graphs": "reported",
        "passes": "reported",
        "backend": "reported",
        "cache": "reported",
        "speculative": "same",
    }


@pytest.mark.parametrize(
    ("model", "log", "result"),
    [
        (ERNIE, "0.19.1-false-colour", Result.CONFIRMED),
        (ERNIE, "0.19.1-true", Result.DIFFERS),
        (MIXTRAL, "0.19.1-false-colour", Result.DIFFERS),
        (QWEN, "0.19.1-true", Result.DIFFERS),
        (QWEN, "0.19.1-false-colour", Result.CONFIRMED),
        (LLAMA, "0.19.1-true", Result.CONFIRMED),
        (LLAMA, "0.19.1-false-colour", Result.CONFIRMED),
    ],
)
def test_the_effective_flag_is_compared_with_the_written_one(
    settable: Bench, model: Path, log: str, result: Result
) -> None:
    """Uniform: true. Conditional, or without a verdict: false. No MoE layers: nothing, so that either will do."""
    confirmation = confirm(log_of(log, model), settable.written(model, *([] if model == LLAMA else [EAGER])))

    assert confirmation.result is result
    assert differing(confirmation) == (["flag"] if result is Result.DIFFERS else [])


def test_a_flag_that_is_on_against_an_unsafe_verdict_is_never_confirmed(settable: Bench) -> None:
    """The user's own true was kept by the plan, with a warning; the running server is wrong all the same."""
    given = ("-cc.fast_moe_cold_start=true", EAGER)
    confirmation = confirm(log_of("0.19.1-true", ERNIE), settable.written(ERNIE, *given))

    assert confirmation.result is Result.DIFFERS
    assert [fact.note for fact in confirmation.facts if fact.name == "flag"] == [
        "the verdict is conditional: this server runs wrong experts"
    ]


@pytest.mark.parametrize(("flag", "result"), [("False", Result.CONFIRMED), ("True", Result.DIFFERS)])
def test_where_vllm_forces_the_flag_off_the_log_must_say_so(inert: Bench, flag: str, result: Result) -> None:
    """Nothing was written, because the decision rests on it; an image with an older torch would leave it on."""
    said = {"'fast_moe_cold_start': False, 'static": f"'fast_moe_cold_start': {flag}, 'static"}

    assert confirm(log_of("0.32.0-json", MIXTRAL, **said), inert.written(MIXTRAL, EAGER)).result is result


def test_a_true_that_vllm_forces_off_was_not_kept(inert: Bench) -> None:
    """The user's own true, in a release where it does nothing."""
    written = inert.written(MIXTRAL, EAGER, "-cc.fast_moe_cold_start=true")

    assert differing(confirm(log_of("0.32.0-true", MIXTRAL), written)) == ["flag"]


@pytest.mark.parametrize(("model", "result"), [(MIXTRAL, Result.CONFIRMED), (QWEN, Result.NOT_SAID)])
def test_where_nobody_knows_the_flag_only_a_safe_verdict_confirms_it(
    settable: Bench, model: Path, result: Result
) -> None:
    """A release newer than the table: nothing is written, and the log says that the flag is on."""
    document = settable.decision(model, EAGER)
    document["environment"]["flag_status"] = "unknown"
    document["launch"]["compilation_config"] = {}

    assert confirm(log_of("0.19.1-true", model), read_written(document)).result is result


# ---- the other facts


def test_another_release_is_another_server(inert: Bench) -> None:
    """A decision for 0.32.0, and the log of a 0.19.1."""
    assert "vllm" in differing(confirm(log_of("0.19.1-false-colour", MIXTRAL), inert.written(MIXTRAL, EAGER)))


def test_a_local_version_is_the_same_release(settable: Bench) -> None:
    """Builds say `0.19.1+cpu`, packages `0.19.1`."""
    log = log_of("0.19.1-true", MIXTRAL, **{"engine (v0.19.1)": "engine (v0.19.1+cpu)"})

    assert confirm(log, settable.written(MIXTRAL, EAGER)).result is Result.CONFIRMED


def test_another_model_is_another_server(settable: Bench) -> None:
    """The log of a server that serves something else."""
    assert differing(confirm(log_of("0.19.1-true", QWEN), settable.written(MIXTRAL, EAGER))) == ["model"]


def test_the_local_copy_of_a_model_is_the_model(settable: Bench) -> None:
    """Offline, vLLM serves a hub id from its local copy, and says so (vllm/engine/arg_utils.py)."""
    text = (LOGS / "0.19.1-true.log").read_text(encoding="utf-8")
    said = f"HF_HUB_OFFLINE is True, replace model_id [{MIXTRAL}] to model_path [/srv/flag-live]"
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if "Resolved architecture" in line)
    lines.insert(at, f"(APIServer pid=100) INFO 01-01 00:00:00 [arg_utils.py:666] {said}")
    written = settable.written(MIXTRAL, EAGER)

    assert confirm(read_server_log(lines), written).result is Result.CONFIRMED
    assert differing(confirm(read_server_log(text.splitlines()), written)) == ["model"]


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ((EAGER,), []),
        (("-O0",), []),
        (("-cc.mode=0",), []),
        (("-cc.mode=NONE",), []),
        ((), []),
        (("-cc.mode=3",), ["mode"]),
        (("-cc.mode=VLLM_COMPILE",), ["mode"]),
        (("-cc.mode=3", EAGER), []),
    ],
)
def test_the_mode_is_compared_where_one_was_written(
    settable: Bench, given: tuple[str, ...], differs: list[str]
) -> None:
    """The log is of a server that compiles nothing; beside `--enforce-eager` vLLM 0.19 keeps no other mode."""
    assert differing(confirm(log_of("0.19.1-true", MIXTRAL), settable.written(MIXTRAL, *given))) == differs


@pytest.mark.parametrize(("given", "outcome"), [((), "reported"), (("-cc.mode=3",), "same"), ((EAGER,), "differs")])
def test_a_server_that_compiles_keeps_what_was_written(settable: Bench, given: tuple[str, ...], outcome: str) -> None:
    """Where no mode was written, any will do."""
    assert outcomes(confirm(compiled(""), settable.written(MIXTRAL, *given)))["mode"] == outcome


@pytest.mark.parametrize(
    ("log", "given", "differs"),
    [
        ("0.19.1-ngram-failed", NGRAM, []),
        ("0.19.1-ngram-failed", (), ["flag", "speculative"]),
        ("0.19.1-false-colour", NGRAM, ["speculative"]),
        ("0.19.1-ngram-failed", (NGRAM[0], NGRAM[1].replace("2", "5")), ["speculative"]),
        ("0.19.1-ngram-failed", (NGRAM[0], NGRAM[1].replace("ngram", "eagle3")), ["speculative"]),
    ],
)
def test_speculative_decoding_is_compared(
    settable: Bench, log: str, given: tuple[str, ...], differs: list[str]
) -> None:
    """Present or not, its method and the number of tokens; a draft that nobody wrote counts as a difference."""
    assert differing(confirm(log_of(log, MIXTRAL), settable.written(MIXTRAL, EAGER, *given))) == differs


def test_a_checkpoint_may_bring_its_own_draft(settable: Bench) -> None:
    """A checkpoint in the `speculators` format is the draft, and vLLM serves the model that it names."""
    log = log_of("0.19.1-ngram-failed", LLAMA, **{"method='ngram', model=None": f"method='eagle3', model='{MIXTRAL}'"})
    confirmation = confirm(log, settable.written(MIXTRAL, EAGER))

    assert (outcomes(confirmation)["model"], outcomes(confirmation)["speculative"]) == ("same", "same")


def test_a_refused_launch_that_runs_is_a_contradiction(settable: Bench) -> None:
    """The decision said no, and somebody started the server all the same."""
    document = settable.decision(MIXTRAL, EAGER) | {"refusal": "unsafe"}

    assert differing(confirm(log_of("0.19.1-true", MIXTRAL), read_written(document))) == ["start"]


# ---- the compile cache

READY = (
    "(EngineCore pid=101) INFO 01-01 00:00:00 [core.py:283] init engine (profile, create kv cache, warmup model) took"
)
FOLDER = "(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:9] Using cache directory: {} for vLLM's torch.compile\n"
AOT = "(EngineCore pid=101) INFO 01-01 00:00:00 [decorators.py:9] Directly load AOT compilation from path {}\n"
OFF = "(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:9] vLLM's torch.compile cache is disabled.\n"
INSIDE, OUTSIDE = "/caches/a/torch_compile_cache/0a1b/rank_0_0/backbone", "/caches/ab/x/rank_0_0/model"


def compiled(lines: str) -> ServerLog:
    """The log of a server that compiles, with these lines about the cache before it is ready."""
    changes = {"CompilationMode.NONE: 0": "CompilationMode.VLLM_COMPILE: 3", READY: lines + READY}
    return log_of("0.19.1-true", MIXTRAL, **changes)


@pytest.mark.parametrize(
    ("lines", "in_env", "in_config"),
    [
        (FOLDER.format(INSIDE), "same", "same"),
        (FOLDER.format(INSIDE) + AOT.format(INSIDE), "same", "same"),
        (AOT.format(INSIDE), "same", "not_said"),
        (FOLDER.format(OUTSIDE), "differs", "differs"),
        (FOLDER.format(INSIDE) + AOT.format(OUTSIDE), "differs", "same"),
        (AOT.format(OUTSIDE), "differs", "not_said"),
        (OFF, "differs", "differs"),
        ("", "not_said", "not_said"),
    ],
)
def test_the_folder_of_the_cache_is_compared(settable: Bench, lines: str, in_env: str, in_config: str) -> None:
    """VLLM_CACHE_ROOT holds all caches; `compilation_config.cache_dir` not what is compiled ahead of time."""
    by_root = replace(settable.written(MIXTRAL), cache_root="/caches/a")
    by_config = replace(by_root, cache_root=None, cache_dir="/caches/a")

    assert outcomes(confirm(compiled(lines), by_root))["cache"] == in_env
    assert outcomes(confirm(compiled(lines), by_config))["cache"] == in_config
    assert outcomes(confirm(compiled(lines), replace(by_root, cache_root=None)))["cache"] in {"reported", "not_said"}


def test_a_relative_folder_cannot_be_compared(settable: Bench) -> None:
    """Where `~` or a relative path ends up is the server's business."""
    written = replace(settable.written(MIXTRAL), cache_root="~/caches")

    assert outcomes(confirm(compiled(FOLDER.format(INSIDE)), written))["cache"] == "not_said"


def test_a_root_of_a_proof_is_told_wherever_home_is(settable: Bench) -> None:
    """An exported `true` names its root below `~`; the proof's own folder is compared."""
    root = "~/.cache/vllm/tuner-proof/0123456789abcdef"
    written = replace(settable.written(MIXTRAL), cache_root=root)
    inside = root.replace("~", "/home/somebody") + "/torch_compile_cache/0a1b/rank_0_0/backbone"

    assert outcomes(confirm(compiled(FOLDER.format(inside)), written))["cache"] == "same"
    assert outcomes(confirm(compiled(FOLDER.format(INSIDE)), written))["cache"] == "differs"


def test_a_server_that_compiles_nothing_needs_no_cache(settable: Bench) -> None:
    """A cache root was written, and the engine says that it runs eagerly."""
    written = settable.written(MIXTRAL, EAGER, ours=("--cache-root", "/caches/a"))

    assert confirm(log_of("0.19.1-true", MIXTRAL), written).result is Result.CONFIRMED


# ---- what the log does not say


@pytest.mark.parametrize("missing", ["init engine (profile", "Initializing a V1 LLM engine"])
def test_a_log_without_a_line_that_matters_confirms_nothing(settable: Bench, missing: str) -> None:
    """An engine that is not ready yet, or a log that was cut at its beginning."""
    log = read_server_log(
        line.replace("/srv/flag-live", str(MIXTRAL))
        for line in (LOGS / "0.19.1-true.log").read_text(encoding="utf-8").splitlines()
        if missing not in line
    )

    assert confirm(log, settable.written(MIXTRAL, EAGER)).result is Result.NOT_SAID


def test_an_engine_that_failed_confirms_nothing(settable: Bench) -> None:
    """Its configuration is as written, and nothing of it runs."""
    confirmation = confirm(log_of("0.19.1-ngram-failed", MIXTRAL), settable.written(MIXTRAL, EAGER, *NGRAM))

    assert confirmation.result is Result.NOT_SAID
    assert (outcomes(confirmation)["flag"], outcomes(confirmation)["start"]) == ("same", "not_said")


def two_engines(model: Path, old: str, new: str) -> ServerLog:
    """Two nodes' engines in one log; in the second one's lines some words are replaced."""
    text = (LOGS / "0.19.1-false-colour.log").read_text(encoding="utf-8").replace(SERVED["0.19.1"], str(model))
    first = text.replace("EngineCore", "EngineCore_DP0")
    second = [line for line in text.replace("EngineCore", "EngineCore_DP4").splitlines() if "EngineCore_DP4" in line]
    return read_server_log([*first.splitlines(), *(line.replace(old, new) for line in second)])


def test_all_engines_must_agree(settable: Bench) -> None:
    """Two nodes of one deployment, one of which kept the flag and one not."""
    written = settable.written(ERNIE, EAGER)
    confirmation = confirm(two_engines(ERNIE, "'fast_moe_cold_start': False", "'fast_moe_cold_start': True"), written)

    assert confirm(two_engines(ERNIE, "", ""), written).result is Result.CONFIRMED
    assert differing(confirmation) == ["flag"]
    assert "false (EngineCore_DP0), true (EngineCore_DP4)" in {fact.effective for fact in confirmation.facts}


def test_one_engine_that_is_not_ready_leaves_all_unconfirmed(settable: Bench) -> None:
    """The second node is still loading."""
    log = two_engines(ERNIE, "init engine (profile", "something else")

    assert confirm(log, settable.written(ERNIE, EAGER)).result is Result.NOT_SAID


def test_engines_that_differ_are_no_one_server(settable: Bench) -> None:
    """Where nothing was written about a fact, engines that run differently are a difference still."""
    log = two_engines(LLAMA, "'fast_moe_cold_start': False", "'fast_moe_cold_start': True")

    assert differing(confirm(log, settable.written(LLAMA, EAGER))) == ["flag"]


def test_without_a_decision_the_log_is_only_reported() -> None:
    """Nothing is the same and nothing differs."""
    confirmation = confirm(log_of("0.19.1-true", MIXTRAL), None)

    assert confirmation.result is Result.REPORTED
    assert {fact.outcome for fact in confirmation.facts} == {FactResult.REPORTED}
    assert confirm(read_server_log(["nothing"]), None).result is Result.NOT_SAID


# ---- the decision


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 1}, "an older release"),
        ({"schema_version": 3}, "schema_version"),
        ({"launch": None}, "TypeError"),
        ({"error": {"message": "no config.json"}}, "no config.json"),
        ({"results": []}, "several"),
        ({"verdict": "fine"}, "fine"),
        ({"model": {"name": ""}}, "where a text belongs"),
        ({"environment": {"vllm": "0.19.1", "flag_status": "maybe"}}, "maybe"),
        ({"refusal": None}, "None"),
    ],
)
def test_a_document_that_is_no_decision_is_an_error(settable: Bench, change: dict[str, Any], said: str) -> None:
    """What cannot be read is never taken as "nothing was written"."""
    with pytest.raises(TunerError) as caught:
        read_written(settable.decision(MIXTRAL) | change)

    assert said in caught.value.message
    assert caught.value.kind == "decision"


@pytest.mark.parametrize("config", [{"mode": "fast"}, {"fast_moe_cold_start": "maybe"}, {"mode": [3]}])
def test_a_value_that_vllm_would_refuse_is_an_error(settable: Bench, config: dict[str, Any]) -> None:
    """A decision with such a value was edited by hand."""
    document = settable.decision(MIXTRAL)
    document["launch"]["compilation_config"] = config

    with pytest.raises(TunerError, match="is not a decision"):
        read_written(json.loads(json.dumps(document)))
