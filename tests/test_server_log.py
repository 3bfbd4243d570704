"""What is read from logs of real servers (`tests/server_logs`), and in which forms a log may come."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.server_log.engine_line import EngineConfig, FlagValue, NoDraft, Speculative, engine_config, launch_flag
from tuner.server_log.line import MAX_LINE
from tuner.server_log.log import MAX_ENGINES, MAX_SOURCES, MAX_STARTS, ServerLog, Standing, read_server_log

LOGS = Path(__file__).parent / "server_logs"
ENGINE = "Initializing a V1 LLM engine (v"
NGRAM = Speculative("ngram", None, 2)
OLD, NEW, GPU = "/srv/flag-live", "/srv/current", "/srv/0.26.0/qwen3-moe-48"
"""The models that the samples served."""


def lines_of(name: str) -> list[str]:
    """The lines of a sample."""
    return (LOGS / f"{name}.log").read_bytes().decode().split("\n")


def read(lines: list[str]) -> ServerLog:
    """What a log says, read from a stream as a file is."""
    return read_server_log(iter(lines))


def engine_line(lines: list[str]) -> int:
    """Index of the line with the engine's configuration."""
    return next(index for index, line in enumerate(lines) if ENGINE in line)


EAGER = {
    "mode": 0,
    "speculative": NoDraft.NONE,
    "graphs": "NONE",
}
FUSED = {"fuse_norm_quant", "fuse_act_quant"}
OLD_PASSES = {
    "fuse_norm_quant",
    "fuse_act_quant",
    "fuse_attn_quant",
    "enable_sp",
    "fuse_gemm_comms",
    "fuse_allreduce_rms",
}
NEW_PASSES = OLD_PASSES - {"enable_sp", "fuse_gemm_comms"} | {
    "enable_qk_norm_rope_fusion",
    "fuse_rope_kvcache_cat_mla",
    "fuse_act_padding",
    "fuse_qk_norm_rope_kvcache",
}


def old(flag: FlagValue, **changes: Any) -> EngineConfig:
    """Of an eager server of 0.19.1, which does not print the MoE backend."""
    passes = {name: name in FUSED for name in OLD_PASSES}
    return EngineConfig("0.19.1", OLD, flag=flag, passes=passes, **{**EAGER, **changes})


def new() -> EngineConfig:
    """Of an eager server of 0.32.0."""
    passes = {name: name in FUSED for name in NEW_PASSES}
    return EngineConfig("0.32.0", NEW, flag=FlagValue.OFF, passes=passes, moe_backend="auto", **EAGER)


def on_gpu() -> EngineConfig:
    """Of a compiled server of 0.26.0 on a GPU."""
    compiled = {"mode": 3, "speculative": NoDraft.NONE, "graphs": "FULL_AND_PIECEWISE", "moe_backend": "auto"}
    passes = dict.fromkeys(OLD_PASSES | NEW_PASSES, False)
    return EngineConfig("0.26.0", GPU, flag=FlagValue.ON, passes=passes, **compiled)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("0.19.1-true", old(FlagValue.ON)),
        ("0.19.1-false-colour", old(FlagValue.OFF)),
        ("0.32.0-true", new()),
        ("0.32.0-json", new()),
        ("0.26.0-compiled", on_gpu()),
        ("0.26.0-loaded", on_gpu()),
    ],
)
def test_a_real_log_says_what_the_engine_runs_with(name: str, config: EngineConfig) -> None:
    """All that is read of the line is as the launch says, with the number of the line."""
    lines = lines_of(name)
    log = read(lines)

    (engine,) = log.engines
    assert engine.config == config
    assert ENGINE in lines[engine.line - 1]
    assert engine.ready is not None
    assert engine.ready > engine.line
    assert log.starts[0].failed is None


@pytest.mark.parametrize(("name", "hits", "misses"), [("0.26.0-compiled", 0, 2), ("0.26.0-loaded", 2, 0)])
def test_a_real_start_says_whether_its_cache_helped(name: str, hits: int, misses: int) -> None:
    """On a GPU: the graphs and the whole function, made by the first start and loaded by the second, in one place."""
    (start,) = read(lines_of(name)).starts
    assert (start.cache.hits, start.cache.misses, start.cache.off) == (hits, misses, None)
    assert list(start.cache.folders) == ["/srv/0.26.0/cache/torch_compile_cache/e76e5d7251"]
    (folder,) = start.cache.aot_folders
    assert folder.startswith("/srv/0.26.0/cache/torch_compile_cache/torch_aot_compile/")


