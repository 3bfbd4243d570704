"""What we read in an argument list, against what the parsers of seven real releases of vLLM read in it."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from argument_lists import FILE, Composed, composed
from argument_promises import PROMISES, Case, case_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from real_parsers import RealParser

from rules.compilation_keys import ALWAYS, CHANGED, unknown_keys
from rules.launch_key import ENGINE_ARGUMENTS, HARMLESS, IDENTITY, SHARED, Arity, reaching
from tuner.arguments.serve_arguments import parse
from tuner.arguments.vllm_options import OPTIONS, scan

pytestmark = pytest.mark.vllm

KEY_VALUES = {
    "backend": "eager",
    "cache_dir": "somewhere",
    "compile_cache_save_format": "binary",
    "compile_mm_encoder": False,
    "cudagraph_capture_sizes": [1],
    "cudagraph_copy_inputs": False,
    "cudagraph_decoder_replay": True,
    "cudagraph_mm_encoder": False,
    "cudagraph_num_of_warmups": 0,
    "cudagraph_specialize_lora": True,
    "custom_ops": [],
    "decoder_replay_cudagraph_capture_sizes": [],
    "decoder_replay_trim_threshold": 1,
    "debug_dump_path": "somewhere",
    "dynamic_shapes_config": {},
    "encoder_cudagraph_max_images_per_batch": 1,
    "encoder_cudagraph_max_vision_items_per_batch": 1,
    "encoder_cudagraph_token_budgets": [],
    "inductor_compile_config": {},
    "inductor_passes": {},
    "pass_config": {},
}
"""Values of keys that do not take null."""
ABSENT = {
    "--disable-log-requests": {"0.17.1", "0.18.1", "0.19.1", "0.20.2", "0.26.0", "0.32.0"},
    "--enable-per-request-metrics": {"0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2"},
    "--fail-on-environ-validation": {"0.16.0"},
    "--fingerprint-mode": {"0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2"},
    "--fingerprint-value": {"0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2"},
    "--shutdown-timeout": {"0.16.0", "0.17.1"},
    "--sse-keep-alive-interval": {"0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2", "0.26.0"},
    "--tool-strict-level": {"0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2", "0.26.0"},
}
"""Option of the launch key's tables -> the releases that lack it; every other one is in all of them."""
TAKES = {Arity.FLAG: "0", Arity.SWITCH: "0", Arity.ONE: "1", Arity.OPTIONAL: "?", Arity.MANY: "+"}
HARMLESS_USES = [
    ["--port", "8001"],
    ["--api-key", "a", "b"],
    ["--api_key=a"],
    ["--hf-token"],
    ["--no-enable-log-requests"],
    ["--default-chat-template-kwargs.thinking", "--false"],
    ["--trust-remote-code"],
    ["--response-role=x"],
]
LISTS = 150
"""How many composed lists each release is asked about; `tools/evidence/make_arguments.py` asks about more."""


def test_composed_lists_are_read_as_vllm_reads_them(real: RealParser) -> None:
    """Every promise holds for lists in all spellings; most are real launches, and some lose keys in vLLM itself."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=LISTS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(composed())
    def hold(made: Composed) -> None:
        if made.file is not None:
            (real.folder / FILE).write_text(made.file, encoding="utf-8")
        case = case_of(made.args, real, made.file)
        seen["accepted"] += case.accepted
        seen["losing keys"] += bool(case.accepted and case.ours and case.ours.dropped)
        check(case)

    hold()
    assert seen["accepted"] > LISTS // 2, seen
    assert seen["losing keys"] > LISTS // 20, seen


def test_shortened_options_are_read_as_vllm_reads_them(real: RealParser) -> None:
    """Every option we read, by every beginning of its name and its opposite's, with values that fit and that do not."""
    cases = [case_of(args, real) for args in shortened_lists()]
    for case in cases:
        check(case)
    assert sum(case.accepted for case in cases) > 100
    assert sum(case.ours is None for case in cases) > 100


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_lacks_is_read_as_vllm_reads_it(real: RealParser, number: str) -> None:
    """Accepted wherever any JSON fits, and refused where a key takes something else."""
    fitting = [
        ["-cc", f'{{"inductor_compile_config": {{"a": [{number}]}}}}', "-cc.mode=0"],
        [f"-cc.inductor_compile_config.a={number}"],
        ["--hf-overrides", f'{{"a": {number}}}'],
        ["--speculative-config.num-x", number],
    ]
    cases = [case_of(["some/model", *words], real) for words in (*fitting, [f"-cc.mode={number}"])]
    for case in cases:
        check(case)
    assert [case.accepted for case in cases] == [*[True] * len(fitting), False]


def test_no_other_option_of_vllm_is_read_as_ours(real: RealParser) -> None:
    """An option of vLLM that we do not list is never taken for one we do."""
    listed = {spelling for option in OPTIONS for spelling in option.spellings}
    listed |= {f"--no-{spelling.removeprefix('--')}" for spelling in listed}
    foreign = [spelling for spelling in real.options if spelling not in listed]
    assert len(foreign) > 100
    assert [spelling for spelling in foreign if scan([spelling, "2"])[0]] == []


def test_the_keys_of_the_compilation_config_are_those_that_vllm_takes(real: RealParser) -> None:
    """Each key of the table, with a value that fits, and names that are none: refused exactly where we say so."""
    names = sorted(KEY_VALUES.keys() | ALWAYS | CHANGED.keys() | {"fast_moe_cold_stat", "local_cache_dir"})
    refused = [
        name
        for name in names
        if "refused" in real.read(["some/model", "-cc", json.dumps({name: KEY_VALUES.get(name)})])
    ]
    assert refused == sorted(unknown_keys(names, real.version))
    assert len(refused) > 2


