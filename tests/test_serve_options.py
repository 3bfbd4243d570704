"""What is said of an argument list by the options of its release: unknown ones, values, contradictions."""

import json
import re
from collections.abc import Collection
from pathlib import Path

import pytest
from effort import calls_of
from fuzz.limit import limited

from rules.releases import RELEASES
from tuner.arguments.option_conflicts import conflicts_in
from tuner.arguments.option_faults import FROM_FILE, Fault, FaultKind, read_options
from tuner.arguments.refusals import Refusals, refusals
from tuner.arguments.release_options import FILE, OptionTable, option_table
from tuner.arguments.serve_arguments import ServeArguments, parse

ROOT = Path(__file__).parents[1]
WHOLE = {"0.19.1", "0.32.0"}
"""Releases that a serving environment pins."""


def table_of(vllm: str) -> OptionTable:
    """The table for a version."""
    table = option_table(vllm)
    assert table is not None
    return table


def faults(line: str, vllm: str = "0.19.1", unknown: Collection[int] = (), *, complete: bool = True) -> list[Fault]:
    """The faults of a line of words."""
    arguments = parse(line.split(" "), vllm=vllm)
    return [*read_options(arguments, table_of(vllm), unknown, complete=complete).faults]


def conflicts(line: str, vllm: str = "0.19.1") -> list[tuple[int, bool]]:
    """Where a line contradicts itself, and whether vLLM refuses it."""
    arguments = parse(line.split(" "), vllm=vllm)
    options = read_options(arguments, table_of(vllm)).options
    return [(c.index, c.refused) for c in conflicts_in(options, arguments.compilation_config, table_of(vllm))]


def test_every_release_of_the_support_window_is_listed() -> None:
    """All that the table of the flag knows, from 0.14.1 to 0.33.0; each is exact."""
    for release in RELEASES:
        assert table_of(release.version).exact, release.version


def test_every_listed_release_is_pinned() -> None:
    """So that the table can be made again: by a wheel with its hash, or as a serving environment."""
    pins = "".join((ROOT / "environments" / name).read_text() for name in ("parsers.txt", "option_parsers.txt"))
    pinned = set(re.findall(r"^vllm(?:-cpu)?==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", pins, re.MULTILINE))
    listed = re.findall(r'"releases":\[(.*?)\]', FILE.read_text(encoding="utf-8").replace('", "', '","'))
    assert {*listed[0].replace('"', "").split(",")} == pinned | WHOLE


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("m --cc {}", FaultKind.UNKNOWN, "vLLM 0.19.1 does not know the option --cc, and .* The nearest option is -cc"),
        ("m --swap-space 4", FaultKind.UNKNOWN, r"--swap-space \(an option until 0.18.0\)"),
        (
            "m --disable-log-requests",
            FaultKind.UNKNOWN,
            r"\(an option until 0.17.0, and from 0.33.0 on\).* --no-enable-log-requests",
        ),
        ("m --task embed", FaultKind.UNKNOWN, "--runner pooling"),
        ("m --tensor-paralel-size 2", FaultKind.UNKNOWN, "The nearest option is --tensor-parallel-size"),
        ("m --tensor_paralel_size=2", FaultKind.UNKNOWN, "The nearest option is --tensor-parallel-size"),
        ("m --fingerprint-mode hash", FaultKind.UNKNOWN, r"\(an option from 0\.\d+\.0 on\)"),
        ("m --max 3", FaultKind.UNKNOWN, "may be short for --max-"),
        ("m second", FaultKind.UNKNOWN, "no second argument"),
        ("m --max-model-len abc", FaultKind.VALUE, "abc of --max-model-len is not an integer"),
        ("m --dtype float17", FaultKind.VALUE, "float17 of --dtype is not one of auto, bfloat16"),
        ("m --port", FaultKind.VALUE, "--port has no value"),
        ("m --port --host x", FaultKind.VALUE, "--port has no value"),
        ("m --enable-lora=true", FaultKind.VALUE, "takes no value"),
        ("m --port=eight", FaultKind.VALUE, "not an integer"),
        ("m --limit-mm-per-prompt image=0", FaultKind.VALUE, "not JSON"),
        ("m --kv-transfer-config [1]", FaultKind.VALUE, "not a JSON object"),
        ('m --kv-transfer-config {"kv_conector":1}', FaultKind.VALUE, "kv_connector may be meant"),
        ("--served-model-name a --port 1", FaultKind.VALUE, "model is not the first"),
        ("m -- --model", FaultKind.VALUE, "--model has no value"),
    ],
)
def test_what_vllm_refuses_is_named(line: str, kind: FaultKind, words: str) -> None:
    """One fault, of its kind, with what is wrong and what may be meant."""
    (fault,) = faults(line)
    assert fault.kind is kind
    assert re.search(words, fault.text), fault.text


