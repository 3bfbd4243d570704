"""What we read in an argument list, against what the parser of a real vLLM reads in it."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.arguments import ServeArguments, merge, parse
from tuner.errors import TunerError
from tuner.options import OPTIONS, scan
from tuner.serving import Serving

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[1]
PARSER = Path(__file__).with_name("vllm_parser.py")
MAKE_TARGETS = {"current": "setup", "flag-live": "setup-flag-live"}
COMPOSED = 300  # argument lists in all spellings
SEED = 20
ADDITION = {"fast_moe_cold_start": False}
DEFAULT_MODEL = "Qwen/Qwen3-0.6B"  # what vLLM serves if no model is named
DEFAULT_LEVEL = 2
"""The optimisation level of a launch that names none."""
PARSE_LIMIT_S = 300


@dataclass(frozen=True)
class Case:
    """One argument list, what we made of it, and what vLLM makes of it and of our merged list."""

    args: list[str]
    ours: ServeArguments
    vllm: dict[str, Any]
    vllm_merged: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether vLLM takes the list as given."""
        return "refused" not in self.vllm


@dataclass(frozen=True)
class Answers:
    """Everything one vLLM was asked."""

    options: list[str]
    composed: list[Case]
    shortened: list[Case]
    refused_by_us: list[tuple[list[str], dict[str, Any]]]

    @property
    def accepted(self) -> list[Case]:
        """Every case that vLLM takes as given."""
        return [case for case in (*self.composed, *self.shortened) if case.accepted]


@pytest.fixture(scope="module", params=list(MAKE_TARGETS))
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """All answers of one vLLM, which starts once."""
    release = str(request.param)
    python = ROOT / ".envs" / release / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{release}; `make {MAKE_TARGETS[release]}` creates it.")
    folder = tmp_path_factory.mktemp(release)
    lists = [*composed_lists(folder), *shortened_lists()]
    ours = [read(args) for args in lists]
    merged = [list(merge(arguments, ADDITION)) if arguments else [] for arguments in ours]
    answer = ask(python, folder, [*lists, *merged])
    cases = [
        Case(args, arguments, given, rewritten)
        for args, arguments, given, rewritten in zip(
            lists, ours, answer["cases"][: len(lists)], answer["cases"][len(lists) :], strict=True
        )
        if arguments
    ]
    refused = [
        (args, given) for args, arguments, given in zip(lists, ours, answer["cases"], strict=False) if not arguments
    ]
    composed = sum(1 for arguments in ours[:COMPOSED] if arguments)
    return Answers(answer["options"], cases[:composed], cases[composed:], refused)


def read(args: list[str]) -> ServeArguments | None:
    """What we make of the list; None if we refuse it."""
    try:
        return parse(args)
    except TunerError:
        return None


def ask(python: Path, folder: Path, lists: list[list[str]]) -> dict[str, Any]:
    """The answer of the vLLM behind `python`, which starts once for all lists."""
    output = folder / "answer.json"
    with (folder / "log.txt").open("wb") as log:
        done = subprocess.run(
            [python, PARSER, output],
            input="\n".join(map(json.dumps, lists)).encode(),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            timeout=PARSE_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, (folder / "log.txt").read_text(errors="replace")[-2000:]
    answer: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return answer


# --- the argument lists -----------------------------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "mode": [0, 3],
    "cudagraph_mode": ["NONE", "PIECEWISE"],
    "cache_dir": ["/data/a.b/c=d", "ünï", 'say "9g"'],
    "custom_ops": [["none"], ["+rms_norm", "-silu_and_mul"]],
    "pass_config": [{"fuse_norm_quant": False}, {"fuse_act_quant": True, "eliminate_noops": False}, {}],
    "inductor_compile_config": [{"a": {"b": 1, "c": [1.5, None]}}, {"a": {"d": "x"}}, {"a": 2}],
    "compile_sizes": [[1, 2], ["cudagraph_capture_sizes"]],
    "max_cudagraph_capture_size": [8, 512],
    "fast_moe_cold_start": [True, False, None],
}
NESTED: dict[str, list[Any]] = {
    "pass_config.fuse_norm_quant": [True, False],
    "pass_config.fuse_act_quant": [True],
    "inductor_compile_config.a.b": [2, "text", 'with "quotes"'],
    "inductor_compile_config.a": [3],
    "max_cudagraph_capture_size": ["2k", "0.5k", "2K"],  # 0.19.1 refuses these
}
LONG = ("--compilation-config", "--compilation_config", "--compil")
NEIGHBOURS: list[list[str]] = [
    ["-O3"],
    ["-O", "2"],
    ["-O=1"],
    ["--tensor_parallel_size", "2"],
    ["-tp=4"],
    ["-t", "2"],
    ["--port", "8001"],
    ["--served-model-name", "a", "b"],
    ["--lora-modules", "a=b", "c=d"],
    ["--enforce-eager"],
    ["--no-enforce-eager"],
    ["--no_enable_lora"],
    ["--enable-lora"],
    ["--gpu-memory-utilization", "0.5"],
    ["-q", "fp8"],
    ["-qfp8"],
    ["--quantization", "None"],
    ["--hf-overrides", '{"architectures": ["A"]}'],
    ["--hf-overrides.text_config.n", "2"],
    ["-sc", '{"method": "ngram", "num_speculative_tokens": 2}'],
    ["--speculative-config.method=mtp"],
    ["--speculative_config", "None"],
    ["--model-impl", "transformers"],
    ["--limit-mm-per-prompt.image", "2"],
    ["--config=ignored.yaml"],
    ["--trust-rem"],
    ["-ep"],
]