def test_an_engine_that_fails_is_not_ready() -> None:
    """The real log of a draft that this machine cannot run; what the engine was to run with is known."""
    log = read(lines_of("0.19.1-ngram-failed"))

    assert [engine.ready for engine in log.engines] == [None]
    assert log.engines[0].config == old(FlagValue.OFF, speculative=NGRAM)
    assert log.starts[0].failed is not None


STOP = "(APIServer pid=100) INFO 01-01 00:00:00 [launcher.py:254] [shutdown] API server: shutdown triggered"
DEATH = "(APIServer pid=100) ERROR 01-01 00:00:00 [async_llm.py:906] AsyncLLM output_handler failed."


@pytest.mark.parametrize(("ending", "failed"), [((DEATH, STOP), True), ((STOP, DEATH), False)])
def test_an_engine_that_fails_while_its_server_shuts_down_did_start(ending: tuple[str, str], failed: bool) -> None:
    """Its failure is about the end of the server; before that, it is about the start. The lines are vLLM 0.32.0's."""
    (start,) = read([*lines_of("0.32.0-true"), *ending]).starts
    assert start.stopped is not None
    assert (start.failed is not None) is failed


# ---- forms of a log


def docker(line: str) -> str:
    """As Docker's json-file driver stores it."""
    return json.dumps({"log": line + "\n", "stream": "stdout", "time": "2026-01-01T00:00:00.0Z"})


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda line: line,
    "carriage returns": lambda line: line + "\r",
    "progress bar in front": lambda line: "Loading:  50% | 1/2\r" + line,
    "kubectl --prefix": lambda line: f"[pod/llm-7d9c/vllm] {line}",
    "kubectl --timestamps": lambda line: f"2026-01-01T00:00:00.123456789Z {line}",
    "compose": lambda line: f"vllm-server  | {line}",
    "journald": lambda line: f"Jan 01 00:00:00 host vllm[863334]: {line}",
    "Ray": lambda line: f"(RayWorkerWrapper pid=12, ip=10.0.0.2) {line}",
    "colours": lambda line: line.replace("INFO", "\x1b[32mINFO\x1b[0m").replace(" [", " \x1b[90m[", 1),
    "no process names": lambda line: line.split(") ", 1)[-1] if line.startswith("(") else line,
    "docker json-file": docker,
    "journalctl json": lambda line: json.dumps({"MESSAGE": line, "_PID": "7"}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["0.19.1-true", "0.32.0-true"])
def test_a_log_reads_the_same_in_every_form(name: str, form: str) -> None:
    """What runtimes put in front of a line, or wrap around it, changes no fact and no line number."""
    lines = lines_of(name)
    (plain,), (formed,) = read(lines).engines, read([FORMS[form](line) for line in lines]).engines

    assert (formed.config, formed.line, formed.ready) == (plain.config, plain.line, plain.ready)


def test_pods_are_told_apart() -> None:
    """Two pods in one log, interleaved, are two servers, each with its own last start."""
    first = [f"[pod/llm-a/vllm] {line}" for line in lines_of("0.19.1-true")]
    second = [f"[pod/llm-b/vllm] {line}" for line in lines_of("0.19.1-false-colour")]
    woven = [line for pair in zip(first, second, strict=False) for line in pair]
    log = read([*woven, *first[len(second) :], *second[len(first) :]])

    assert {engine.name: engine.config.flag for engine in log.engines} == {
        "pod/llm-a/vllm EngineCore": FlagValue.ON,
        "pod/llm-b/vllm EngineCore": FlagValue.OFF,
    }
    assert [start.number for start in log.starts] == [1, 1]


def test_of_several_starts_the_last_counts() -> None:
    """A container that was started again appends to its log, and the line of the failure says that the first ended."""
    log = read([*lines_of("0.19.1-ngram-failed"), *lines_of("0.19.1-true")])

    assert [engine.config.flag for engine in log.engines] == [FlagValue.ON]
    assert [(start.number, start.standing) for start in log.starts] == [(2, Standing.ALONE)]


def test_a_start_that_no_line_ends_counts_too() -> None:
    """It was killed without a word, or another server writes into the log: nobody knows."""
    log = read([*lines_of("0.19.1-true"), *lines_of("0.19.1-false-colour")])

    assert [engine.config.flag for engine in log.engines] == [FlagValue.ON, FlagValue.OFF]
    assert [start.standing for start in log.starts] == [Standing.MAYBE_OVER, Standing.SHARED]