def check(case: Case) -> None:
    """Every promise, with the list that breaks it."""
    for promise in PROMISES:
        try:
            promise(case)
        except AssertionError as broken:
            theirs = case.vllm.get("values", case.vllm)
            raise AssertionError(f"{promise.__name__}: {json.dumps(case.args)}\n{theirs}\n{broken}") from None


def shortened_lists() -> Iterator[list[str]]:
    """Lists of one option each."""
    for option in OPTIONS:
        negations = [f"--no-{option.spellings[0].removeprefix('--')}"]
        for spelling in (*option.spellings, *negations):
            for length in range(2, len(spelling) + 1):
                yield from values_for(spelling[:length])


def values_for(name: str) -> Iterator[list[str]]:
    """A list for each kind of value an option may take; vLLM refuses those that do not fit."""
    if name != "--":
        yield ["some/model", name]
        for value in ('{"mode": 3}', "2"):
            yield ["some/model", name, value]


def test_the_launch_keys_tables_are_those_of_the_parser(real: RealParser) -> None:
    """Each option that is left out exists in this release, unless it is said not to, and takes as many words as stated.

    So no value is mistaken for something else. Where an option is absent it is short for no other.
    """
    listed = {spelling: TAKES[option.arity] for option in (*HARMLESS, *IDENTITY) for spelling in option.spellings}
    listed |= {name: "+" if name == "--served-model-name" else "1" for name in SHARED}
    absent = {name for name in listed if name not in real.options}
    assert absent == {name for name, releases in ABSENT.items() if real.version in releases}
    assert {name: real.options[name] for name in listed if name not in absent} == {
        name: words for name, words in listed.items() if name not in absent
    }
    assert not [option for option in real.options if option.startswith(tuple(absent))]
    for option in (*HARMLESS, *IDENTITY):
        opposite = f"--no-{option.spellings[0].removeprefix('--')}"
        has_opposite = option.arity is Arity.FLAG and option.spellings[0] not in absent
        assert (opposite in real.options) == has_opposite


def test_only_the_named_engine_arguments_are_left_out_of_the_launch_key(real: RealParser) -> None:
    """The other options that are left out are of the server alone: the engine has no argument of their names."""
    names = {option.spellings[0].removeprefix("--").replace("-", "_") for option in HARMLESS}
    lacking = {name.removeprefix("--").replace("-", "_") for name, without in ABSENT.items() if real.version in without}
    assert names & {*real.engine_fields} == ENGINE_ARGUMENTS.keys() - lacking


def test_no_other_option_is_left_out_of_the_launch_key(real: RealParser) -> None:
    """Every option of vLLM that is not in a table reaches the model as far as we know, with its values."""
    listed = {spelling for option in (*HARMLESS, *IDENTITY) for spelling in option.spellings}
    listed |= {f"--no-{spelling.removeprefix('--')}" for spelling in listed}
    foreign = [name for name in real.options if name not in {*listed, "--compilation-config", "-cc"}]
    assert len(foreign) > 100
    for name in foreign:
        for arguments in ([name, "2"], [f"{name}=2"], [f"{name}.port", "--port"]):
            assert reaching(["m", *arguments]) == tuple(arguments)


def test_what_reaches_the_model_is_all_that_vllm_reads(real: RealParser) -> None:
    """From what is left vLLM reads the same values, but for those of the options that were left out."""
    compared = 0

    @settings(
        max_examples=LISTS // 2,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(composed(), st.lists(st.sampled_from(HARMLESS_USES), max_size=2))
    def hold(composition: Composed, uses: list[list[str]]) -> None:
        nonlocal compared
        if composition.file is not None:
            (real.folder / FILE).write_text(composition.file, encoding="utf-8")
        args = (
            [*composition.args, *(argument for use in uses for argument in use)]
            if "--" not in composition.args
            else composition.args
        )
        whole = real.read(args)
        if "refused" in whole:
            return
        left = reaching(parse(args, lambda _path: composition.file or "").effective)
        again = real.read(left if "some/model" in left else ["some/model", *left])
        assert values(again) == values(whole), (args, left)
        compared += 1

    hold()
    assert compared > LISTS // 8


def values(answer: dict[str, Any]) -> dict[str, str]:
    """What vLLM's parser stored, but for the options that the launch key leaves out and the model's two places."""
    left_out = {option.spellings[0].removeprefix("--").replace("-", "_") for option in (*HARMLESS, *IDENTITY)}
    left_out |= {"config", "model_tag"}
    return {name: value for name, value in answer["others"].items() if name not in left_out}


def test_the_model_behind_options_is_the_one_that_vllm_takes(real: RealParser) -> None:
    """Options that we do not read take as many words as the release says, and the next word is the model."""
    lists = [
        ["--max-model-len", "1000", "some/model"],
        ["--max_model_len=1000", "--port", "1", "some/model"],
        ["--served-model-name", "a", "some/model"],
        ["--hf-token", "some/model"],
        ["--disable-log-stats", "some/model", "--port", "1"],
        ["--seed", "1", "-tp", "2", "some/model"],
    ]
    cases = [case_of(args, real) for args in lists]
    for case in cases:
        check(case)
    named = [case.args for case in cases if case.accepted and case.ours and case.ours.model == "some/model"]
    assert named == [lists[index] for index in (0, 1, 4, 5)]
