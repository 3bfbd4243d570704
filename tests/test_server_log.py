"""What is read from logs of real servers (`tests/server_logs`), and in which forms a log may come."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.server_log.engine_line import ABSENT, EngineConfig, Speculative, engine_config
from tuner.server_log.line import MAX_LINE
from tuner.server_log.log import MAX_ENGINES, MAX_SOURCES, ServerLog, read_server_log

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


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("0.19.1-true", EngineConfig("0.19.1", OLD, flag=True, mode=0, speculative=False)),
        ("0.19.1-false-colour", EngineConfig("0.19.1", OLD, flag=False, mode=0, speculative=False)),
        ("0.32.0-true", EngineConfig("0.32.0", NEW, flag=False, mode=0, speculative=False)),
        ("0.32.0-json", EngineConfig("0.32.0", NEW, flag=False, mode=0, speculative=False)),
        ("0.26.0-compiled", EngineConfig("0.26.0", GPU, flag=True, mode=3, speculative=False)),
        ("0.26.0-loaded", EngineConfig("0.26.0", GPU, flag=True, mode=3, speculative=False)),
    ],
)
def test_a_real_log_says_what_the_engine_runs_with(name: str, config: EngineConfig) -> None:
    """Version, model, flag, mode and draft are those of the launch, with the line that says so."""
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
    assert log.engines[0].config == EngineConfig("0.19.1", OLD, flag=False, mode=0, speculative=NGRAM)
    assert log.starts[0].failed is not None


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
        "pod/llm-a/vllm EngineCore": True,
        "pod/llm-b/vllm EngineCore": False,
    }
    assert [start.number for start in log.starts] == [1, 1]


def test_of_several_starts_the_last_counts() -> None:
    """A container that was started again appends to its log."""
    log = read([*lines_of("0.19.1-true"), *lines_of("0.19.1-false-colour")])

    assert [engine.config.flag for engine in log.engines] == [False]
    assert log.starts[0].number == 2


@pytest.mark.parametrize("kept", [3, 10, 19])
def test_a_start_that_has_not_come_to_its_engine_says_nothing(kept: int) -> None:
    """What ran before the restart is no word about what runs now."""
    again = lines_of("0.19.1-false-colour")
    begun = next(index for index, line in enumerate(again) if "non-default args" in line)
    log = read([*lines_of("0.19.1-true"), *again[begun : begun + kept]])

    assert log.engines == () or kept == 19


def test_a_restart_without_its_arguments_line_is_seen() -> None:
    """A headless node prints no arguments; a second engine under the same name is a second start."""
    lines = lines_of("0.19.1-true")
    log = read([*lines, *lines[engine_line(lines) :]])

    assert len(log.engines) == 1
    assert log.engines[0].line > len(lines)
    assert log.starts[0].number == 2


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
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:1095] Using cache directory: /c/torch_compile_cache/a1b2/rank_0_0/backbone for vLLM's torch.compile
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:1155] Dynamo bytecode transform time: 8.52 s
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:378] Cache the graph of compile range (1, 2048) for later use
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:393] Compiling a graph for compile range (1, 2048) takes 6.06 s
(EngineCore pid=7) INFO 01-01 00:00:00 [decorators.py:708] saved AOT compiled function to /c/torch_compile_cache/torch_aot_compile/5e4e/rank_0_0/model
"""  # noqa: E501  as logged
LOADING = """\
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:1095] Using cache directory: /c/torch_compile_cache/a1b2/rank_0_0/backbone for vLLM's torch.compile
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:292] Directly load the compiled graph(s) for compile range (1, 2048) from the cache, took 0.202 s
(EngineCore pid=7) INFO 01-01 00:00:00 [decorators.py:311] Directly load AOT compilation from path /c/torch_compile_cache/torch_aot_compile/5e4e/rank_0_0/model
"""  # noqa: E501  as logged
DRAFT = """\
(EngineCore pid=7) INFO 01-01 00:00:00 [backends.py:383] [eagle_head] Compiling a graph for compile range (1, 2048) takes 1.1 s
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
    prefix = "(EngineCore pid=7) INFO 01-01 00:00:00 "
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

    assert [engine.config.flag for engine in log.engines] == [True]
    assert log.starts[0].number == 1


@pytest.mark.parametrize(
    ("cut_before", "unsaid"),
    [
        ("speculative_config=", {"model": OLD, "speculative": None, "flag": None, "mode": None}),
        ("tokenizer=", {"model": OLD, "speculative": False, "flag": None, "mode": None}),
        ("'fast_moe_cold_start'", {"flag": None, "mode": None}),
        ("e, 'static_all_moe_layers'", {"flag": None, "mode": None}),
    ],
)
def test_of_a_line_that_was_cut_the_rest_is_unsaid(cut_before: str, unsaid: dict[str, object]) -> None:
    """Pipes and container runtimes cut long lines; half a dictionary says nothing."""
    lines = lines_of("0.19.1-true")
    text = lines[engine_line(lines)]
    text = text[text.index(ENGINE) : text.rindex(cut_before)]

    assert vars(engine_config(text)).items() >= unsaid.items()


def config_with(compilation: str, model: str = "'m'") -> EngineConfig:
    """What a line with this compilation config says."""
    text = f"{ENGINE}0.19.1) with config: model={model}, speculative_config=None, revision=None, "
    return engine_config(f"{text}compilation_config={compilation}, kernel_config=KernelConfig(a='b')")


@pytest.mark.parametrize(
    ("compilation", "flag", "mode"),
    [
        ("{'mode': <CompilationMode.VLLM_COMPILE: 3>, 'fast_moe_cold_start': True}", True, 3),
        ('{"mode": 3, "fast_moe_cold_start": False}', False, 3),
        ("{'mode': 0}", ABSENT, 0),
        ("{'mode': None, 'fast_moe_cold_start': None}", None, None),
        ("{'fast_moe_cold_start': True, 'fast_moe_cold_start': False}", None, None),
        ("{'pass_config': {'fast_moe_cold_start': True}, 'mode': 2}", ABSENT, 2),
        ("{'cache_dir': \"', 'fast_moe_cold_start': True, '\", 'mode': 2}", ABSENT, 2),
        ("{'cache_dir': '', 'fast_moe_cold_start': True", None, None),
        ("{'cache_dir': ' , 'fast_moe_cold_start': True}", None, None),
        ("{'a'} {'fast_moe_cold_start': True}", None, None),
        ("CompilationConfig(fast_moe_cold_start=True)", None, None),
    ],
)
def test_a_fact_counts_if_the_line_holds_it_whole_and_once(compilation: str, flag: object, mode: int | None) -> None:
    """Nested, doubled, quoted and broken values are no facts."""
    config = config_with(compilation)

    assert (config.flag, config.mode) == (flag, mode)


def test_a_model_whose_name_looks_like_a_configuration_is_only_a_name() -> None:
    """The name is printed in quotes, and read as one string."""
    name = "a', compilation_config={'fast_moe_cold_start': True}, b=\""
    config = config_with("{'fast_moe_cold_start': False}", model=repr(name))

    assert (config.model, config.flag) == (name, False)


def test_two_configurations_in_one_line_are_none() -> None:
    """Names that vLLM prints without quotes may hold anything."""
    said = "{'fast_moe_cold_start': False}, served_model_name=x, compilation_config={'fast_moe_cold_start': True}"

    assert config_with(said).flag is None


# ---- hostile logs


def test_a_huge_line_is_cut_and_costs_no_time_beyond_its_length() -> None:
    """A mebibyte of the worst input for quotes, brackets and colours; a quadratic reader would need hours."""
    head = f"(EngineCore pid=7) INFO 01-01 00:00:00 [core.py:105] {ENGINE}0.19.1) with config: model="
    for unit in ("'", "\\'", "\"'", "[", "[core.py:1] ", "\x1b[", "(a pid=", "a=',", "{'a':", ENGINE, "x, "):
        log = read([head + unit * (MAX_LINE // len(unit))])
        assert [engine.config.flag for engine in log.engines] == [None]


def test_of_too_many_pods_and_engines_the_rest_is_left_out() -> None:
    """The memory that a log takes has a limit, and what is beyond it is said."""
    lines = lines_of("0.19.1-true")
    line = lines[engine_line(lines)]
    pods = read([f"[pod/p{number}/vllm] {line}" for number in range(MAX_SOURCES + 5)])
    engines = read([line.replace("EngineCore", f"EngineCore_DP{number}") for number in range(MAX_ENGINES + 5)])

    assert (len(pods.starts), pods.cut) == (MAX_SOURCES, True)
    assert (len(engines.engines), engines.cut) == (MAX_ENGINES, True)
