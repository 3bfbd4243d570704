"""What the arms of a launch showed, as every command tells it: written, checked, and never over the user's own."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exported import FORMS
from fake_environment import INERT, MIXTRAL, ROOT, SETTABLE, Answer, Serving, model_like, sample, serving_in, tuner
from ladders import (
    FUSION,
    WRONG_COMPILED,
    WRONG_FULL,
    WRONG_GRAPHS,
    remember_one,
    with_backend,
    without_computing_variables,
    without_fusion,
)
from manifest_argv import argv_of
from manifest_schemas import closed, complaints

from rules.arms import LAUNCH
from rules.launch_key import value_digest
from tuner.arguments.serve_arguments import parse, without_options
from tuner.exports.formats import Format

CONFIG = "--compilation-config"
Case = tuple[dict[str, Any], dict[str, Any], list[str]]

WRONG: dict[str, Case] = {
    "graphs": ({"wrong": WRONG_GRAPHS}, {"cudagraph_mode": "NONE"}, []),
    "full graphs": ({"wrong": WRONG_FULL}, {"cudagraph_mode": "PIECEWISE"}, []),
    "a pass": (
        {"wrong": WRONG_COMPILED, "more": without_fusion()},
        {"pass_config": {FUSION: False}},
        [],
    ),
    "a backend": ({"wrong": WRONG_COMPILED, "more": with_backend()}, {}, ["--moe-backend", "triton"]),
    "compiling": ({"wrong": WRONG_COMPILED}, {}, ["--enforce-eager"]),
}
"""What is wrong -> its ladder, and what makes the launch right: keys of the compilation config, and options."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladders of these tests were made without such variables."""
    without_computing_variables(monkeypatch)


@pytest.fixture
def inert(tmp_path: Path) -> Serving:
    """Where the flag does nothing, so that only arms make a decision write something."""
    return serving_in(tmp_path / "inert", INERT)


@pytest.fixture
def verdicts(inert: Serving, tmp_path: Path) -> Path:
    """A store with the verdict of Mixtral there."""
    store = tmp_path / "verdicts.sqlite"
    inert.remember(store, MIXTRAL, sample(MIXTRAL, "current"))
    return store


def ours(serving: Serving, store: Path) -> tuple[object, ...]:
    """Where the environment and the store are."""
    return ("--python", serving.python, "--store", store)


def launch_of(serving: Serving, store: Path, *args: str) -> dict[str, Any]:
    """The launch that `tuner plan --json` writes."""
    document = tuner("plan", "--json", *ours(serving, store), MIXTRAL, "--", *args, code=0).document
    part: dict[str, Any] = document["launch"]
    return part


def served(serving: Serving, store: Path, *args: object, code: int = 0) -> Answer:
    """What `tuner serve` would start, and what it says."""
    return tuner("serve", *ours(serving, store), "--dry-run", *args, code=code)


# ---- what is written


@pytest.mark.parametrize("case", WRONG)
def test_plan_and_serve_write_what_makes_the_launch_right(inert: Serving, verdicts: Path, case: str) -> None:
    """The smallest change, in one compilation config and behind the user's options, and why in one line."""
    changes, config, options = WRONG[case]
    remember_one(verdicts, inert, MIXTRAL, ["--max-num-seqs", "8"], **changes)
    launch = launch_of(inert, verdicts, "--max-num-seqs", "8", "--port", "1")
    written = [*([CONFIG, json.dumps(config)] if config else []), *options]
    assert launch["args"] == [str(MIXTRAL), "--max-num-seqs", "8", "--port", "1", *written]
    assert launch["compilation_config"] == config
    assert launch["written"] == {"compilation_config": config, "options": options}
    answer = served(inert, verdicts, MIXTRAL, "--max-num-seqs", "8", "--port", "1")
    keys = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in config.items()]
    words = ", ".join([*keys, *([" ".join(options)] if options else [])])
    assert shlex.split(answer.out)[-len(launch["args"]) :] == launch["args"]
    (line,) = answer.err.splitlines()
    assert f"; engine: {words}: the launch as it stands answers wrongly" in line
    text = tuner("plan", *ours(inert, verdicts), MIXTRAL, "--", "--max-num-seqs", "8").out
    assert "engine " in text
    assert " answers rightly" in text


