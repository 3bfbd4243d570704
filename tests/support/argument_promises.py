"""Test support: what is promised of one argument list, given what a real vLLM makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import structs
from real_parsers import RealParser

from rules.errors import TunerError
from tuner.arguments.serve_arguments import ServeArguments, merge, parse
from tuner.arguments.serving import Serving
from tuner.errors import exit_code_of

ADDITION = {"fast_moe_cold_start": False}
DEFAULT_MODEL = "Qwen/Qwen3-0.6B"  # what vLLM serves if no model is named
DEFAULT_LEVEL = 2
"""The optimisation level of a launch that names none."""


@dataclass(frozen=True)
class Case:
    """One argument list, what we made of it, and what vLLM makes of it and of our merged list.

    Attributes:
        args: the list.
        ours: None if we refuse it.
        code: the exit code with which we refuse it.
        vllm: its answer; see `vllm_parser.py`.
        merged: its answer to the list with `ADDITION` merged in; empty if one of us refuses the list as given.
        file_says_no: the `--config` file switches prefix caching off.
        knows_sc: the release knows every `-sc` of the list, an option from 0.19.1 on (not in 0.18.1).
    """

    args: list[str]
    ours: ServeArguments | None
    code: int
    vllm: dict[str, Any]
    merged: dict[str, Any]
    file_says_no: bool = False
    knows_sc: bool = True

    @property
    def accepted(self) -> bool:
        """Whether both of us take the list as given."""
        return self.ours is not None and "refused" not in self.vllm


def case_of(args: list[str], real: RealParser, file: str | None = None) -> Case:
    """Ask both about a list."""
    ours, code, vllm, merged = None, 0, real.read(args), {}
    try:
        ours = parse(args, lambda path: (real.folder / path).read_text(encoding="utf-8"), vllm=real.version)
    except TunerError as error:
        code = int(exit_code_of(error))
    if ours is not None and "refused" not in vllm:
        merged = real.read(merge(ours, ADDITION))
    knows_sc = "-sc" in real.options or not any(argument.startswith("-s") for argument in args)
    return Case(args, ours, code, vllm, merged, "enable-prefix-caching: false" in (file or ""), knows_sc)


def what_we_refuse_vllm_refuses(case: Case) -> None:
    """A list that we refuse is one that vLLM would not start with, and both end with the same exit code."""
    if case.ours is None:
        assert "refused" in case.vllm or refused_after_parsing(case.vllm["values"])
        assert case.code == exit_code(case.vllm) or not case.knows_sc


def config_is_what_vllm_stores_and_what_it_drops(case: Case) -> None:
    """Ours is vLLM's config plus exactly the keys we name as dropped, and a warning says which."""
    if case.ours is not None and case.accepted:
        assert without(case.ours.compilation_config, case.ours.dropped) == (case.vllm["compilation_config"] or {})
        assert all(any(name in warning for warning in case.ours.warnings) for name in case.ours.dropped)


def merged_list_means_ours_plus_the_addition(case: Case) -> None:
    """The rewritten list is to vLLM the user's config plus our key, where the user did not set it."""
    if case.ours is not None and case.accepted:
        assert "refused" not in case.merged, case.merged
        assert case.merged["compilation_config"] == ADDITION | case.ours.compilation_config


def merged_list_changes_no_other_value(case: Case) -> None:
    """Every other value that vLLM parses is the same before and after the rewriting, the model included."""
    if case.accepted:
        assert case.merged["others"] == case.vllm["others"]


def serving_facts_are_what_vllm_parses(case: Case) -> None:
    """Every serving fact has the value that this release's parser gives it; what it does not know is unset."""
    if case.ours is not None and case.accepted:
        theirs = vllm_facts(case)
        assert comparable(structs.asdict(case.ours.serving), theirs, case) == theirs


def model_is_the_one_vllm_serves(case: Case) -> None:
    """The model is the one vLLM would serve, or none where we leave it to the release's parser."""
    if case.ours is not None and case.accepted and case.ours.model is not None:
        values = case.vllm["values"]
        named = None if values["model"] == DEFAULT_MODEL else values["model"]
        assert case.ours.model == (values["model_tag"] or named)


def dropped_false_is_named(case: Case) -> None:
    """Where vLLM leaves prefix caching undecided although the file switches it off, a warning says so."""
    if case.ours is not None and case.accepted and case.file_says_no:
        named = any("enable-prefix-caching: false" in warning for warning in case.ours.warnings)
        assert named is (case.vllm["others"]["enable_prefix_caching"] != "False")


PROMISES: tuple[Callable[[Case], None], ...] = (
    what_we_refuse_vllm_refuses,
    config_is_what_vllm_stores_and_what_it_drops,
    merged_list_means_ours_plus_the_addition,
    merged_list_changes_no_other_value,
    serving_facts_are_what_vllm_parses,
    model_is_the_one_vllm_serves,
    dropped_false_is_named,
)


def refused_after_parsing(values: dict[str, Any]) -> bool:
    """Whether vLLM's parser takes a value that its configs do not: not an object, of two options, or not a level."""
    if str(values["optimization_level"]) not in {"0", "1", "2", "3"}:
        return True
    return any(not isinstance(values[name] or {}, dict) for name in ("hf_overrides", "speculative_config"))


def exit_code(vllm: dict[str, Any]) -> int:
    """With which `vllm serve` ends on a list that it refuses: argparse's 2, or 1 for a traceback."""
    return 2 if vllm.get("refused") == "SystemExit(2)" else 1


def without(config: dict[str, Any], names: tuple[str, ...], before: str = "") -> dict[str, Any]:
    """The config less the keys of these dotted names; a key may have dots of its own."""
    kept = {key: value for key, value in config.items() if f"{before}{key}" not in names}
    return {
        key: without(value, names, f"{before}{key}.") if isinstance(value, dict) else value
        for key, value in kept.items()
    }


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
    return {name: values[name] for name in structs.asdict(Serving()) if name in values}


def comparable(facts: dict[str, Any], theirs: dict[str, Any], case: Case) -> dict[str, Any]:
    """Our facts, none and empty overrides being the same, and no optimisation level being vLLM's default.

    `-dc` is short for `-dcp` in a release without a `-dc` of its own; we do not read it.
    """
    facts["hf_overrides"] = facts["hf_overrides"] or None
    facts["optimization_level"] = DEFAULT_LEVEL if facts["optimization_level"] is None else facts["optimization_level"]
    if "-dc" in case.args:
        facts["decode_context_parallel_size"] = case.vllm["values"]["decode_context_parallel_size"]
    return {name: value for name, value in facts.items() if name in theirs}
