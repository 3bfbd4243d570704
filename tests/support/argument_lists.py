"""Test support: argument lists of `vllm serve` that hypothesis makes, in every spelling that vLLM reads."""

import json
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tuner.arguments.vllm_options import OPTIONS, Kind, Option

FILE = "serve.yaml"
"""Name of the `--config` file, in the working directory."""


@dataclass(frozen=True)
class Composed:
    """An argument list, and the text of the `--config` file that it names; None if it names none."""

    args: list[str]
    file: str | None


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
"""Any text that an argument can hold."""
JSON_TEXT = TEXT | st.sampled_from(["/data/a.b/c=d", "ünï", 'say "9g"', "None", "$HOME", "a'b"])
FREE: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
VALUES: dict[str, SearchStrategy[Any]] = {
    "mode": st.sampled_from([0, 3]),
    "cudagraph_mode": st.sampled_from(["NONE", "PIECEWISE"]),
    "cache_dir": JSON_TEXT,
    "custom_ops": st.sampled_from([["none"], ["+rms_norm", "-silu_and_mul"]]),
    "pass_config": st.sampled_from(
        [{"fuse_norm_quant": False}, {"fuse_act_quant": True, "eliminate_noops": False}, {}]
    ),
    "inductor_compile_config": st.dictionaries(st.sampled_from(["a", "b-c", "d"]), FREE, max_size=2),
    "compile_sizes": st.sampled_from([[1, 2], ["cudagraph_capture_sizes"]]),
    "max_cudagraph_capture_size": st.integers(1, 512),
    "fast_moe_cold_start": st.sampled_from([True, False, None]),
}
"""Keys of the compilation config that every release from 0.16.0 knows."""
NESTED: dict[str, SearchStrategy[str]] = {
    "pass_config.fuse_norm_quant": st.sampled_from(["true", "false"]),
    "pass_config.fuse_act_quant": st.just("true"),
    "inductor_compile_config.a.b": TEXT
    | st.sampled_from(["2", 'with "quotes"', "80g", "1.5k", "0x1", "NaN", "-Infinity", "1e999"]),
    "inductor_compile_config.a": FREE.map(json.dumps),
    "max_cudagraph_capture_size": st.sampled_from(["2k", "0.5k", "2K"]),  # refused before 0.20
    "custom_ops+": st.sampled_from(["none,+rms_norm", "all"]),
}
SPELLINGS = st.sampled_from(["--compilation-config", "--compilation_config", "--compil", "-cc", "-cc"])
FACTS: dict[str, SearchStrategy[str]] = {
    "model_impl": st.sampled_from(["auto", "vllm", "transformers"]),
    "quantization": st.sampled_from(["fp8", "None", "awq"]),
    "tokenizer_mode": st.sampled_from(["auto", "slow", "mistral"]),
    "config_format": st.sampled_from(["auto", "hf", "mistral"]),
    "optimization_level": st.sampled_from(["0", "1", "2", "3"]),
    "hf_overrides": st.sampled_from(['{"architectures": ["A"]}', "{}", '{"text_config": {"n": 2}}', '{"a": [NaN]}']),
    "speculative": st.sampled_from(
        ['{"method": "ngram", "num_speculative_tokens": 2}', '{"num-x": 1}', '{"num-x": Infinity}', "None"]
    ),
}
"""Values of options that not every text fits, by field."""
NEIGHBOURS: list[list[str]] = [
    ["--port", "8001"],
    ["--served-model-name", "a", "b"],
    ["--lora-modules", "a=b", "c=d"],
    ["--gpu-memory-utilization", "0.5"],
    ["--limit-mm-per-prompt.image", "2"],
    ["--limit-mm-per-prompt", '{"image": 2}'],
    ["--config=ignored.yaml"],
    ["--trust-rem"],
    ["-t", "2"],
    ["-qfp8"],
    ["-O3"],
    ["-O=1"],
    ["--hf-overrides.text_config.n", "2"],
    ["--hf-overrides.text_config.n=NaN"],
    ["--speculative-config.method=mtp"],
    ["--speculative_config.num-speculative-tokens", "2"],
]


@st.composite
def composed(draw: DrawFn) -> Composed:
    """A list that mixes spellings, options, ways to name the model and a `--config` file."""
    parts = draw(st.lists(st.one_of(configs(), configs(), facts(), st.sampled_from(NEIGHBOURS)), max_size=6))
    file = draw(st.none() | st.none() | file_options())
    if file is not None:
        parts.insert(draw(st.integers(0, len(parts))), ["--config", FILE])
    arguments = [argument for part in parts for argument in part]
    return Composed(named_model(draw, arguments), None if file is None else yaml.safe_dump(file, sort_keys=False))


