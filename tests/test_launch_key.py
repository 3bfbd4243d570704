"""Which launches share a proof: what the launch key leaves out, what it never leaves out, and how far it stretches."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.launch_key import (
    HARMLESS,
    HARMLESS_VARIABLES,
    IDENTITY,
    SHARED,
    Arity,
    Listed,
    is_plain,
    launch_key,
    reaching,
    shares,
    variables_agree,
)
from tuner.arguments.serve_arguments import parse
from tuner.engines import proof as launch_proof
from tuner.engines import question
from tuner.probe import runner

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).filter(
    lambda word: not word.startswith("-")
)
REACHING: list[list[str]] = [
    ["--enforce-eager"],
    ["-tp", "2"],
    ["--dtype=float16"],
    ["--hf-overrides.text_config.n", "--port"],
    ["--hf_overrides", '{"n": 2}'],
    ["--cudagraph-capture-sizes", "1", "2"],
    ["--max-model-len", "4096"],
    ["-O3"],
    ["-qfp8"],
    ["--speculative-config", '{"method": "ngram"}'],
    ["--hf-config-path", "elsewhere"],
    ["--code-revision", "main"],
    ["--seed", "1"],
]
"""Options that can reach a model, and forms of the command line that are easily misread."""
PORTS = st.sampled_from([["--port", "8000"], ["--port=1"], ["--served-model-name", "a", "b"]])


@st.composite
def harmless(draw: st.DrawFn) -> list[str]:
    """One use of an option of the table, in any spelling."""
    option = draw(st.sampled_from(HARMLESS))
    name = draw(st.sampled_from(option.spellings)).removeprefix("--")
    if option.arity is Arity.FLAG and draw(st.booleans()):
        name = f"no-{name}"
    name = f"--{draw(st.sampled_from([name, name.replace('-', '_')]))}"
    return draw(st.sampled_from(spelled(option, name, draw(WORDS), draw(WORDS))))


def spelled(option: Listed, name: str, word: str, second: str) -> list[list[str]]:
    """The forms in which vLLM takes an option's values."""
    if option.arity in {Arity.FLAG, Arity.SWITCH}:
        return [[name]]
    joined = f"{name}={word}"
    forms = {
        Arity.ONE: [[name, word], [joined], [f"{name}.key", "--word"], [f"{name}.key={word}"]],
        Arity.OPTIONAL: [[name], [name, word], [joined]],
        Arity.MANY: [[name, word], [name, word, second], [joined]],
    }
    return forms[option.arity]


@given(st.lists(st.sampled_from(REACHING), max_size=4), st.data())
def test_what_cannot_reach_the_model_never_changes_the_key(options: list[list[str]], data: st.DataObject) -> None:
    """Options of the table may come, go and change places; the key and what reaches the model stay the same."""
    mixed = [["some/model"], *options]
    for use in data.draw(st.lists(harmless(), max_size=4)):
        mixed.insert(data.draw(st.integers(1, len(mixed))), use)
    plain = [argument for option in options for argument in option]
    arguments = [argument for part in mixed for argument in part]
    assert reaching(arguments) == tuple(plain)
    assert launch_key(arguments, {}) == launch_key(["other/model", *plain], {})


@given(st.lists(st.sampled_from(REACHING), unique_by=tuple, max_size=4), st.sampled_from(REACHING), harmless())
def test_what_can_reach_the_model_always_changes_the_key(
    options: list[list[str]], option: list[str], other: list[str]
) -> None:
    """Every argument that is not listed counts, wherever it stands."""
    plain = [argument for part in options for argument in part]
    without = launch_key(["m", *plain, *other], {})
    assert launch_key(["m", *option, *plain, *other], {}) != without
    assert launch_key(["m", *plain, *other, *option], {}) != without


@given(st.sampled_from(HARMLESS), WORDS)
def test_what_is_not_understood_counts(option: Listed, word: str) -> None:
    """A shortened option, one that lacks its value, and a flag that is given one stay in the list."""
    name = option.spellings[0]
    odd = [[name[:-1], word], [f"{name}-more", word]]
    odd += [[name, "--enforce-eager"]] if option.arity in {Arity.ONE, Arity.MANY} else []
    odd += [[f"{name}={word}"]] if option.arity in {Arity.FLAG, Arity.SWITCH} else []
    for arguments in odd:
        assert reaching(["m", *arguments]) == tuple(arguments)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["m"], []),
        (["--port", "1", "m"], []),
        (["--port", "1", "--", "m"], []),
        (["--model", "m", "--revision=main", "--trust_remote_code"], []),
        (["--model=m", "--model-impl", "vllm", "--no-trust-remote-code"], []),
        (["m", "-cc", "{}", "-cc.mode=0", "--compilation_config.pass_config.a", "--b", "-cc={}"], []),
        (["--enforce-eager", "m"], ["--enforce-eager", "m"]),  # only vLLM's own parser knows that it takes no value
        (["m", "--served-model-name", "a", "b", "--port", "1"], ["--served-model-name", "a", "b"]),
        (["m", "--api-key", "a", "b", "--enforce-eager"], ["--enforce-eager"]),
        (["m", "--api-key", "a", "--", "b"], ["--", "b"]),
        (["m", "--hf-token", "--enforce-eager"], ["--enforce-eager"]),
        (["m", "--x.y", "--port", "--port", "1"], ["--x.y", "--port"]),  # a dotted option takes what stands behind it
        (["m", "n"], ["n"]),
        (["m", "--config", "f.yaml"], ["--config", "f.yaml"]),
        (["m", "--port"], ["--port"]),
        ([], []),
    ],
)
def test_an_argument_list_is_read_as_vllm_reads_it(arguments: list[str], left: list[str]) -> None:
    """The model, what names it, the compilation config and the options of the table go; all else stays as it was."""
    assert reaching(arguments) == tuple(left)