def test_a_launch_that_answers_rightly_gets_nothing(inert: Serving, verdicts: Path) -> None:
    """The twin without a finding: what was tried is said, and the arguments pass through."""
    remember_one(verdicts, inert, MIXTRAL)
    launch = launch_of(inert, verdicts, "--port", "1")
    assert launch["args"] == [str(MIXTRAL), "--port", "1"]
    assert launch["written"] == {"compilation_config": {}, "options": []}
    line = served(inert, verdicts, MIXTRAL).err
    assert "; engine: nothing to write: the launch as it stands answers rightly" in line


def test_another_launch_gets_nothing(inert: Serving, verdicts: Path) -> None:
    """A ladder speaks for the launch that was tried, and says nothing of others, not even that it exists."""
    remember_one(verdicts, inert, MIXTRAL, **WRONG["graphs"][0])
    assert launch_of(inert, verdicts, "--max-num-seqs", "8")["written"] == {"compilation_config": {}, "options": []}
    assert "engine" not in served(inert, verdicts, MIXTRAL, "--max-num-seqs", "8").err


def test_a_launch_that_carries_the_change_is_left_as_it_is(inert: Serving, verdicts: Path) -> None:
    """What was written once is another launch, which was not tried and has nothing to change."""
    remember_one(verdicts, inert, MIXTRAL, **WRONG["graphs"][0])
    args = launch_of(inert, verdicts)["args"]
    assert launch_of(inert, verdicts, *args[1:])["args"] == args


def test_a_switch_of_the_users_stays_beside_ours(inert: Serving, verdicts: Path) -> None:
    """`pass_config` is merged switch by switch, and one key of the config is not a reason to lose another."""
    own = {"pass_config": {"fuse_act_quant": False}, "cudagraph_capture_sizes": [1, 2]}
    args = [CONFIG, json.dumps(own)]
    remember_one(verdicts, inert, MIXTRAL, args, **WRONG["a pass"][0])
    launch = launch_of(inert, verdicts, *args)
    both = {**own, "pass_config": {"fuse_act_quant": False, FUSION: False}}
    assert json.loads(launch["args"][-1]) == both
    assert launch["compilation_config"] == both
    assert launch["written"]["compilation_config"] == {"pass_config": {FUSION: False}}


