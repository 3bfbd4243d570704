"""Which launches of a model share a proof: the launch key, and which differences from it are allowed.

A proof is of one launch. Its key covers every argument of `vllm serve` and every key of the compilation config
that can reach the model. What surely cannot is listed here, each with its reason (`HARMLESS`); all else counts, also
what this module does not understand. So a mistake in reading costs one more proof and never lets a proof apply to
another launch.

`tuner/arguments/vllm_options.py` says what `vllm serve` does with an argument list. Here only what is needed is read:

- Exact spellings, with underscores or dashes, and `--no-…` for a flag. A shortened spelling is not understood: in
  another release it may be short for another option.
- `--option value`, `--option=value`, `--option.key value` and `--option.key=value`.

The sources that were read are those of vLLM 0.16.0, 0.17.1, 0.18.1, 0.19.1, 0.20.2, 0.26.0 and 0.32.0.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from msgspec import Struct


class Arity(Enum):
    """How many bare words behind an option are its values."""

    FLAG = auto()
    """None; `--no-…` is its opposite."""
    SWITCH = auto()
    """None, and there is no opposite."""
    ONE = auto()
    OPTIONAL = auto()
    """One, or none."""
    MANY = auto()
    """All."""


class Listed(Struct, frozen=True):
    """An option of `vllm serve` that this module knows.

    Attributes:
        arity: the same in every release that has the option.
        spellings: all of them, with dashes, without `--no-…`.
        reason: why it is listed.
    """

    arity: Arity
    spellings: tuple[str, ...]
    reason: str


_HTTP = "sets how the HTTP server listens, and reaches nothing behind it"
_ACCESS = "decides who may ask the HTTP server, and what of its pages it shows"
_LOGS = "decides what is written to logs"
_COUNTS = "decides what is counted and reported"
_CHAT = "turns messages into a prompt before the engine sees them"
_TOOLS = "reads calls of tools and reasoning out of text that was generated"
_ANSWER = "shapes the answer to a request once the text is there"
_HUB = "lets files be fetched; the key of the verdict covers what was fetched"
_IDENTITY = "names the model; the key of the verdict covers what it names, with the files that are read"
_COMPILATION = "is given beside the arguments, as one merged value"


def _listed(arity: Arity, reason: str, names: str) -> tuple[Listed, ...]:
    """Options of one spelling each."""
    return tuple(Listed(arity, (f"--{name}",), reason) for name in names.split())


HARMLESS = (
    *_listed(
        Arity.ONE,
        _HTTP,
        "host port uds root-path h11-max-header-count h11-max-incomplete-event-size sse-keep-alive-interval "
        "ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers ssl-keyfile",
    ),
    *_listed(Arity.FLAG, _HTTP, "enable-ssl-refresh enable-request-id-headers"),
    *_listed(Arity.ONE, _ACCESS, "allowed-headers allowed-methods allowed-origins"),
    *_listed(Arity.MANY, _ACCESS, "api-key"),
    *_listed(
        Arity.FLAG,
        _ACCESS,
        "allow-credentials disable-fastapi-docs enable-offline-docs enable-tokenizer-info-endpoint",
    ),
    *_listed(Arity.ONE, _LOGS, "uvicorn-log-level disable-access-log-for-endpoints max-log-len"),
    *_listed(
        Arity.FLAG,
        _LOGS,
        "disable-log-requests disable-uvicorn-access-log enable-log-deltas enable-log-outputs enable-log-requests "
        "log-error-stack",
    ),
    *_listed(Arity.SWITCH, _LOGS, "aggregate-engine-logging"),
    *_listed(Arity.SWITCH, _COUNTS, "disable-log-stats"),
    *_listed(Arity.FLAG, _COUNTS, "enable-per-request-metrics enable-server-load-tracking"),
    *_listed(Arity.ONE, _CHAT, "chat-template chat-template-content-format default-chat-template-kwargs"),
    *_listed(Arity.FLAG, _CHAT, "exclude-tools-when-tool-choice-none trust-request-chat-template"),
    *_listed(Arity.ONE, _TOOLS, "tool-call-parser tool-server tool-strict-level"),
    *_listed(Arity.FLAG, _TOOLS, "enable-auto-tool-choice"),
    *_listed(Arity.ONE, _ANSWER, "fingerprint-mode fingerprint-value response-role"),
    *_listed(
        Arity.FLAG,
        _ANSWER,
        "enable-force-include-usage enable-prompt-tokens-details return-tokens-as-token-ids",
    ),
    *_listed(Arity.OPTIONAL, _HUB, "hf-token"),
    *_listed(Arity.FLAG, "checks the names of variables and changes none", "fail-on-environ-validation"),
)
"""Options that never reach the model, its weights, the engine's config, the scheduler or compilation.