def test_the_compilation_config_counts_but_for_our_own_keys() -> None:
    """The flag, the cache folder and keys that are null make no other launch; any other key and value does."""
    plain = launch_key(["m"], {})
    for config in ({"fast_moe_cold_start": True}, {"cache_dir": "x"}, {"mode": None}):
        assert launch_key(["m"], config) == plain
        assert is_plain(["m"], config)
    others: list[dict[str, Any]] = [{"mode": 3}, {"mode": 0}, {"pass_config": {"a": None}}, {"pass_config": {}}]
    keys = {launch_key(["m"], config) for config in others}
    assert len(keys | {plain}) == len(others) + 1
    assert not any(is_plain(["m"], config) for config in others)
    assert launch_key([], {"a": 1, "b": 2}) == launch_key([], {"b": 2, "a": 1})


def test_a_plain_launch_asks_for_nothing_that_reaches_the_model() -> None:
    """Ports, keys and the model's own name leave a launch plain; a name to serve under, or a data type, does not."""
    assert is_plain(["m", "--port", "1", "--trust-remote-code"], {})
    assert not is_plain(["m", "--dtype", "float16"], {})
    assert not is_plain(["m", "--served-model-name", "x"], {})


def shared(arguments: list[str], proof: list[str], fields: list[str], config: dict[str, Any] | None = None) -> bool:
    """Whether a proof of one launch, made without a compilation config, holds for another."""
    return shares(arguments, config or {}, launch_key(proof, {}), reaching(proof), fields)


@pytest.mark.parametrize("option", SHARED)
def test_a_proof_is_shared_where_no_field_of_an_option_was_read(option: str) -> None:
    """An option of the table makes no other launch, in both directions, unless one of its fields was read."""
    arguments = ["m", "--dtype=float16", option, "8"]
    for own, proof in ((arguments, ["m", "--dtype=float16"]), (["m", "--dtype=float16"], arguments)):
        assert shared(own, proof, [])
        assert shared(own, proof, ["model_config.dtype", "compilation_config"])
        for field in SHARED[option]:
            assert not shared(own, proof, ["model_config.dtype", field])
            assert not shared(own, proof, [f"{field}.below"])
    assert shared(arguments, arguments, list(SHARED[option]))


def test_a_proof_is_not_shared_beyond_the_table() -> None:
    """Any other difference makes another launch: another option, its value, its place, or the compilation config."""
    assert not shared(["m", "--dtype", "half"], ["m"], [])
    assert not shared(["m", "--dtype", "half", "--max-num-seqs", "4"], ["m", "--max-num-seqs", "8"], [])
    assert not shared(["m", "--max-num-seqs", "4"], ["m"], [], {"mode": 0})
    assert not shared(["m", "--max-num-seq", "4"], ["m"], [])
    assert shared(["m", "--max-num-seqs", "4", "--port", "1"], ["m", "--max_num_seqs=8"], [])


def test_two_values_of_two_options_are_shared_where_neither_was_read() -> None:
    """Several options of the table may differ at once; a field of any of them stops it."""
    own, proof = ["m", "--max-num-seqs", "4", "--served-model-name", "a", "b"], ["m", "--stream-interval", "2"]
    assert shared(own, proof, ["model_config.max_model_len"])
    assert not shared(own, proof, ["model_config.served_model_name"])
    assert not shared(own, proof, ["scheduler_config.stream_interval"])


def test_every_option_is_listed_once() -> None:
    """No spelling stands for two options, and nothing that is left out of the key is shared as well."""
    spellings = [spelling for option in (*HARMLESS, *IDENTITY) for spelling in option.spellings]
    assert len(spellings) == len({*spellings})
    assert not {*spellings} & {*SHARED}


def digest(value: str) -> str:
    """What is recorded of a value."""
    return hashlib.sha256(value.encode()).hexdigest()


def test_variables_agree_where_each_has_the_value_that_was_read() -> None:
    """One that was not set differs from one that is empty; one that nobody read may be anything."""
    recorded = {"A": digest("1"), "B": "", "C": digest("")}
    assert variables_agree(recorded, {"A": "1", "C": "", "D": "unread"})
    for environ in ({"A": "2", "C": ""}, {"C": ""}, {"A": "1", "B": "", "C": ""}, {"A": "1"}):
        assert not variables_agree(recorded, environ)
    assert variables_agree({name: digest("1") for name in HARMLESS_VARIABLES}, {"HOME": "elsewhere"})


def test_what_the_tool_sets_for_its_own_processes_is_harmless() -> None:
    """Else no proof would hold for any launch."""
    assert {*runner.SETTINGS, *launch_proof.SETTINGS, *question.SETTINGS, *question.CPU} <= {*HARMLESS_VARIABLES}


@given(PORTS, st.booleans())
def test_a_config_files_options_count_as_the_command_lines(port: list[str], first: bool) -> None:
    """What the file says is part of the launch; its place among the arguments is vLLM's."""
    text = "max-num-seqs: 8\nserved_model_name: [x, y]\nenforce-eager: true\nenable-prefix-caching: false\n"
    args = ["m", *port, "--config", "f.yaml"] if first else [*port, "--config", "f.yaml", "--model", "m"]
    effective = parse(args, lambda _path: text).effective
    in_file = ["--max-num-seqs", "8", "--served_model_name", "x", "y", "--enforce-eager"]
    assert effective == (*(["m", *in_file, *port] if first else [*in_file, *port, "--model", "m"]),)
    assert parse(["m", *port]).effective == ("m", *port)
    assert launch_key(effective, {}) == launch_key(["n", *in_file, *port], {})