def composed_lists(folder: Path) -> Iterator[list[str]]:
    """Argument lists that mix spellings, neighbours, ways to name the model and `--config` files."""
    choose = random.Random(SEED)  # noqa: S311  reproducible, not secret
    for number in range(COMPOSED):
        parts = [spelled_config(choose) for _ in range(choose.choice([0, 1, 1, 2, 2, 3, 4]))]
        parts += choose.sample(NEIGHBOURS, choose.randint(0, 3))
        choose.shuffle(parts)
        if choose.random() < 0.3:
            path = folder / f"{number}.yaml"
            path.write_text(yaml.safe_dump(file_options(choose), sort_keys=False), encoding="utf-8")
            parts.insert(choose.randint(0, len(parts)), ["--config", str(path)])
        arguments = [argument for part in parts for argument in part]
        yield named_model(choose, arguments)


def named_model(choose: random.Random, arguments: list[str]) -> list[str]:
    """The list with its model named in one of vLLM's ways."""
    way = choose.choice(["first", "first", "option", "joined", "behind --", "behind a config"])
    if way == "option":
        return [*arguments, "--model", "some/model"]
    if way == "joined":
        return ["--model=some/model", *arguments]
    if way == "first" or "--config" in arguments or "--served-model-name" in arguments:  # with these it must be first
        return ["some/model", *arguments]
    if way == "behind a config":  # the config is all that keeps `--lora-modules` from swallowing the model
        return [*arguments, "--lora-modules", "a=b", "-cc", json_config(choose), "some/model"]
    dotted = any(a.startswith("-") and "." in a.partition("=")[0] for a in arguments)
    return ["some/model", *arguments] if dotted else [*arguments, "--", "some/model"]


def spelled_config(choose: random.Random) -> list[str]:
    """One compilation config argument, in any spelling."""
    spelling = choose.choice([*LONG, "-cc", "-cc"])
    if choose.random() < 0.4:
        return joined(choose, spelling, json_config(choose))
    if choose.random() < 0.15:
        return joined(choose, f"{spelling}.custom_ops+", "none,+rms_norm")
    key, values = choose.choice([*VALUES.items(), *NESTED.items()])
    value = choose.choice(values)
    text = value if isinstance(value, str) else json.dumps(value)
    return joined(choose, f"{spelling}.{key}", text)


def joined(choose: random.Random, option: str, value: str) -> list[str]:
    """The option and its value, as one argument or as two."""
    return [f"{option}={value}"] if choose.random() < 0.5 else [option, value]


def json_config(choose: random.Random) -> str:
    """A compilation config of zero to three keys."""
    keys = choose.sample(list(VALUES), choose.randint(0, 3))
    return json.dumps({key: choose.choice(VALUES[key]) for key in keys}, ensure_ascii=choose.random() < 0.5)


def file_options(choose: random.Random) -> dict[str, Any]:
    """The content of a `--config` file."""
    options: dict[str, Any] = {"port": 8002, "enforce-eager": choose.random() < 0.5}
    if choose.random() < 0.3:
        options["model"] = "model/of-the-file"
    config = json.loads(json_config(choose))
    key = choose.choice(["compilation-config", "compilation_config"])
    form = choose.choice(["mapping", "text", "dotted", "none"])
    if form == "dotted":
        options |= {f"{key}.mode": 0, f"{key}.pass_config.fuse_act_quant": "true"}
    elif form != "none":
        options[key] = config if form == "mapping" else json.dumps(config)
    if choose.random() < 0.3:
        options["speculative-config"] = {"method": "mtp", "num-speculative-tokens": 1}
    if choose.random() < 0.3:
        options["served-model-name"] = ["x", "y"]
    return options


def shortened_lists() -> Iterator[list[str]]:
    """Every option we read, by every beginning of its name and its opposite's."""
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


# --- the promises -----------------------------------------------------------------------------------------------------


def test_most_composed_lists_are_ones_that_vllm_accepts(answers: Answers) -> None:
    """The comparison is about real launches: vLLM itself takes nearly every composed list."""
    refused = [case.vllm["refused"] for case in answers.composed if not case.accepted]
    assert len(refused) <= COMPOSED // 10, refused[:5]


def test_what_we_refuse_vllm_refuses(answers: Answers) -> None:
    """A list that we call a usage error is one that vLLM would not start with."""
    assert len(answers.refused_by_us) > 100
    for args, vllm in answers.refused_by_us:
        assert "refused" in vllm or refused_after_parsing(vllm["values"]), args