Nearly all are of the server alone: `AsyncEngineArgs`, from which the engine's config is made, has no field of these
names (vllm/entrypoints/openai/cli_args.py, vllm/engine/arg_utils.py). The others are `ENGINE_ARGUMENTS`.

Left out on purpose, because they can reach a model or run code that can:

- `--seed` seeds Python's own random numbers, from which a model may draw while it is built.
- `--middleware`, `--tool-parser-plugin`, `--reasoning-parser-plugin`, `--logits-processors`, `--log-config-file` and
  `--logging-config` run Python code of the user's, some before the engine starts.
- `--lora-modules`, `--tokens-only`, `--headless`, `--grpc`, `--api-server-count` and all of data parallelism change
  what is started.
- `--trust-request-mm-kwargs` lets a request change what its processor makes of an image.
- `--tokenizer`, `--tokenizer-mode`, `--tokenizer-revision` and `--skip-tokenizer-init` decide the longest context,
  and some models read the tokenizer.
- `--load-format`, `--download-dir` and `--swap-space` are in `VllmConfig`, where a model can read them.
- `--kv-cache-dtype`, `--block-size` and `--limit-mm-per-prompt` are read by layers and by models.
- `--enable-prefix-caching` decides the block sizes of a hybrid model, which layers read.
"""

ENGINE_ARGUMENTS = {
    "aggregate_engine_logging": "read by the loggers alone (vllm/v1/engine/async_llm.py, vllm/v1/metrics/loggers.py)",
    "disable_log_stats": "read by the loggers, and by the scheduler to make no statistics (vllm/v1/engine/core.py)",
    "enable_log_requests": "read by the request logger alone (vllm/v1/engine/async_llm.py)",
    "fail_on_environ_validation": "stops the server or does nothing (`validate_environ`)",
    "hf_token": "handed to the hub's client (vllm/config/model.py); a model that downloads more hands it on as well",
}
"""Fields of `AsyncEngineArgs` behind options of `HARMLESS`, and who reads them."""

IDENTITY = (
    Listed(Arity.ONE, ("--model",), _IDENTITY),
    Listed(Arity.ONE, ("--revision",), _IDENTITY),
    Listed(Arity.ONE, ("--model-impl",), _IDENTITY),
    Listed(Arity.FLAG, ("--trust-remote-code",), _IDENTITY),
)
"""Options that say which model is served. The model's configuration, its own code where that may run, and the
implementation are in the verdict's key (tuner/verdicts/identity.py), and proofs lie beside the verdict.