@pytest.mark.parametrize(
    "line",
    [
        "m -tp 2 --max-model-len 32k --gpu-memory-util 0.9 --served_model_name a b",
        "m -O3 -cc.mode=3 -cc {} --compilation-config.cudagraph_mode NONE -O 2",
        "--model m --port 1 --no-enable-prefix-caching",
        "--port 1 -- m",
        "m -qfp8 -q=fp8 --cpu-offload-gb -0.5x=1",
        "m --hf-overrides.a.b 2 --kv-transfer-config None --seed 1_000",
    ],
)
def test_what_vllm_takes_has_no_fault(line: str) -> None:
    """Every way to write an option, a value and the model."""
    lists = line.replace(" --cpu-offload-gb -0.5x=1", " --cpu-offload-gb=-0.5")
    assert faults(lists) == []


def test_all_faults_are_named_where_they_stand() -> None:
    """The index is that of the argument, and a value behind an unknown option is not a second model."""
    line = "m --swap-space 4 --port eight --model-x=1 --dtype float17"
    assert [(fault.index, fault.kind) for fault in faults(line)] == [
        (1, FaultKind.UNKNOWN),
        (4, FaultKind.VALUE),
        (5, FaultKind.UNKNOWN),
        (7, FaultKind.VALUE),
    ]


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("m --port $PORT", {2}),
        ("m --port=$PORT", {1}),
        ("m $EXTRA word --dtype half", {1}),
        ("$MODEL --port 1 second", {0}),
        ("m --$NAME", {1}),
        ("--port 1 $REST --served-model-name a", {2}),
        ("m -O $LEVEL", {2}),
        ("m --dtype.x $A", {2}),
    ],
)
def test_an_unknown_value_is_not_judged(line: str, unknown: set[int]) -> None:
    """Whatever it may stand for, this is not a fault; the same words as they are written are one."""
    assert faults(line, unknown=unknown) == []
    assert faults(line) != []


def test_what_hidden_arguments_may_hold_is_not_missed() -> None:
    """A value or a model that is not there may be among them; an unknown option is unknown in any case."""
    assert faults("m --port", complete=False) == []
    assert faults("--served-model-name a", complete=False) == []
    assert [fault.index for fault in faults("m --swap-space 4", complete=False)] == [1]


def test_a_release_decides_by_its_own_options() -> None:
    """`--swap-space` went with 0.18.0, and `None` became a choice after 0.19.1."""
    assert faults("m --swap-space 4", "0.17.1") == []
    assert len(faults("m --swap-space 4", "0.18.0")) == 1
    assert faults("m --safetensors-load-strategy None", "0.32.0") == []
    assert faults("--port 1 --served-model-name a", "0.16.0") == []
    assert len(faults("m --mm-encoder-attn-dtype fp8", "0.19.1")) == 1


def test_another_server_and_what_a_document_leaves_out_are_not_judged() -> None:
    """`--omni` starts the server of vllm-omni, and dots stand for any arguments."""
    assert faults("m --omni --deploy-config x") == []
    assert faults("m ... --port 1") == []
    assert len(faults("m --deploy-config x")) == 1


