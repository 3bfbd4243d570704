"""How a `vllm serve` argument list is read and rewritten, by example; the differential asks the real parser."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rules.errors import TunerError
from tuner.arguments.serve_arguments import merge, parse
from tuner.errors import ExitCode, exit_code_of

OFF = {"fast_moe_cold_start": False}


def file_of(text: str) -> dict[str, Any]:
    """Keyword arguments that make every path read as `text`."""
    return {"read_text": lambda _path: text}


def test_without_additions_the_list_is_untouched() -> None:
    """Nothing to add means the very same arguments, oddities included."""
    args = ("m", "-cc.mode", "3", "-cc", '{ "mode":0 }', "--served_model_name", "a", "--", "")
    assert merge(parse(args), {}) == args


def test_json_and_dotted_keys_are_kept_together() -> None:
    """A key that vLLM would drop stays in the merged config, and a warning names it."""
    arguments = parse(["m", "-cc", '{"mode": 3, "pass_config": {"a": 1}}', "-cc.pass_config.b=2"])
    assert arguments.compilation_config == {"mode": 3, "pass_config": {"a": 1, "b": 2}}
    assert arguments.dropped == ("mode", "pass_config.a")
    assert "mode, pass_config.a" in arguments.warnings[0]


def test_merged_option_stands_where_the_users_stood() -> None:
    """Behind an option of many values the compilation config sets the model apart, so it is replaced in place."""
    for before, after in (([], []), (["-cc={}"], []), ([], ["-cc={}"]), ([], ["-cc.mode=0"])):
        merged = merge(parse([*before, "--lora-modules", "a=b", "-cc", '{"mode": 0}', "m", *after]), OFF)
        expected = json.dumps({"mode": 0, **OFF})
        assert merged == ("--lora-modules", "a=b", "--compilation-config", expected, "m")


def test_merged_option_stands_before_the_positional_part() -> None:
    """Behind `--` vLLM would read an option as a stray word."""
    assert merge(parse(["-tp", "2", "--", "m"]), OFF) == (
        "-tp",
        "2",
        "--compilation-config",
        json.dumps(OFF),
        "--",
        "m",
    )


def test_a_key_of_the_user_wins() -> None:
    """The user's explicit value survives an addition for the same key, `null` included."""
    for value in (True, None):
        merged = merge(parse(["m", "-cc", json.dumps({"fast_moe_cold_start": value, "mode": 3})]), OFF)
        assert merged == ("m", "--compilation-config", json.dumps({"fast_moe_cold_start": value, "mode": 3}))


def test_optimization_level_is_left_alone() -> None:
    """`-O` sets no compilation config key, in any of its forms."""
    args = ["m", "-O3", "-O", "2", "-O=1"]
    assert parse(args).without_config == tuple(args)
    assert parse(args).compilation_config == {}


def test_config_file_and_command_line_are_merged() -> None:
    """Keys of the `--config` file survive a compilation config on the command line, which wins where both set one."""
    text = "model: m\ncompilation-config:\n  mode: 3\n  cache_dir: /a\nenforce-eager: true\n"
    arguments = parse(["--config", "serve.yaml", "-cc.mode=0"], **file_of(text))
    assert arguments.model == "m"
    assert arguments.compilation_config == {"mode": 0, "cache_dir": "/a"}
    assert arguments.dropped == ("cache_dir",)
    assert arguments.serving.enforce_eager
    merged = merge(arguments, OFF)
    assert merged == ("--config", "serve.yaml", "--compilation-config", json.dumps(arguments.compilation_config | OFF))


@pytest.mark.parametrize(("vllm", "refused"), [("0.14.1", True), ("0.15.1", True), ("0.16.0", False), (None, False)])
def test_a_mapping_in_a_config_file_is_for_newer_releases(vllm: str | None, refused: bool) -> None:
    """Releases before 0.16 write it as Python does, which is not JSON."""
    file = file_of("compilation-config: {mode: 3}\n")
    if not refused:
        assert parse(["m", "--config", "a.yml"], **file, vllm=vllm).compilation_config == {"mode": 3}
        return
    with pytest.raises(TunerError, match="JSON"):
        parse(["m", "--config", "a.yml"], **file, vllm=vllm)


def test_dotted_keys_of_a_config_file_are_outvoted_by_dotted_keys() -> None:
    """VLLM stores a file's dotted keys behind any JSON value, so only dotted keys can win over them."""
    arguments = parse(["m", "--config", "a.yml"], **file_of("compilation-config.mode: 3\n"))
    assert merge(arguments, OFF) == ("m", "--config", "a.yml", "-cc.mode=3", "-cc.fast_moe_cold_start=false")


def test_joined_config_file_is_reported_as_ignored() -> None:
    """`--config=FILE` is not read, as vLLM does not read it, and the user is told."""
    arguments = parse(["m", "--config=serve.yaml"], **file_of("model: other\n"))
    assert arguments.model == "m"
    assert "vLLM ignores --config=serve.yaml" in arguments.warnings[0]