@pytest.mark.parametrize("count", [3, 10, 19])
def test_a_start_that_has_not_come_to_its_engine_says_nothing(count: int) -> None:
    """What ran before the restart is no word about what runs now."""
    again = lines_of("0.19.1-false-colour")
    begun = next(index for index, line in enumerate(again) if "non-default args" in line)
    log = read([*lines_of("0.19.1-ngram-failed"), *again[begun : begun + count]])

    assert [engine.line for engine in log.engines] == ([] if count < 19 else [log.lines - 8])
    assert [start.number for start in log.starts] == [2]


def test_a_restart_without_its_arguments_line_is_seen() -> None:
    """A headless node prints no arguments; a second engine under the same name is a second start."""
    lines = lines_of("0.19.1-true")
    log = read([*lines, *lines[engine_line(lines) :]])

    assert [engine.line > len(lines) for engine in log.engines] == [False, True]
    assert [start.number for start in log.starts] == [1, 2]


def test_of_too_many_starts_the_rest_is_left_out() -> None:
    """None of them says that it ended; what is beyond the limit is said."""
    lines = lines_of("0.19.1-true")
    log = read(lines * (MAX_STARTS + 3))

    assert (len(log.starts), log.cut) == (MAX_STARTS, True)


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        ("(EngineCore pid=101) INFO 01-01 00:00:00 [core.py:1210] Shutdown initiated (timeout=0)", True),
        ("(EngineCore pid=101) INFO 01-01 00:00:00 [core.py:9] [shutdown] EngineCore: exiting busy loop", True),
        ("(APIServer pid=100) INFO 01-01 00:00:00 [launcher.py:9] [shutdown] API server: shutdown triggered", True),
        ("(EngineCore pid=101) ERROR 01-01 00:00:00 [core.py:9] EngineCore encountered a fatal error.", True),
        ("(APIServer pid=100) ERROR 01-01 00:00:00 [core_client.py:9] Engine core proc EngineCore died", True),
        ("(EngineCore pid=7) INFO 01-01 00:00:00 [core.py:1210] Shutdown initiated (timeout=0)", False),
        ("(APIServer pid=100) INFO 01-01 00:00:00 [logger.py:39] Shutdown initiated (timeout=0)", False),
        ("(APIServer pid=100) INFO 01-01 00:00:00 [core.py:9] prompt: Shutdown initiated (timeout=0)", False),
    ],
)
def test_a_start_ends_by_a_line_of_its_own(line: str, ended: bool) -> None:
    """Of vLLM's module, and of one of its own processes."""
    (start,) = read([*lines_of("0.19.1-true"), line]).starts

    assert start.has_ended is ended


@pytest.mark.parametrize(
    ("compilation", "flag"),
    [
        ("", FlagValue.UNSET),
        (", 'compilation_config': {'mode': 3}", FlagValue.UNSET),
        (", 'compilation_config': {'mode': 3, 'fast_moe_cold_start': None}", FlagValue.UNSET),
        (", 'compilation_config': {'fast_moe_cold_start': True}", FlagValue.ON),
        (", 'compilation_config': {'fast_moe_cold_start': False}", FlagValue.OFF),
        (", 'compilation_config': {'fast_moe_cold_start': True, 'fast_moe_cold_start': False}", FlagValue.UNSAID),
        (", 'compilation_config': CompilationConfig(mode=3)", FlagValue.UNSAID),
        (", 'compilation_config': {'fast_moe_cold_start': Tr", FlagValue.UNSAID),
    ],
)
def test_the_arguments_say_what_the_launch_sets(compilation: str, flag: FlagValue) -> None:
    """As vLLM prints them; what is cut or doubled is unsaid."""
    end = "" if compilation.endswith("Tr") else "}"

    assert launch_flag(f"{{'model_tag': 'm', 'max_model_len': 256{compilation}{end}") is flag


def test_engines_of_several_nodes_stand_side_by_side() -> None:
    """Only the first engine of a node prints its configuration (vllm/v1/engine/core.py), under a name of its own."""
    first = [line.replace("EngineCore", "EngineCore_DP0") for line in lines_of("0.19.1-true")]
    other = [line.replace("EngineCore", "EngineCore_DP4") for line in lines_of("0.19.1-true")]
    at = engine_line(first)
    log = read([*first[: at + 1], other[at], *first[at + 1 :], *other[at + 1 :]])

    assert [engine.name for engine in log.engines] == ["EngineCore_DP0", "EngineCore_DP4"]
    assert all(engine.ready for engine in log.engines)
    assert log.starts[0].number == 1


# ---- the compile cache