Not `--hf-config-path`: the verdict's key covers the folder that it names, and vLLM reads other files from the model's
own folder. Not `--code-revision`, `--config-format` and `--hf-overrides`, which the key does not hold.
"""

_COMPILATION_CONFIG = Listed(Arity.ONE, ("--compilation-config", "-cc"), _COMPILATION)

OURS = frozenset({"fast_moe_cold_start", "cache_dir"})
"""Keys of the compilation config that this tool decides, or that say where files lie."""

_TOKENS = (
    "compilation_config.bs_to_padded_graph_size",
    "compilation_config.compile_ranges_endpoints",
    "compilation_config.compile_ranges_split_points",
    "compilation_config.compile_sizes",
    "compilation_config.cudagraph_capture_sizes",
    "compilation_config.max_cudagraph_capture_size",
    "compilation_config.pass_config",
    "parallel_config.enable_batch_sharded_sampling",
    "scheduler_config.encoder_cache_size",
    "scheduler_config.max_num_batched_tokens",
    "scheduler_config.max_num_encoder_input_tokens",
    "scheduler_config.max_num_scheduled_tokens",
    "scheduler_config.max_num_seqs",
    "speculative_config",
)
"""What follows from the sizes of a batch: `_set_default_max_num_seqs_and_batched_tokens_args` of
vllm/engine/arg_utils.py makes them fit each other and the context, then `_set_cudagraph_sizes`, `_set_compile_ranges`
and `_set_max_num_scheduled_tokens` of vllm/config/vllm.py derive the others."""

SHARED: dict[str, tuple[str, ...]] = {
    "--max-model-len": (
        *_TOKENS,
        "attention_config.sparse_mla_prefill_workspace_factor",
        "cache_config.mamba_block_size",
        "model_config.encoder_config",
        "model_config.max_model_len",
        "model_config.original_max_model_len",
        "scheduler_config.long_prefill_token_threshold",
    ),
    "--max-num-seqs": _TOKENS,
    "--max-num-batched-tokens": _TOKENS,
    "--gpu-memory-utilization": ("cache_config.gpu_memory_utilization",),
    "--generation-config": ("model_config.generation_config",),
    "--override-generation-config": ("model_config.override_generation_config",),
    "--max-logprobs": (
        "model_config.max_logprobs",
        "parallel_config.enable_batch_sharded_sampling",
        "speculative_config",
    ),
    "--reasoning-parser": ("reasoning_config", "structured_outputs_config.reasoning_parser"),
    "--served-model-name": ("model_config.served_model_name",),
    "--shutdown-timeout": ("shutdown_timeout",),
    "--stream-interval": ("scheduler_config.stream_interval",),
}
"""Option -> every field of `VllmConfig` that it can change, directly or by what vLLM makes of it.

A name that has fields of its own stands for all of them. The tables are compared with what real releases do, on a CPU
and as on a GPU, in `tests/test_launch_key_vllm.py`.

One thing is not in the table: `--max-model-len` also changes rotary parameters in the configuration of three encoders
(Nomic, Jina and GTE with rotary embeddings, vllm/model_executor/models/config.py). Their layers of experts call an
operator directly (`NomicMoE`, vllm/model_executor/models/bert_with_rope.py) and register none, so that no proof of them
can exist.
"""

_SHARED_OPTIONS = tuple(
    Listed(Arity.MANY if name == "--served-model-name" else Arity.ONE, (name,), "fields of VllmConfig")
    for name in SHARED
)


class _Use(Struct, frozen=True):
    """One use of an option, or one argument that no listed option owns.

    Attributes:
        option: None for what is not understood.
        arguments: what it is spelled with.
    """

    option: Listed | None
    arguments: tuple[str, ...]


def reaching(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments that can reach the model, as they were given and in their order.

    Without the model and what names it, the compilation config, and all of `HARMLESS`.

    Args:
        arguments: what stands behind `vllm serve`, a `--config` file's options among them.
    """
    excluded = {*HARMLESS, *IDENTITY, _COMPILATION_CONFIG}
    uses = [use for use in _uses(arguments) if use.option not in excluded]
    return tuple(argument for use in uses for argument in use.arguments)


def launch_key(arguments: Sequence[str], compilation_config: Mapping[str, Any]) -> str:
    """The key of a launch, as hexadecimal: launches of one model with the same key share their proofs.

    Args:
        arguments: as for `reaching`.
        compilation_config: the whole of it, merged from every spelling.
    """
    return _key(reaching(arguments), compilation_config)


def is_plain(arguments: Sequence[str], compilation_config: Mapping[str, Any]) -> bool:
    """Whether nothing that is asked for beside the model can reach it. Arguments as for `launch_key`."""
    return not reaching(arguments) and not _compilation(compilation_config)


def shares(
    arguments: Sequence[str],
    compilation_config: Mapping[str, Any],
    proof_key: str,
    proof_arguments: Sequence[str],
    proof_fields: Iterable[str],
) -> bool:
    """Whether a proof of another launch of the same model holds for this one too.

    It does if the launches have one key, or differ in options of `SHARED` alone of which no field was read.

    Args:
        arguments: of this launch, as for `launch_key`.
        compilation_config: that of this launch.
        proof_key: the key of the proof's launch.
        proof_arguments: the arguments of that launch that can reach the model.
        proof_fields: the fields of `VllmConfig` that were read for the proof, such as `scheduler_config.max_num_seqs`.
    """
    own = reaching(arguments)
    if _key(own, compilation_config) == proof_key:
        return True
    if _key(tuple(proof_arguments), compilation_config) != proof_key:  # the compilation configs differ
        return False
    others, shared = _parted(own)
    proof_others, proof_shared = _parted(proof_arguments)
    if others != proof_others:
        return False
    changed = {name for name in SHARED if shared.get(name) != proof_shared.get(name)}
    fields = {field for name in changed for field in SHARED[name]}
    return not any(_touches(field, read) for field in fields for read in proof_fields)