@pytest.mark.parametrize(
    ("args", "model"),
    [
        (["m", "--port", "8000"], "m"),
        (["--enforce-eager", "m"], "m"),
        (["--model", "m", "-tp", "2"], "m"),
        (["-tp", "2", "--model=m"], "m"),
        (["--port", "8000", "--", "m"], "m"),
        (["--port=8000", "m"], "m"),
        (["--port", "8000", "m"], None),
        ([], None),
    ],
)
def test_model_is_found_where_it_can_be_told(args: list[str], model: str | None) -> None:
    """A bare word behind an option we do not know may be its value, so it is never taken for the model."""
    assert parse(args).model == model


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--hf-overrides", '{"a": 1}', "--hf-overrides.b=2"], "Of several --hf-overrides vLLM keeps only one"),
        (["-sc", '{"model": "d"}', "--speculative-config.method=mtp"], "several --speculative-config vLLM keeps only"),
    ],
)
def test_keys_that_vllm_drops_from_other_options_are_named(args: list[str], sentence: str) -> None:
    """They are vLLM's to read, so they stay as they are; but what is lost is said."""
    arguments = parse(["m", *args])
    (warning,) = arguments.warnings
    assert sentence in warning
    assert merge(arguments, {}) == ("m", *args)
    assert parse(["m", *args[2:]]).warnings == ()


def test_a_false_that_vllm_drops_from_the_file_is_named() -> None:
    """Only of options that may be on by default; the way out is the opposite option."""
    file = file_of("enforce-eager: false\nenable-prefix-caching: false\n")
    (warning,) = parse(["m", "--config", "a.yaml"], **file).warnings
    assert "drops `enable-prefix-caching: false`" in warning
    assert "`no-enable-prefix-caching: true`" in warning


@pytest.mark.parametrize("level", [["-O", "3"], ["-O3"], ["-O=3"], ["--optimization-level", "3"], ["--optimi=3"]])
def test_every_spelling_of_the_level_is_read(level: list[str]) -> None:
    """`-O` and its long form set one fact, of which the last one counts."""
    arguments = parse(["m", "-O0", *level])
    assert arguments.serving.optimization_level == "3"
    assert arguments.compilation_config == {}


def test_draft_options_make_one_speculative_config() -> None:
    """`--spec-…` (0.32.0) and `--speculative-config` state one draft, dashes in keys made underscores."""
    arguments = parse(["m", "-sc.num-speculative-tokens=2", "--spec-method", "mtp", "--spec-model", "d"])
    assert arguments.serving.speculative == {"num_speculative_tokens": 2, "method": "mtp", "model": "d"}


@pytest.mark.parametrize("last", ["", "None"])
def test_a_draft_option_given_again_without_a_value_is_taken_back(last: str) -> None:
    """VLLM keeps the last value, which is none."""
    assert parse(["m", "--spec-model", "d", f"--spec-model={last}"]).serving.speculative is None
    both = parse(["m", "--spec-model", "d", "--spec-tokens=2", f"--spec_model={last}"])
    assert both.serving.speculative == {"num_speculative_tokens": 2}


def test_numbers_with_a_suffix_mean_what_they_mean_to_vllm() -> None:
    """`k` counts in thousands and `K` in 1024s, dotted or bare in JSON; quoted text is left alone."""
    args = ["m", "-cc.max_cudagraph_capture_size=2k", "-cc.n.big", "2K", "-cc.n.half=1.5k", '-cc.n.text="2k"']
    assert parse(args).compilation_config == {
        "max_cudagraph_capture_size": 2000,
        "n": {"big": 2048, "half": 1500, "text": "2k"},
    }
    assert parse(["m", "-cc", '{"a": 0k, "b": "1k"}']).compilation_config == {"a": 0, "b": "1k"}
    assert parse(["m", "-cc.n.half=1.5k"], vllm="0.19.1").compilation_config == {"n": {"half": "1.5k"}}


