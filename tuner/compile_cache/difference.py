"""What differs between two launches as far as vLLM's compile cache can tell. Pure.

A document of factors holds exactly what its release hashes, so no table of releases is needed to say what moves a key:
a variable or field that is in the document counts, and one that a release leaves out (HOME from 0.27, the API key from
0.29, `enforce_eager` in all) is not in it.

What to do about each difference stands with it, one sentence each.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any

from tuner.compile_cache.factors_document import is_whole

OPTIONS = ("model_config", "cache_config", "parallel_config", "scheduler_config")
"""Configs whose fields are options of `vllm serve`, by the same name with dashes."""
OPTION_NAMES = {"cache_dtype": "kv-cache-dtype"}
FOLLOWS = ("static_all_moe_layers", "enabled_custom_ops", "disabled_custom_ops", "kv_cache_layout")
"""Fields that vLLM fills itself while it builds the model."""
FLAG = "fast_moe_cold_start"
FOLDER = {
    "env": "Start with the variables in the folder's cache_key_factors.json, or warm again.",
    "config_hash": (
        "Start with the options, model path and vLLM that filled the folder, or warm again: "
        "which of them differs, only a record of `tuner cache warm` tells."
    ),
    "compiler_hash": (
        "Serve with the torch, Triton, GPU and settings of Inductor that filled the folder, or warm again: vLLM keeps "
        "their hash alone. These settings follow from TORCHINDUCTOR_ variables."
    ),
}
FROM_MODEL = ("model_config.hf_config.", "model_config.hf_text_config.")


def variable_fix(name: str, before: Any, home: bool) -> str:
    """For an environment variable.

    Args:
        name: the variable.
        before: its value while warming.
        home: it differs because HOME or an XDG folder does.
    """
    if home:
        return f"Keep HOME and the XDG folders as while warming, or set {name}={before} for both."
    if name == "VLLM_API_KEY":
        return "Give the key with --api-key in both launches: vLLM hashes this variable up to 0.28.0."
    if before is None:
        return f"Leave {name} unset, as while warming, or warm with it."
    return f"Start with {name}={_text(before)}, as while warming, or warm again."


def config_fix(name: str, before: Any) -> str:
    """For a field of vLLM's config, by its dotted name; `before` is its value while warming."""
    part, _, field = name.partition(".")
    if name == "model_config.model" or name.startswith(FROM_MODEL):
        return _model_fix(name, before)
    if field in FOLLOWS:
        return "vLLM fills this field itself: it follows from another difference, or from how the model is built."
    if field == FLAG:
        return "The verdict decides this value: warm with the launch of `tuner plan`, and change nothing here."
    if part == "compilation_config" and field:
        return f"Set {field} to {_text(before)} in --compilation-config, or warm again."
    if part in OPTIONS and field:
        option = OPTION_NAMES.get(field, field.replace("_", "-"))
        return f"Give --{option} as while warming, when it came to {_text(before)}; or warm again."
    return f"Set {name} as while warming, or warm again."


def _model_fix(name: str, before: Any) -> str:
    if name == "model_config.model":
        return f"Serve the model as {_text(before)}: the path or hub id itself is hashed."
    if name.endswith(".transformers_version"):
        return f"Serve with transformers {_text(before)}, as while warming: its version is in the model's config."
    return "The model's config.json is another one; warm with this one."


def system_fix(name: str, before: Any) -> str:
    """For a version, the machine, or a setting of the compiler's."""
    if name == "gpu":
        return f"Warm on this kind of GPU; the cache was filled on {_text(before)}."
    if name == "platform":
        return f"Warm on this platform; the cache was filled on {_text(before)}."
    if name in {"setting", "inductor"}:
        return "Start with the same TORCHINDUCTOR_ variables, torch and machine as while warming, or warm again."
    return f"Serve with {name} {_text(before)}, as while warming, or warm with this one."