def _touches(field: str, read: str) -> bool:
    """Whether the field that was read is this one or lies below it."""
    return read == field or read.startswith(f"{field}.")


def _parted(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The arguments that no option of `SHARED` owns, and all that each of these options was given."""
    others: list[str] = []
    shared: dict[str, tuple[str, ...]] = {}
    for use in _options(arguments):
        if use.option in _SHARED_OPTIONS:
            name = use.option.spellings[0]
            shared[name] = (*shared.get(name, ()), *use.arguments)
        else:
            others += use.arguments
    return tuple(others), shared


def _key(arguments: tuple[str, ...], compilation_config: Mapping[str, Any]) -> str:
    content = {"arguments": arguments, "compilation_config": _compilation(compilation_config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _compilation(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that count; one that is null asks for vLLM's default, as one that is absent does."""
    return {key: value for key, value in config.items() if key not in OURS and value is not None}


def _uses(arguments: Sequence[str]) -> Iterator[_Use]:
    """The options of an argument list in order, without the positional argument, which is the model.

    A bare word is the model where it stands first, or where no option can own it. A second one stays: vLLM refuses it.
    """
    has_model = False
    for use in _options(arguments):
        positional = use.option is None and len(use.arguments) == 1 and not use.arguments[0].startswith("-")
        if positional and not has_model:
            has_model = True
            continue
        if use.arguments[0] == "--" and len(use.arguments) == 2 and not has_model:  # noqa: PLR2004  the dashes and a word
            has_model = True
            continue
        yield use


def _options(arguments: Sequence[str]) -> Iterator[_Use]:
    """The options of an argument list in order, each with the arguments that are its values."""
    index = 0
    while index < len(arguments):
        use = _use(arguments, index)
        yield use
        index += len(use.arguments)


def _use(arguments: Sequence[str], index: int) -> _Use:
    """What starts at `index`; behind `--` everything is one use."""
    argument = arguments[index]
    if argument == "--":
        return _Use(None, tuple(arguments[index:]))
    if not argument.startswith("-"):
        return _Use(None, (argument,))
    name, equals, _ = argument.partition("=")
    head, dot, _ = name.partition(".")
    option = _SPELLINGS.get(head.replace("_", "-") if head.startswith("--") else head)
    if dot:  # takes the next argument, whatever it looks like
        return _Use(option, tuple(arguments[index : index + (1 if equals else 2)]))
    words = _words(arguments, index + 1)
    if option is None:
        return _Use(None, (argument, *(() if equals else words)))
    if equals:
        takes_value = option.arity not in {Arity.FLAG, Arity.SWITCH}
        return _Use(option if takes_value else None, (argument,))
    values = words[: _MOST_WORDS.get(option.arity, len(words))]
    lacks_value = option.arity in {Arity.ONE, Arity.MANY} and not values
    return _Use(None if lacks_value else option, (argument, *values))


def _words(arguments: Sequence[str], index: int) -> tuple[str, ...]:
    """The bare words from `index` on."""
    stop = index
    while stop < len(arguments) and not arguments[stop].startswith("-"):
        stop += 1
    return tuple(arguments[index:stop])


_MOST_WORDS = {Arity.FLAG: 0, Arity.SWITCH: 0, Arity.ONE: 1, Arity.OPTIONAL: 1}


def _spellings() -> dict[str, Listed]:
    """Every spelling, `--no-…` among them, with its option."""
    table: dict[str, Listed] = {}
    for option in (*HARMLESS, *IDENTITY, _COMPILATION_CONFIG, *_SHARED_OPTIONS):
        for spelling in option.spellings:
            table[spelling] = option
        if option.arity is Arity.FLAG:
            table[f"--no-{option.spellings[0].removeprefix('--')}"] = option
    return table


_SPELLINGS = _spellings()


_WORKER = "set by this tool for every process that probes"
_CACHE = "says where caches lie; a launch that may set the flag gets a cache root of its own"
_ACCESS_DATA = "a secret, which no process that probes is given; it opens the way to files that the key covers"
_PERSON = "says who started the process, where, and in which terminal"
_SETTINGS = "says where programs keep settings of a person; vLLM keeps that of its usage statistics there"
_LANGUAGE = "the language of messages"
_FILES = "says where files of the hub lie; the key of the verdict covers what is in them"

HARMLESS_VARIABLES: dict[str, str] = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": _WORKER,
    "HF_HUB_OFFLINE": _WORKER,
    "HF_TOKEN_PATH": _WORKER,
    "PYTHONDONTWRITEBYTECODE": _WORKER,
    "PYTHONUNBUFFERED": _WORKER,
    "TRANSFORMERS_OFFLINE": "as HF_HUB_OFFLINE, for transformers",
    "TRANSFORMERS_VERBOSITY": _WORKER,
    "VLLM_CPU_KVCACHE_SPACE": f"{_WORKER}; the size of a CPU's KV cache alone (vllm/platforms/cpu.py)",
    "VLLM_DO_NOT_TRACK": _WORKER,
    "VLLM_ENABLE_V1_MULTIPROCESSING": f"{_WORKER}; in which process the engine runs (vllm/v1/engine/llm_engine.py)",
    "VLLM_LOGGING_LEVEL": f"{_WORKER}; beside logs it adds assertions (vllm/config/compilation.py, cuda_graph.py)",
    "VLLM_NO_USAGE_STATS": _WORKER,
    "TUNER_PROBE": f"{_WORKER}; the mark by which its processes are found",
    "OMP_NUM_THREADS": f"{_WORKER}; how many threads do arithmetic on a CPU",
    "VLLM_USE_AOT_COMPILE": f"{_WORKER}; how a trace is stored, not what is traced (vllm/compilation/decorators.py)",
    "VLLM_DISABLE_COMPILE_CACHE": f"{_WORKER}; a launch that may set the flag has a cache of its own",
    "TMPDIR": _CACHE,
    "TORCHINDUCTOR_CACHE_DIR": _CACHE,
    "TRITON_CACHE_DIR": _CACHE,
    "VLLM_CACHE_ROOT": _CACHE,
    "XDG_CACHE_HOME": _CACHE,
    "HF_HOME": _FILES,
    "HF_HUB_CACHE": _FILES,
    "HUGGINGFACE_HUB_CACHE": _FILES,
    "HF_TOKEN": _ACCESS_DATA,
    "HUGGING_FACE_HUB_TOKEN": _ACCESS_DATA,
    "S3_ACCESS_KEY_ID": _ACCESS_DATA,
    "S3_SECRET_ACCESS_KEY": _ACCESS_DATA,
    "VLLM_API_KEY": "a secret of the HTTP server, which no process that probes is given",
    "COLUMNS": _PERSON,
    "HOME": _PERSON,
    "HOSTNAME": _PERSON,
    "LINES": _PERSON,
    "LOGNAME": _PERSON,
    "NO_COLOR": _PERSON,
    "OLDPWD": _PERSON,
    "PWD": _PERSON,
    "SHLVL": _PERSON,
    "TERM": _PERSON,
    "USER": _PERSON,
    "XDG_CONFIG_HOME": _SETTINGS,
    "XDG_DATA_HOME": _SETTINGS,
    "XDG_STATE_HOME": _SETTINGS,
    "LANG": _LANGUAGE,
    "LANGUAGE": _LANGUAGE,
    "LC_ALL": _LANGUAGE,
    "LC_MESSAGES": _LANGUAGE,
    "TEMP": _CACHE,
    "TMP": _CACHE,
}
"""Variable -> why it may differ between the process that made a proof and the server."""


def variables_agree(recorded: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Whether every variable that was read for a proof has the same value now, but `HARMLESS_VARIABLES`.

    Args:
        recorded: variable -> sha256 of its value as hexadecimal; empty if it was not set.
        environ: the variables of the launch.
    """
    counting = {name: digest for name, digest in recorded.items() if name not in HARMLESS_VARIABLES}
    return all(digest == value_digest(environ.get(name)) for name, digest in counting.items())


def value_digest(value: str | None) -> str:
    """What is recorded of the value of a variable; None stands for one that is not set."""
    return "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