def named_model(draw: DrawFn, arguments: list[str]) -> list[str]:
    """The list with its model named in one of vLLM's ways."""
    way = draw(st.sampled_from(["first", "first", "option", "joined", "behind --", "behind a config"]))
    if way == "option":
        return [*arguments, "--model", "some/model"]
    if way == "joined":
        return ["--model=some/model", *arguments]
    if way == "first" or "--config" in arguments or "--served-model-name" in arguments:  # with these it must be first
        return ["some/model", *arguments]
    if way == "behind a config":  # the config is all that keeps `--lora-modules` from swallowing the model
        return [*arguments, "--lora-modules", "a=b", "-cc", draw(json_configs()), "some/model"]
    dotted = any(a.startswith("-") and "." in a.partition("=")[0] for a in arguments)
    return ["some/model", *arguments] if dotted else [*arguments, "--", "some/model"]


@st.composite
def configs(draw: DrawFn) -> list[str]:
    """One compilation config argument, in any spelling."""
    spelling = draw(SPELLINGS)
    if draw(st.booleans()):
        return joined(draw, spelling, draw(json_configs()))
    if draw(st.booleans()):
        key = draw(st.sampled_from(list(NESTED)))
        return joined(draw, f"{spelling}.{key}", draw(NESTED[key]))
    key = draw(st.sampled_from(list(VALUES)))
    value = draw(VALUES[key])
    return joined(draw, f"{spelling}.{key}", value if isinstance(value, str) else json.dumps(value))


@st.composite
def json_configs(draw: DrawFn) -> str:
    """A compilation config of a few keys as JSON, written in one of many ways."""
    keys = draw(st.lists(st.sampled_from(list(VALUES)), max_size=3))
    value = {key: draw(VALUES[key]) for key in keys}
    return json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1)))


@st.composite
def facts(draw: DrawFn) -> list[str]:
    """One use of an option that we read, but the compilation config, the model and the file."""
    option = draw(st.sampled_from([o for o in OPTIONS if o.field not in {"model", "config", "compilation_config"}]))
    spelling = draw(st.sampled_from(option.spellings))
    if option.kind is Kind.FLAG:
        negated = f"--no-{option.spellings[0].removeprefix('--')}"
        return [underscored(draw, draw(st.sampled_from([spelling, negated])))]
    return joined(draw, underscored(draw, spelling), draw(value_of(option)))


def value_of(option: Option) -> SearchStrategy[str]:
    """Values that an option takes, and a few that it does not."""
    if option.kind is Kind.INTEGER:
        return st.integers(1, 8).map(str) | st.sampled_from(["08", " 2", "1_0"])
    return FACTS.get(option.field if not option.key else "", TEXT.filter(lambda text: not text.startswith("-")))


def underscored(draw: DrawFn, spelling: str) -> str:
    """A long option, with underscores in place of dashes or not."""
    if not spelling.startswith("--") or draw(st.booleans()):
        return spelling
    return "--" + spelling.removeprefix("--").replace("-", "_")


def joined(draw: DrawFn, option: str, value: str) -> list[str]:
    """The option and its value, as one argument or as two."""
    return draw(st.sampled_from([[f"{option}={value}"], [option, value]]))


@st.composite
def file_options(draw: DrawFn) -> dict[str, Any]:
    """The content of a `--config` file."""
    options: dict[str, Any] = {"port": 8002}
    extra: dict[str, SearchStrategy[Any]] = {
        "enforce-eager": st.booleans(),
        "enable-prefix-caching": st.booleans(),
        "model": st.just("model/of-the-file"),
        "speculative-config": st.just({"method": "mtp", "num-speculative-tokens": 1}),
        "served-model-name": st.just(["x", "y"]),
        "tensor_parallel_size": st.integers(1, 4),
        "revision": TEXT.filter(lambda text: not text.startswith("-")),
    }
    options |= {key: draw(extra[key]) for key in draw(st.lists(st.sampled_from(list(extra)), max_size=3, unique=True))}
    config = json.loads(draw(json_configs()))
    key = draw(st.sampled_from(["compilation-config", "compilation_config"]))
    form = draw(st.sampled_from(["mapping", "text", "dotted", "none"]))
    if form == "dotted":
        options |= {f"{key}.mode": 0, f"{key}.pass_config.fuse_act_quant": "true"}
    elif form != "none":
        options[key] = config if form == "mapping" else json.dumps(config)
    return options