def source_fix(before: Any, after: Any) -> str:
    """For a source file, by its digests."""
    if before is None:
        return "The file is new since the warm-up; warm with it."
    if after is None:
        return "The file is gone since the warm-up; put it back, or warm without it."
    return "The file was changed since the warm-up; put it back, or warm with it."


def folder_fix(part: str) -> str:
    """For a part of which a folder of graphs keeps a hash alone."""
    return FOLDER[part]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


AFTER_HOME = ("VLLM_CONFIG_ROOT", "VLLM_XLA_CACHE_PATH")
"""Variables with a default below HOME or an XDG folder; hashed up to 0.26.0 (vllm/envs.py)."""
PLACES = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
BY_POSITION = {"scheduler_config.0": "max_num_batched_tokens", "scheduler_config.1": "max_num_seqs"}
"""Factors that vLLM lists without names (vllm/config/scheduler.py; the second from 0.32.0)."""
MACHINE = ("torch", "triton", "gpu", "platform")
MEGA = {"inductor_system": "system", "torch_sources": "torch"}
"""Factors of a key with mega artifacts -> the same in `system.inductor`."""


class Effect(StrEnum):
    """What a difference does."""

    KEY = "key"
    """The launch looks in another folder."""
    LOAD = "load"
    """The folder is the same, and what lies in it is compiled again."""
    MAYBE = "maybe"
    """As one of the two, or nothing; only vLLM knows: it asks which files its trace ran through."""
    NONE = "none"
    """Nothing."""


@dataclass(frozen=True)
class Difference:
    """One factor that differs.

    Attributes:
        kind: `variable`, `config`, `source`, `compiler`, `path` or `home`.
        name: which.
        before: value of the launch that filled the cache; None: it had none.
        after: value of this launch; None: it has none.
        effect: what the difference does.
        fix: what to do about it, one sentence; empty where nothing needs to be done.
    """

    kind: str
    name: str
    before: Any
    after: Any
    effect: Effect
    fix: str


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """All differences between two documents of factors, those first that move the key.

    Of two releases of vLLM the system alone is compared: their lists differ by themselves, and the release is hashed.
    """
    differences = list(_system(before, after))
    if before["system"]["vllm"] == after["system"]["vllm"]:
        for compare in (_variables, _config, _compiler, _sources, _places):
            differences += compare(before, after)
    order = list(Effect)
    return sorted(differences, key=lambda difference: order.index(difference.effect))


def known_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference] | None:
    """As `differences`; None if the first document, which comes from a record, is damaged."""
    return differences(before, after) if is_whole(before) else None


def variables_differ(before: Mapping[str, Any], after: Mapping[str, Any], *, moved: bool) -> Iterator[Difference]:
    """The environment variables that differ; `moved`: HOME or an XDG folder does, or may."""
    for name, old, new in _differing(before, after):
        home = name in AFTER_HOME and moved
        yield Difference("home" if home else "variable", name, old, new, Effect.KEY, variable_fix(name, old, home))


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each name whose value differs, with both; objects are compared name by name, written with dots."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for inner, inner_old, inner_new in _differing(old, new):
                yield f"{name}.{inner}", inner_old, inner_new
        elif old != new:
            yield name, old, new