def test_config_equals_what_vllm_stores_where_it_loses_nothing(answers: Answers) -> None:
    """Where vLLM loses no key, the config we read is the one vLLM stores."""
    kept = [case for case in answers.accepted if not case.ours.dropped]
    assert len(kept) > COMPOSED // 3
    for case in kept:
        assert case.ours.compilation_config == (case.vllm["compilation_config"] or {}), case.args


def test_dropped_keys_are_kept_and_named(answers: Answers) -> None:
    """Where vLLM drops keys, ours is its config plus exactly the keys we name, and a warning says so."""
    losing = [case for case in answers.accepted if case.ours.dropped]
    assert len(losing) > COMPOSED // 10
    for case in losing:
        assert without(case.ours.compilation_config, case.ours.dropped) == case.vllm["compilation_config"], case.args
        assert any(case.ours.dropped[0] in warning for warning in case.ours.warnings)


def test_merged_list_means_ours_plus_the_addition(answers: Answers) -> None:
    """VLLM reads the rewritten list as the user's config plus our key, where the user did not set it."""
    for case in answers.accepted:
        assert "refused" not in case.vllm_merged, (case.args, case.vllm_merged)
        assert case.vllm_merged["compilation_config"] == ADDITION | case.ours.compilation_config, case.args


def test_merged_list_changes_no_other_value(answers: Answers) -> None:
    """Every other value that vLLM parses is the same before and after the rewriting, the model included."""
    for case in answers.accepted:
        assert case.vllm_merged["others"] == case.vllm["others"], case.args


def test_merged_list_has_one_compilation_config(answers: Answers) -> None:
    """The rewritten list states one compilation config, and reading it again loses nothing."""
    for case in answers.accepted:
        merged = merge(case.ours, ADDITION)
        again = parse(merged)
        assert case.ours.file_has_dotted_keys or merged.count("--compilation-config") == 1
        assert again.compilation_config == ADDITION | case.ours.compilation_config
        assert again.rest == case.ours.rest or case.ours.file_has_dotted_keys


def test_serving_facts_are_what_vllm_parses(answers: Answers) -> None:
    """Every serving fact has the value that vLLM's parser gives it."""
    for case in answers.accepted:
        assert comparable(asdict(case.ours.serving), case) == vllm_facts(case), case.args


def test_model_is_the_one_vllm_serves(answers: Answers) -> None:
    """The model is the one vLLM would serve, or none where we leave it to the release's parser."""
    for case in answers.composed:
        if case.accepted:
            values = case.vllm["values"]
            named = None if values["model"] == DEFAULT_MODEL else values["model"]
            assert case.ours.model == (values["model_tag"] or named), case.args


def test_no_other_option_of_vllm_is_read_as_ours(answers: Answers) -> None:
    """An option of vLLM that we do not list is never taken for one we do."""
    listed = {spelling for option in OPTIONS for spelling in option.spellings}
    listed |= {f"--no-{spelling.removeprefix('--')}" for spelling in listed}
    foreign = [spelling for spelling in answers.options if spelling not in listed]
    assert len(foreign) > 100
    assert [spelling for spelling in foreign if scan([spelling, "2"])[0]] == []


def refused_after_parsing(values: dict[str, Any]) -> bool:
    """Whether an object option holds no object: vLLM's parser takes that for two options, its configs do not."""
    return any(not isinstance(values[name] or {}, dict) for name in ("hf_overrides", "speculative_config"))


def without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The config less the keys of these dotted names."""
    rest: dict[str, Any] = json.loads(json.dumps(config))
    for name in names:
        *parents, last = name.split(".")
        inner = rest
        for parent in parents:
            inner = inner[parent]
        del inner[last]
    return rest


def vllm_facts(case: Case) -> dict[str, Any]:
    """The serving facts in vLLM's namespace, under our names."""
    values = dict(case.vllm["values"])
    speculative = values.pop("speculative_config")
    for field, key in (("spec_method", "method"), ("spec_model", "model"), ("spec_tokens", "num_speculative_tokens")):
        if values.get(field) is not None:
            speculative = (speculative or {}) | {key: values[field]}
    if speculative:  # `EngineArgs.create_speculative_config` does this after parsing
        speculative = {key.replace("-", "_"): value for key, value in speculative.items()}
    values |= {"speculative": speculative, "hf_overrides": values["hf_overrides"] or None}
    values["enable_lora"] = bool(values["enable_lora"])  # None until it is given
    return {name: values[name] for name in asdict(Serving())}


def comparable(facts: dict[str, Any], case: Case) -> dict[str, Any]:
    """Our facts, none and empty overrides being the same, and no optimisation level being vLLM's default.

    `-dc` is short for `-dcp` in a release without a `-dc` of its own; we do not read it.
    """
    facts["hf_overrides"] = facts["hf_overrides"] or None
    facts["optimization_level"] = DEFAULT_LEVEL if facts["optimization_level"] is None else facts["optimization_level"]
    if "-dc" in case.args:
        facts["decode_context_parallel_size"] = case.vllm["values"]["decode_context_parallel_size"]
    return facts