def test_options_are_written_in_front_of_a_double_dash(inert: Serving, verdicts: Path) -> None:
    """Behind it they would be bare words."""
    remember_one(verdicts, inert, MIXTRAL, ["--"], **WRONG["compiling"][0])
    assert launch_of(inert, verdicts, "--")["args"][-2:] == ["--enforce-eager", "--"]


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "tool": ({"worker": "0" * 64}, "by another release of this tool"),
    "device": ({"gpu": "NVIDIA H200"}, "the arms were tried on NVIDIA H200, and this is cpu"),
    "variable": (
        {"variables": {"VLLM_MLA_DISABLE": value_digest("1")}},
        "VLLM_MLA_DISABLE has another value than when the arms were tried",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_ladder_that_does_not_apply_is_said_and_not_written(inert: Serving, verdicts: Path, case: str) -> None:
    """Another tool, GPU or variable: `plan` and `serve` say why, and write nothing."""
    changes, why = OTHERS[case]
    remember_one(verdicts, inert, MIXTRAL, **WRONG["graphs"][0], **changes)
    assert launch_of(inert, verdicts)["args"] == [str(MIXTRAL)]
    for text in (tuner("plan", *ours(inert, verdicts), MIXTRAL).out, served(inert, verdicts, MIXTRAL).err):
        assert "nothing is written from the arms that were tried: " in " ".join(text.split())
        assert why in " ".join(text.split())
    document = tuner("plan", "--json", *ours(inert, verdicts), MIXTRAL).document
    assert document["ladder"] is None
    assert "ladder_not_used" in {reason["code"] for reason in document["reasons"]}


def test_where_arms_were_never_tried_nothing_is_said_of_them(inert: Serving, verdicts: Path) -> None:
    """Most launches have no ladder."""
    assert "engine" not in served(inert, verdicts, MIXTRAL).err
    assert "engine " not in tuner("plan", *ours(inert, verdicts), MIXTRAL).out


def test_a_proof_is_of_the_launch_without_the_change(tmp_path: Path) -> None:
    """With another compilation config another graph may be compiled: `true` is not written beside the change."""
    serving = serving_in(tmp_path / "settable", SETTABLE)
    store = serving.store_of(tmp_path / "v.sqlite", MIXTRAL)
    assert launch_of(serving, store)["written"]["compilation_config"] == {"fast_moe_cold_start": True}
    remember_one(store, serving, MIXTRAL, **WRONG["a pass"][0])
    document = tuner("plan", "--json", *ours(serving, store), MIXTRAL).document
    changed = {"pass_config": {FUSION: False}}
    assert document["launch"]["compilation_config"] == {"fast_moe_cold_start": False, **changed}
    assert document["proof"] is None
    assert "no proof is stored for --compilation-config" in " ".join(part["text"] for part in document["reasons"])


# ---- every export, and back


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", [form for form in FORMS if form != Format.JSON])
def test_every_export_carries_the_change(inert: Serving, verdicts: Path, tmp_path: Path, form: str, case: str) -> None:
    """The file leads to a launch with the change, and says why it is there."""
    changes, config, options = WRONG[case]
    remember_one(verdicts, inert, MIXTRAL, **changes)
    needed = ("--cache-root", "/cache", "--image", "r/i:1") if form == Format.WARM_JOB else ()
    model = model_like(MIXTRAL, tmp_path / "model")
    uri = ("--model-uri", "hf://a/b") if form == Format.KSERVE_LLMINFERENCESERVICE else ()
    text = tuner("export", model, "--format", *form.split(), *needed, *uri, *ours(inert, verdicts), code=0).out
    arguments = argv_of(form, text, tmp_path)
    read = parse(arguments)
    assert read.compilation_config == config
    assert without_options(read.effective, options) is not None
    assert [read.effective.count(option) for option in options] == [1] * len(options)
    assert "answers wrongly" in text


Decide = Callable[..., Path]


@pytest.fixture
def decide(inert: Serving, verdicts: Path, tmp_path: Path) -> Decide:
    """Exports a decision as JSON."""

    def decide(*args: str, **changes: Any) -> Path:
        remember_one(verdicts, inert, MIXTRAL, args, **changes)
        path = tmp_path / "decision.json"
        text = tuner("export", MIXTRAL, *ours(inert, verdicts), *(["--", *args] if args else []), code=0).out
        path.write_text(text, encoding="utf-8")
        return path

    return decide


def ranked(serving: Serving, path: Path, *args: object, code: int = 0, **env: str) -> Answer:
    """What a rank would start by the file, without a store."""
    own = ("--python", serving.python, "--store", "/nowhere/store", "--decision", path, "--dry-run")
    return tuner("serve", *own, *args, code=code, env=env)


@pytest.mark.parametrize("case", WRONG)
def test_a_decision_file_carries_the_change(inert: Serving, verdicts: Path, decide: Decide, case: str) -> None:
    """A rank starts what the store would have made it start, and every rank of the launch does."""
    changes, _, _ = WRONG[case]
    path = decide("-tp", "2", **changes)
    expected = served(inert, verdicts, MIXTRAL, "-tp", "2").out
    answer = ranked(inert, path, MIXTRAL, "-tp", "2")
    assert answer.out == expected
    assert "engine: " in answer.err
    headless = ranked(inert, path, MIXTRAL, "-tp", "2", "--headless").out
    assert shlex.split(headless)[-1] == shlex.split(expected)[-1]


def test_a_decision_file_is_refused_for_another_launch(inert: Serving, decide: Decide) -> None:
    """The flag does nothing there, so that only what the arms showed forbids it."""
    path = decide(**WRONG["graphs"][0])
    answer = ranked(inert, path, MIXTRAL, "--max-num-seqs", "8", code=1)
    assert answer.out == ""
    assert "it is another launch (there: the plain launch, here: --max-num-seqs 8)" in " ".join(answer.err.split())
    answer = ranked(inert, path, MIXTRAL, "-cc.cudagraph_mode=FULL", code=1)
    assert "it is another launch" in answer.err


@pytest.mark.parametrize("case", ["a pass", "a backend"])
def test_a_decision_file_is_refused_where_arms_would_not_apply(inert: Serving, decide: Decide, case: str) -> None:
    """A variable that changes how an engine computes has another value on this rank; what names a rank may differ."""
    path = decide(**WRONG[case][0])
    answer = ranked(inert, path, MIXTRAL, code=1, VLLM_MLA_DISABLE="1")
    assert "the environment variable VLLM_MLA_DISABLE has another value" in " ".join(answer.err.split())
    assert ranked(inert, path, MIXTRAL, CUDA_VISIBLE_DEVICES="1").out


def test_a_decision_file_without_a_change_holds_for_every_launch(inert: Serving, decide: Decide) -> None:
    """The twin: nothing was found, the flag does nothing, and any launch passes through."""
    path = decide()
    answer = ranked(inert, path, MIXTRAL, "--max-num-seqs", "8", VLLM_MLA_DISABLE="1")
    assert answer.out.endswith(f" {MIXTRAL} --max-num-seqs 8\n")
    assert "engine" not in answer.err


def test_a_decision_of_another_gpu_is_refused(inert: Serving, decide: Decide, tmp_path: Path) -> None:
    """What answers wrongly on one GPU may be right on another."""
    document = json.loads(decide(**WRONG["graphs"][0]).read_text(encoding="utf-8"))
    document["environment"]["gpu"] = "NVIDIA H200"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "gpu (there: NVIDIA H200, here: none)" in " ".join(ranked(inert, path, MIXTRAL, code=1).err.split())


def _other_value(launch: dict[str, Any]) -> None:
    launch["written"]["compilation_config"]["cudagraph_mode"] = "PIECEWISE"


def _other_option(launch: dict[str, Any]) -> None:
    launch["written"]["options"] = ["--enforce-eager"]


def _number(launch: dict[str, Any]) -> None:
    launch["written"]["options"] = [1]


def _lost(launch: dict[str, Any]) -> None:
    del launch["written"]["options"]


@pytest.mark.parametrize("damage", [_other_value, _other_option, _number, _lost])
def test_a_damaged_decision_is_refused(
    inert: Serving, decide: Decide, tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    """What was added must be in the launch that it was added to."""
    document = json.loads(decide(**WRONG["graphs"][0]).read_text(encoding="utf-8"))
    damage(document["launch"])
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "a field is missing or damaged" in " ".join(ranked(inert, path, MIXTRAL, code=1).err.split())


def test_the_document_is_as_its_schema_says(inert: Serving, verdicts: Path) -> None:
    """With a ladder in it, every field is listed."""
    remember_one(verdicts, inert, MIXTRAL, **WRONG["a pass"][0])
    schema = json.loads((ROOT / "docs" / "schema" / "launch-2.json").read_text(encoding="utf-8"))
    document = tuner("plan", "--json", *ours(inert, verdicts), MIXTRAL).document
    assert document["ladder"]["word"] == "wrong"
    assert not complaints(document, {**closed(schema), "oneOf": [{"$ref": "#/$defs/plan"}]})


# ---- the user's own values


def test_a_value_of_the_users_is_kept_and_warned_of(inert: Serving, verdicts: Path) -> None:
    """Only other values of it would be right: nothing is written, `serve` says so, and refuses with `--enforce`."""
    own = "-cc.cudagraph_mode=FULL"
    remember_one(verdicts, inert, MIXTRAL, [own], wrong=WRONG_GRAPHS)
    launch = launch_of(inert, verdicts, own)
    assert launch["args"] == [str(MIXTRAL), own]
    assert launch["written"] == {"compilation_config": {}, "options": []}
    answer = served(inert, verdicts, MIXTRAL, own)
    assert answer.out.endswith(f" {own}\n")
    assert "other values of them would be right: cudagraph_mode" in answer.err
    refused = tuner("serve", "--enforce", *ours(inert, verdicts), "--dry-run", MIXTRAL, own, code=4)
    assert refused.out == ""
    _, why = " ".join(refused.err.split()).split("This launch is refused. ")
    assert why.startswith("the launch as it stands answers wrongly")
    assert why.endswith("other values of them would be right: cudagraph_mode")


def test_where_nothing_helps_nothing_is_written(inert: Serving, verdicts: Path) -> None:
    """An arm that is right may not be written as a launch."""
    arms = remember_one(verdicts, inert, MIXTRAL, wrong=WRONG_COMPILED)["arms"]
    remember_one(verdicts, inert, MIXTRAL, arms=[{**arm, "is_setting": arm["name"] == LAUNCH} for arm in arms])
    assert launch_of(inert, verdicts)["args"] == [str(MIXTRAL)]
    assert "nothing that was tried helps" in served(inert, verdicts, MIXTRAL).err