def test_a_switch_has_all_its_opposites() -> None:
    """0.33.0 takes `--disable-x` for `--no-enable-x`, and still takes the latter."""
    assert faults("m --disable-lora --no-enable-lora", "0.33.0") == []
    assert len(faults("m --disable-lora", "0.32.0")) == 1
    assert conflicts("m --enable-lora --disable-lora", "0.33.0") == [(2, False)]
    assert conflicts("m --enable-lora --no-enable-lora", "0.33.0") == [(2, False)]


def test_what_a_config_file_holds_is_read_before_the_command_line(tmp_path: Path) -> None:
    """Its options are judged, too, and have no place in the list."""
    file = tmp_path / "serve.yaml"
    file.write_text("swap-space: 4\nport: 8000\n", encoding="utf-8")
    arguments = parse(["m", "--config", str(file), "--dtype", "float17"])
    reading = read_options(arguments, table_of("0.19.1"))
    assert [fault.index for fault in reading.faults] == [FROM_FILE, 4]
    assert [option.name for option in reading.options] == ["--port", "--dtype"]


@pytest.mark.parametrize("vllm", [None, "0.1.dev1+g123", "0.19.2.dev5+gabc", "0.10.2", "main"])
def test_without_a_release_nothing_is_judged(vllm: str | None) -> None:
    """A source build, a version that cannot be read, and a release before the table."""
    assert option_table(vllm) is None
    assert refusals(parse(["m", "--swap-space", "4"]), vllm) == Refusals()


@pytest.mark.parametrize("vllm", ["0.18.7", "0.99.0"])
def test_a_release_that_is_not_listed_is_doubted_only(vllm: str) -> None:
    """The nearest older release is asked, and the sentence says so."""
    refused = refusals(parse(["m", "--tensor-paralel-size", "4"]), vllm)
    assert refused.certain == ()
    (text,) = refused.doubtful
    assert f"Judged by the options of vLLM {table_of(vllm).basis}: those of {vllm} are not listed here." in text


@pytest.mark.parametrize("vllm", ["0.19.1+g1a2b3c4d", "0.19.1+g1a2b3c4d.d20260131.cu128", "0.19.1+d20260131"])
def test_a_build_from_source_is_doubted_only(vllm: str) -> None:
    """Changed files may have an option or a key that the release has not."""
    refused = refusals(parse(["m", "--swap-space", "4", "-cc", '{"foo": 1}']), vllm)
    assert refused.certain == ()
    assert [text.partition(",")[0] for text in refused.doubtful] == [
        f"vLLM {vllm} does not know foo",
        f"vLLM {vllm} does not know the option --swap-space (an option until 0.18.0)",
    ]


def test_a_key_of_a_build_between_releases_is_doubted_only() -> None:
    """It may be one that the next release will have; a candidate is as it was published."""
    arguments = parse(["m", "-cc", '{"foo": 1}'])
    assert refusals(arguments, "0.19.2.dev5+g1a2b3c4d") == Refusals(
        (),
        ("vLLM 0.19.2.dev5+g1a2b3c4d does not know foo, and does not start with it. A build from source may know it.",),
    )
    assert len(refusals(arguments, "0.20.0rc1").certain) == 1
    assert len(refusals(arguments, "0.19.1+cu128").certain) == 1


def test_a_platform_of_a_plugin_may_have_options_of_its_own() -> None:
    """What it lacks is doubted only."""
    arguments = parse(["m", "--swap-space", "4"])
    assert refusals(arguments, "0.19.1", "oot:other").certain == ()
    assert len(refusals(arguments, "0.19.1", "oot:other").doubtful) == 1
    assert refusals(arguments, "0.19.1", "tpu").certain == ()
    assert len(refusals(arguments, "0.19.1+cu128", "cuda").certain) == 1


def test_keys_of_the_compilation_config_are_named_once() -> None:
    """With when they were there, or what may be meant."""
    refused = refusals(parse(["m", "-cc", '{"level": 3, "cudagraf_mode": "NONE"}']), "0.19.1")
    assert refused == Refusals(
        (
            "vLLM 0.19.1 does not know level (a key until 0.18.0, then mode), and does not start with it.",
            "vLLM 0.19.1 does not know cudagraf_mode, and does not start with it. The nearest key is cudagraph_mode.",
        )
    )