@pytest.mark.parametrize(
    ("args", "part", "code"),
    [
        (["m", "-cc", "3"], "not a JSON object", 2),
        (["m", "-cc={mode: 3}"], "not a JSON object", 2),
        (["m", "--compilation-config", ""], "not a JSON object", 2),
        (["m", "-sc", "{"], "not a JSON object", 2),
        (["m", "-sc", "[1]"], "not a JSON object", 1),
        (["m", "--hf-overrides", "{"], "not a JSON object", 1),
        (["m", "-cc"], "has no value", 2),
        (["m", "-cc", "--port"], "has no value", 2),
        (["m", "-cc.mode"], "has no value", 1),
        (["--model"], "has no value", 1),
        (["m", "-tp", "two"], "not an integer", 2),
        (["m", "--config"], "has no value", 1),
        (["m", "--config", "a.yaml", "--config", "b.yaml"], "more than once", 1),
        (["m", "--config", "a.json"], "neither .yaml nor .yml", 1),
        (["m", "--config", "missing.yaml"], "missing.yaml cannot be read: No such file", 1),
    ],
)
def test_unusable_arguments_are_a_usage_error(
    args: list[str], part: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vLLM would refuse is refused before it starts, with a sentence and vLLM's own exit code.

    That is 2 from its parser, and 1 where it ends with a traceback; the differential compares the two.
    """
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TunerError) as raised:
        parse(args)
    assert part in raised.value.message
    assert (raised.value.kind, exit_code_of(raised.value)) == ({2: "usage", 1: "arguments"}[code], code)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "a: \x00\n"])
def test_unusable_config_file_is_a_usage_error(text: str, tmp_path: Path) -> None:
    """A `--config` file that holds no mapping is named, with the reason."""
    path = tmp_path / "serve.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TunerError, match=r"serve\.yaml cannot be used") as raised:
        parse(["m", "--config", str(path)])
    assert exit_code_of(raised.value) is ExitCode.ERROR


DEEP = ".".join("a" * 3000)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-cc", "[" * 3000], "of -cc is nested more than 100 levels deep"),
        (["-cc", '{"a":' * 200 + "1" + "}" * 200], "of -cc is nested more than 100 levels deep"),
        (["--hf-overrides", '{"a":' * 3000], "of --hf-overrides is nested more than 100 levels deep"),
        (["-cc.mode", "[" * 3000], "of -cc is nested more than 100 levels deep"),
        ([f"-cc.{DEEP}=1", f"-cc.{DEEP}=2"], "of -cc is nested more than 100 levels deep"),
    ],
)
def test_a_value_that_is_nested_too_deeply_is_refused(args: list[str], said: str) -> None:
    """A sentence, where Python's own limits would end with a traceback."""
    with pytest.raises(TunerError, match=re.escape(said)) as caught:
        parse(["m", *args])
    assert caught.value.kind == "arguments"


@pytest.mark.parametrize(
    ("number", "written"),
    [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"), ("1e999", "Infinity")],
)
def test_a_number_that_json_lacks_is_one_to_vllm(number: str, written: str) -> None:
    """Python's reader and pydantic's take it, so it is handed on as it was given, or merged as the same number."""
    for config in (["-cc", f'{{"a": [{number}]}}'], [f"-cc.a=[{number}]"]):
        arguments, merged = parse(["m", *config]), f'{{"a": [{written}], "fast_moe_cold_start": false}}'
        assert merge(arguments, {}) == ("m", *config)
        assert merge(arguments, OFF) == ("m", "--compilation-config", merged)
    both = parse(["m", "-cc", f'{{"a": {number}}}', "-cc.b=1"])
    assert merge(both, {}) == ("m", "--compilation-config", f'{{"a": {written}, "b": 1}}')


@pytest.mark.parametrize("option", ["--hf-overrides", "--speculative-config"])
def test_facts_with_such_a_number_are_equal_where_their_texts_are(option: str) -> None:
    """NaN is not equal to itself; a decision for one list is still the one for the same list."""
    first, again, other = (parse(["m", option, f'{{"a": {number}}}']) for number in ("NaN", "NaN", "Infinity"))
    assert first == again
    assert first.serving != other.serving


@pytest.mark.parametrize("number", ["9" * 400 + ".5k", "9" * 400 + "k", "9" * 5000 + "K", "9" * 4295 + "T"])
def test_a_number_too_long_to_be_written_out_stays_text(number: str) -> None:
    """No float and no integer of Python's holds it; vLLM itself ends with a traceback."""
    assert parse(["m", "-cc.a", number]).compilation_config == {"a": number}
    with pytest.raises(TunerError, match="not a JSON object"):
        parse(["m", "-cc", f'{{"a": {number}}}'])


def test_reading_arguments_imports_neither_yaml_nor_subprocess() -> None:
    """The look-up path stays light: without `--config` no YAML library is loaded."""
    code = (
        "import sys; from tuner.arguments.serve_arguments import parse; "
        "import tuner.launch.serve; parse(['m', '-cc.mode=3'])\n"
        "print(sorted({'yaml', 'subprocess', 'asyncio', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[1]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-tp", "9x" * 4000], "The value 9x9x"),
        (["-cc", "x" * 8000], "The value xxxx"),
        (["-cc", "x\ny"], r"The value 'x\ny' of -cc is not a JSON object."),
        (["-cc." + "x" * 8000], "The option -cc.xxxx"),
    ],
)
def test_a_long_word_is_cut_in_the_sentence_on_it(args: list[str], words: str) -> None:
    """Its start says which word it is; what breaks a line is escaped."""
    with pytest.raises(TunerError) as error:
        parse(["m", *args])
    assert error.value.message.startswith(words)
    assert error.value.message.endswith(".")
    assert len(error.value.message) < 200