def _variables(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    places = {name for name, _, _ in _differing(before["paths"], after["paths"])} & set(PLACES)
    yield from variables_differ(before["variables"]["values"], after["variables"]["values"], moved=bool(places))


def _config(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    old_parts, new_parts = before["config"]["parts"], after["config"]["parts"]
    for part in sorted({*old_parts, *new_parts}):
        old, new = old_parts.get(part, {}), new_parts.get(part, {})
        if old != new:
            yield from _part(part, old, new, {*old_parts, *new_parts})


def _part(part: str, old: Mapping[str, Any], new: Mapping[str, Any], parts: set[str]) -> Iterator[Difference]:
    """The fields of one config that differ; those with a part of their own are left to it."""
    fields = [
        (f"{part}.{BY_POSITION.get(f'{part}.{name}', name)}", value, other)
        for name, value, other in _differing(old.get("factors", {}), new.get("factors", {}))
        if f"{part}.{name}" not in parts
    ]
    names = set(map(itemgetter(0), fields))
    for name, value, other in fields:
        if name.replace(".hf_text_config.", ".hf_config.") in names - {name}:  # the same field, listed twice
            continue
        kind = "path" if name == "model_config.model" else "config"
        yield Difference(kind, name, value, other, Effect.KEY, config_fix(name, value))
    if not fields and not any(inner.startswith(f"{part}.") for inner in parts):
        yield Difference("config", part, old.get("hash"), new.get("hash"), Effect.KEY, config_fix(part, None))


def _system(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """The release, what compiles, and the machine.

    With mega artifacts torch, triton and the GPU are in the key; without, torch refuses an artifact of others, as it
    does with another Python (torch/_dynamo/package.py, `SystemInfo`, 2.10 and 2.13). Without ahead-of-time artifacts
    they are in the name of the folder of graphs, and nothing asks for the Python.
    """
    old, new = before["system"], after["system"]
    ahead = after["compiles"]["aot"]
    effect = Effect.KEY if after["compiles"]["mega"] or not ahead else Effect.LOAD
    python = Effect.LOAD if ahead else Effect.MAYBE
    effects = {"vllm": Effect.KEY, **dict.fromkeys(MACHINE, effect), "python": python}
    if new["platform"] == "cpu":
        effects["triton"] = Effect.NONE  # it compiles nothing there, and neither list asks for it
    named = [name for name in effects if old[name] != new[name]]
    for name in named:
        fix = system_fix(name, old[name]) if effects[name] is not Effect.NONE else ""
        yield Difference("compiler", name, old[name], new[name], effects[name], fix)
    if not {*named} & {*MACHINE}:
        for name, digest, other in _differing(old["inductor"], new["inductor"]):
            yield Difference("compiler", f"inductor.{name}", digest, other, effect, system_fix("inductor", None))


def _compiler(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Settings of Inductor's that are in the key; `_system` names the digests, and other functions the rest."""
    old, new = _settings(before), _settings(after)
    if not old or not new:
        return
    for name, value, other in _differing(old, new):
        yield Difference("compiler", name, value, other, Effect.KEY, system_fix("setting", value))


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a key that no other part of the document repeats."""
    repeated = {"variables", "config", *MEGA}
    return {name: value for name, value in document["keys"]["parts"].items() if name not in repeated}


def _sources(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """The compiled function's own file was traced, and the line it begins at is in the key (`_model_hash_key`).

    Without ahead-of-time artifacts all that was traced is in the name of the folder of graphs.
    """
    lines, old_lines = _first_lines(after), _first_lines(before)
    own = set() if after["compiles"]["aot"] else set(map(itemgetter("file"), after["keys"]["graphs"]["modules"]))
    for name, old, new in _differing(before["sources"], after["sources"]):
        effect = Effect.MAYBE if name not in lines else Effect.LOAD
        if lines.get(name) != old_lines.get(name) or name in own:
            effect = Effect.KEY
        yield Difference("source", name, old, new, effect, source_fix(old, new))


def _first_lines(document: Mapping[str, Any]) -> dict[str, Any]:
    """File -> the line at which its compiled function begins."""
    return {function["file"]: function["line"] for function in document["keys"]["aot"]}


def _places(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Where vLLM lies counts in the name of the folder of graphs, which mega artifacts do without; HOME never does."""
    for name, old, new in _differing(before["paths"], after["paths"]):
        if name in PLACES:
            yield Difference("home", name, old, new, Effect.NONE, "")
            continue
        effect = _effect_of_place(after["compiles"])
        fix = f"Install the packages at {old}, as while warming." if effect is not Effect.NONE else ""
        yield Difference("path", name, old, new, effect, fix)


def _effect_of_place(compiles: Mapping[str, Any]) -> Effect:
    if not compiles["aot"]:
        return Effect.KEY
    return Effect.NONE if compiles["mega"] else Effect.LOAD