COMPILING = """\
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:1095] Using cache directory: /c/torch_compile_cache/a1b2/rank_0_0/backbone for vLLM's torch.compile
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:1155] Dynamo bytecode transform time: 8.52 s
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:378] Cache the graph of compile range (1, 2048) for later use
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:393] Compiling a graph for compile range (1, 2048) takes 6.06 s
(EngineCore pid=101) INFO 01-01 00:00:00 [decorators.py:708] saved AOT compiled function to /c/torch_compile_cache/torch_aot_compile/5e4e/rank_0_0/model
"""  # noqa: E501  as logged
LOADING = """\
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:1095] Using cache directory: /c/torch_compile_cache/a1b2/rank_0_0/backbone for vLLM's torch.compile
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:292] Directly load the compiled graph(s) for compile range (1, 2048) from the cache, took 0.202 s
(EngineCore pid=101) INFO 01-01 00:00:00 [decorators.py:311] Directly load AOT compilation from path /c/torch_compile_cache/torch_aot_compile/5e4e/rank_0_0/model
"""  # noqa: E501  as logged
DRAFT = """\
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:383] [eagle_head] Compiling a graph for compile range (1, 2048) takes 1.1 s
"""  # noqa: E501  as logged


@pytest.mark.parametrize(
    ("text", "hits", "misses"), [(COMPILING, 0, 2), (LOADING, 2, 0), (LOADING + DRAFT, 2, 1), ("", 0, 0)]
)
def test_loading_and_compiling_are_counted(text: str, hits: int, misses: int) -> None:
    """The words of vllm/compilation/backends.py and decorators.py in 0.26.0 and 0.32.0, tags included."""
    lines = lines_of("0.19.1-true")
    at = engine_line(lines) + 1
    cache = read([*lines[:at], *text.splitlines(), *lines[at:]]).starts[0].cache

    assert (cache.hits, cache.misses) == (hits, misses)
    if text:
        assert list(cache.folders) == ["/c/torch_compile_cache/a1b2"]
        assert list(cache.aot_folders) == ["/c/torch_compile_cache/torch_aot_compile/5e4e"]


def test_a_cache_that_is_off_or_could_not_be_written_is_seen() -> None:
    """The lines for VLLM_DISABLE_COMPILE_CACHE, and for a folder that is read-only."""
    prefix = "(EngineCore pid=101) INFO 01-01 00:00:00 "
    off = read([prefix + "[backends.py:1100] vLLM's torch.compile cache is disabled."])
    said = (
        "[decorators.py:661] unable to save AOT compiled function to /c/aot/5e4e/rank_0_0/model: [Errno 30] Read-only"
    )
    unsaved = read([prefix + said])

    assert off.starts[0].cache.off == 1
    assert unsaved.starts[0].cache.misses == 1
    assert list(unsaved.starts[0].cache.aot_folders) == ["/c/aot/5e4e"]


# ---- what is no word of the engine


@pytest.mark.parametrize(
    "forged",
    [
        "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:39] Received request cmpl-1: prompt: '{}'",
        "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:39] {}",
        "{}",
        "user wrote [core.py:105]: {}",
        "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:39] prompt: (EngineCore pid=9) INFO [core.py:105] {}",
        "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:39] prompt: [0m [core.py:105] {}",
        '(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:39] {{"log": "INFO [core.py:105] {}"}}',
        '{{"message": "prompt: INFO [core.py:105] {}", "name": "vllm.entrypoints.logger"}}',
        '{{"message": "{}", "log.target": "logger.log_inputs", "target": "log"}}',
        "2026-01-01T00:00:00.1Z  INFO logger.log_inputs: INFO core.__init__: {}",
        '{{"message": "prompt: {}", "name": "vllm.entrypoints.logger"}}',
        '{{"message": "{}", "name": "vllm.entrypoints.logger"}}',
        '{{"message": "{}", "name": "evil.core"}}',
    ],
)
def test_the_words_of_others_do_not_count(forged: str) -> None:
    """A prompt that a server logs may hold the engine's line; it is not where vLLM's engine would have logged it."""
    lines = lines_of("0.19.1-true")
    at = engine_line(lines)
    text = lines[at][lines[at].index(ENGINE) :].replace("'fast_moe_cold_start': True", "'fast_moe_cold_start': False")
    log = read([*lines, forged.format(text.replace('"', "'"))])

    assert [engine.config.flag for engine in log.engines] == [FlagValue.ON]
    assert log.starts[0].number == 1


