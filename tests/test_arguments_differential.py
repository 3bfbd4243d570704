"""What we read in an argument list, against what the parsers of seven real releases of vLLM read in it."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from argument_lists import FILE, Composed, composed
from argument_promises import PROMISES, Case, case_of
from hypothesis import HealthCheck, Phase, given, settings
from real_parsers import RELEASES, RealParser, missing, real_parser

from rules.compilation_keys import ALWAYS, CHANGED, unknown_keys
from tuner.options import OPTIONS, scan

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
LISTS = 150
"""How many composed lists each release is asked about; `docs/evidence/make_arguments.py` asks about more."""


@pytest.fixture(scope="module", params=list(RELEASES))
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealParser]:
    """The parser of one release, which starts once."""
    version = str(request.param)
    if reason := missing(version):
        pytest.skip(reason)
    with real_parser(version, tmp_path_factory.mktemp(version)) as parser:
        yield parser


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