def test_a_key_is_shown_short_and_on_one_line() -> None:
    """Keys of others may be empty or very long."""
    refused = refusals(parse(["m", "-cc", json.dumps({"": 1, "a" * 10_000: 1})]), "0.19.1")
    assert refused.certain[0].startswith("vLLM 0.19.1 does not know '', ")
    assert len(refused.certain[1]) < 200


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m --enable-lora --no-enable-lora", [(2, False)]),
        ("m --enable-lora --enable-lora", []),
        ("m --no-enable-lora --port 1 --enable-lora --no-enable-lora", [(4, False), (5, False)]),
        ("m --data-parallel-size-local 4", [(1, True)]),
        ("m --data-parallel-size-local 4 -dp 4", []),
        ("m -dpl 4 -dp 2", [(1, True)]),
        ("m -dpl 4 -dp 2 --data-parallel-rank 1", []),
        ("m --headless --api-server-count 2", [(2, True)]),
        ("m --headless --api-server-count 0", []),
        ("m --enable-auto-tool-choice", [(1, True)]),
        ("m --enable-auto-tool-choice --tool-call-parser hermes", []),
        ("m --enable-auto-tool-choice --no-enable-auto-tool-choice", [(2, False)]),
        ("m --enable-log-outputs", [(1, True)]),
        ("m --enable-log-outputs --enable-log-requests", []),
        ("m --enforce-eager -cc.mode=3", [(1, False)]),
        ("m --enforce-eager -cc.mode=0 -cc.cudagraph_mode=NONE", []),
        ("m --enforce-eager -cc.cudagraph_mode=FULL", [(1, False)]),
        ("m --no-enforce-eager -cc.cudagraph_mode=FULL", []),
    ],
)
def test_contradictions(line: str, expected: list[tuple[int, bool]]) -> None:
    """Each with its place, and whether vLLM ends or drops one of the options."""
    assert conflicts(line) == expected


def test_eager_leaves_the_mode_alone_before_0_17() -> None:
    """There an explicit mode compiles beside it; the graphs are off in every release."""
    assert conflicts("m --enforce-eager -cc.mode=3", "0.16.0") == []
    assert conflicts("m --enforce-eager -cc.cudagraph_mode=FULL", "0.16.0") == [(1, False)]


@pytest.mark.parametrize("words", ["-O.mode=3", "-O5", "-Ofast", "--optimization-level 5", "-O=x"])
def test_what_is_not_a_level_of_optimization(words: str) -> None:
    """The parser takes it, and the config behind it does not; older releases took a compilation config there."""
    (fault,) = read_options(parse(["m", *words.split()]), table_of("0.19.1")).faults
    assert "is not a level from 0 to 3" in fault.text


def test_many_faults_end() -> None:
    """Each fault looks for the nearest option, so no more are named than a person reads."""
    arguments = parse(["m", *(f"--unknown{number}" for number in range(20_000))])
    with limited(120):
        assert len(read_options(arguments, table_of("0.19.1")).faults) == 100


def _long_list(times: int) -> ServeArguments:
    words = ["m", "--api-key", *["a"] * (2 * times), *["--enforce-eag"] * times]
    return parse([*words, *["--additional-config.a.b", "1"] * (times // 2)])


def test_a_long_list_is_read_in_linear_work() -> None:
    """Twice the words take twice the calls: values, options in full and shortened, and dotted ones."""
    half, whole = (_long_list(times) for times in (5_000, 10_000))
    reading = read_options(whole, table_of("0.19.1"))
    assert reading.faults == ()
    assert len(reading.options) == 10_002
    calls = calls_of(lambda: read_options(half, table_of("0.19.1")))
    assert calls_of(lambda: read_options(whole, table_of("0.19.1"))) < 2.2 * calls