@pytest.mark.parametrize(
    ("cut_before", "unsaid"),
    [
        ("speculative_config=", {"model": OLD, "speculative": NoDraft.UNSAID, "flag": FlagValue.UNSAID, "mode": None}),
        ("tokenizer=", {"model": OLD, "speculative": NoDraft.NONE, "flag": FlagValue.UNSAID, "mode": None}),
        ("'fast_moe_cold_start'", {"flag": FlagValue.UNSAID, "mode": None}),
        ("e, 'static_all_moe_layers'", {"flag": FlagValue.UNSAID, "mode": None}),
    ],
)
def test_of_a_line_that_was_cut_the_rest_is_unsaid(cut_before: str, unsaid: dict[str, object]) -> None:
    """Pipes and container runtimes cut long lines; half a dictionary says nothing."""
    lines = lines_of("0.19.1-true")
    text = lines[engine_line(lines)]
    text = text[text.index(ENGINE) + len(ENGINE) : text.rindex(cut_before)]

    assert vars(engine_config(text)).items() >= unsaid.items()


def config_with(compilation: str, model: str = "'m'") -> EngineConfig:
    """What a line with this compilation config says."""
    text = f"0.19.1) with config: model={model}, speculative_config=None, revision=None, "
    return engine_config(f"{text}compilation_config={compilation}, kernel_config=KernelConfig(a='b')")


@pytest.mark.parametrize(
    ("compilation", "flag", "mode"),
    [
        ("{'mode': <CompilationMode.VLLM_COMPILE: 3>, 'fast_moe_cold_start': True}", FlagValue.ON, 3),
        ('{"mode": 3, "fast_moe_cold_start": False}', FlagValue.OFF, 3),
        ("{'mode': 0}", FlagValue.ABSENT, 0),
        ("{'mode': None, 'fast_moe_cold_start': None}", FlagValue.UNSAID, None),
        ("{'fast_moe_cold_start': True, 'fast_moe_cold_start': False}", FlagValue.UNSAID, None),
        ("{'pass_config': {'fast_moe_cold_start': True}, 'mode': 2}", FlagValue.ABSENT, 2),
        ("{'cache_dir': \"', 'fast_moe_cold_start': True, '\", 'mode': 2}", FlagValue.ABSENT, 2),
        ("{'cache_dir': '', 'fast_moe_cold_start': True", FlagValue.UNSAID, None),
        ("{'cache_dir': ' , 'fast_moe_cold_start': True}", FlagValue.UNSAID, None),
        ("{'a'} {'fast_moe_cold_start': True}", FlagValue.UNSAID, None),
        ("CompilationConfig(fast_moe_cold_start=True)", FlagValue.UNSAID, None),
    ],
)
def test_a_fact_counts_if_the_line_holds_it_whole_and_once(compilation: str, flag: object, mode: int | None) -> None:
    """Nested, doubled, quoted and broken values are not facts."""
    config = config_with(compilation)

    assert (config.flag, config.mode) == (flag, mode)


def test_a_model_whose_name_looks_like_a_configuration_is_only_a_name() -> None:
    """The name is printed in quotes, and read as one string."""
    name = "a', compilation_config={'fast_moe_cold_start': True}, b=\""
    config = config_with("{'fast_moe_cold_start': False}", model=repr(name))

    assert (config.model, config.flag) == (name, FlagValue.OFF)


def test_two_configurations_in_one_line_are_none() -> None:
    """Names that vLLM prints without quotes may hold anything."""
    said = "{'fast_moe_cold_start': False}, served_model_name=x, compilation_config={'fast_moe_cold_start': True}"

    assert config_with(said).flag is FlagValue.UNSAID


# ---- hostile logs


def test_a_huge_line_is_cut_and_costs_no_time_beyond_its_length() -> None:
    """A mebibyte of the worst input for quotes, brackets and colours; a quadratic reader would need hours."""
    head = f"(EngineCore pid=101) INFO 01-01 00:00:00 [core.py:105] {ENGINE}0.19.1) with config: model="
    for unit in ("'", "\\'", "\"'", "[", "[core.py:1] ", "\x1b[", "(a pid=", "a=',", "{'a':", ENGINE, "x, "):
        log = read([head + unit * (MAX_LINE // len(unit))])
        assert [engine.config.flag for engine in log.engines] == [FlagValue.UNSAID]


def test_of_too_many_pods_and_engines_the_rest_is_left_out() -> None:
    """The memory that a log takes has a limit, and what is beyond it is said."""
    lines = lines_of("0.19.1-true")
    line = lines[engine_line(lines)]
    pods = read([f"[pod/p{number}/vllm] {line}" for number in range(MAX_SOURCES + 5)])
    engines = read([line.replace("EngineCore", f"EngineCore_DP{number}") for number in range(MAX_ENGINES + 5)])

    assert (len(pods.starts), pods.cut) == (MAX_SOURCES, True)
    assert (len(engines.engines), engines.cut) == (MAX_ENGINES, True)
