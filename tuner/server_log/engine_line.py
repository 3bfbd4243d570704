"""The line in which vLLM's engine prints the configuration it runs with. Pure.

`Initializing a V1 LLM engine (v0.19.1) with config: model='…', speculative_config=None, …, compilation_config={…}`:
one line a node, printed after all adjustments of vLLM's own (vllm/v1/engine/core.py; `VllmConfig.__str__` and
`CompilationConfig.__repr__` in vllm/config; read in 0.19.1, 0.26.0 and 0.32.0). A field counts only if the line holds
it whole and once: of a line that was cut, or into which another process wrote, the rest stays unsaid.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from rules.decide import FLAG_KEY, MODE_KEY

MAX_VALUE = 4096
"""Characters of a name or path; what is longer counts as unsaid."""

_HEAD = re.compile(r"([^\s()]{1,99})\) with config: ")
_PIECE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^'\"\[\](){}<>,]+|.", re.DOTALL)
_OPENING, _CLOSING, _QUOTES = frozenset("[({<"), frozenset("])}>"), frozenset("'\"")
_PAIR = re.compile(r"(['\"])([^'\"]*)\1\s*:\s*(.*)", re.DOTALL)
_MODE = re.compile(r"<CompilationMode\.(\w{1,99}): (\d)>|(\d)")
_MODES = {0: "NONE", 1: "STOCK_TORCH_COMPILE", 2: "DYNAMO_TRACE_ONCE", 3: "VLLM_COMPILE"}
"""`CompilationMode` (vllm/config/compilation.py, 0.14.1 to 0.33.0)."""
_GRAPHS = re.compile(r"<CUDAGraphMode\.(\w{1,99}): (?:\d|\(\d, \d\))>")
"""As printed by 0.19.1, 0.26.0 and 0.32.0; the class is the same in 0.14.1 to 0.33.0 (vllm/config/compilation.py)."""
DEEPEST = 3
"""Dictionaries within each other whose fields get names of their own."""
_KERNELS = "KernelConfig("
"""0.20.0 to 0.33.0 print it behind all else (`VllmConfig.__str__`, vllm/config/vllm.py); earlier releases do not."""
_SPECULATIVE = re.compile(r"SpeculativeConfig\(method=(.{1,200}?), model=(.{1,4096}), num_spec_tokens=(\d{1,9}|None)\)")


class FlagValue(StrEnum):
    """The value of `fast_moe_cold_start` that a line prints."""

    ON = "true"
    OFF = "false"
    ABSENT = "absent"
    """The compilation config has no such key: releases before 0.16."""
    UNSET = "unset"
    """Only of arguments: the launch says nothing of it."""
    UNSAID = "not said"
    """The line is missing, or cannot be read."""


class NoDraft(StrEnum):
    """What a line says of speculative decoding, if not which."""

    NONE = "none"
    UNSAID = "not said"


@dataclass(frozen=True)
class Speculative:
    """Speculative decoding as the engine runs it.

    Attributes:
        method: such as `ngram` or `eagle3`, after vLLM's own renaming.
        model: the draft model; None where the method has none.
        tokens: how many tokens are proposed at once.
    """

    method: str | None
    model: str | None
    tokens: int | None


@dataclass(frozen=True)
class EngineConfig:
    """What the line says; None stands for unsaid.

    Attributes:
        vllm: vLLM's version.
        model: the model as vLLM loads it, a path or a hub id.
        flag: the value of `fast_moe_cold_start`.
        mode: the compile mode's number.
        speculative: speculative decoding.
        graphs: the name of the CUDA graph mode. vLLM may lower it afterwards, and never raises it.
        passes: compiler passes that are switches, and whether they are on. A pass that has the default of its class is
            not printed (`CompilationConfig.__repr__`, 0.14.1 to 0.33.0).
        moe_backend: the MoE backend that is asked for.
    """

    vllm: str | None = None
    model: str | None = None
    flag: FlagValue = FlagValue.UNSAID
    mode: int | None = None
    speculative: Speculative | NoDraft = NoDraft.UNSAID
    graphs: str | None = None
    passes: Mapping[str, bool] | None = None
    moe_backend: str | None = None


def engine_config(text: str) -> EngineConfig:
    """Read the engine's line, from the version on, behind `engine (v`; what cannot be read is unsaid."""
    head = _HEAD.match(text)
    if head is None:
        return EngineConfig()
    fields = _fields(text[head.end() :])
    compilation = _dictionary(fields.get("compilation_config"))
    return EngineConfig(
        vllm=head[1],
        model=_text(fields.get("model")),
        flag=_flag(compilation),
        mode=_mode(compilation),
        speculative=_speculative(fields.get("speculative_config")),
        graphs=_graphs(compilation),
        passes=_passes(compilation),
        moe_backend=_moe_backend(fields.get("kernel_config")),
    )


def printed_config(text: str) -> dict[str, str | None]:
    """Every field that the engine's line prints, as printed; those of dictionaries by dotted names.

    Args:
        text: as for `engine_config`.

    Returns:
        Name -> value; None where a name is there twice. Empty if the line cannot be read.
    """
    head = _HEAD.match(text)
    return _dotted(_fields(text[head.end() :]), DEEPEST) if head else {}


def _dotted(fields: Mapping[str, str | None], depth: int) -> dict[str, str | None]:
    """The fields; those of dictionaries in them by dotted names, `depth` dictionaries deep."""
    named: dict[str, str | None] = {}
    for name, value in fields.items():
        inner = _dictionary(value) if depth else None
        if inner:
            named |= {f"{name}.{key}": each for key, each in _dotted(inner, depth - 1).items()}
        else:
            named[name] = value
    return named


def launch_flag(text: str) -> FlagValue:
    """What the arguments of a launch say of the flag: `ON`, `OFF`, `UNSET` or `UNSAID`. Nothing else of them is kept.

    Args:
        text: the dictionary that vLLM prints behind `non-default args: `.
    """
    arguments = _dictionary(text.strip())
    if arguments is None:
        return FlagValue.UNSAID
    if "compilation_config" not in arguments:
        return FlagValue.UNSET
    compilation = _dictionary(arguments["compilation_config"])
    if compilation is None:
        return FlagValue.UNSAID
    if compilation.get(FLAG_KEY, "None") == "None":
        return FlagValue.UNSET
    return _flag(compilation)


def mode_name(mode: int) -> str:
    """A compile mode for people, as `VLLM_COMPILE (3)`."""
    return f"{_MODES.get(mode, 'unknown')} ({mode})"


def mode_number(value: object) -> int | None:
    """A compile mode as users write it, a number or a name; None if it is neither."""
    text = str(value).strip().upper()
    named = {name: number for number, name in _MODES.items()}
    return int(text) if re.fullmatch("[0-9]", text) else named.get(text)


def _parts(text: str) -> tuple[list[str], bool]:
    """What stands between commas outside all brackets and quotes, and whether the text was read to its end.

    The last part has no comma behind it, so it may be cut: it counts if it ends with the bracket that it opened.
    """
    depth = 0
    part: list[str] = []
    parts: list[str] = []
    for piece_match in _PIECE.finditer(text):
        piece = piece_match[0]
        if piece == "," and depth == 0:
            parts.append("".join(part).strip())
            part = []
            continue
        depth += (piece in _OPENING) - (piece in _CLOSING)
        if depth < 0 or piece in _QUOTES:  # a quote that nothing closes
            return parts, False
        part.append(piece)
    if depth == 0 and part and part[-1] in _CLOSING:
        parts.append("".join(part).strip())
    return parts, depth == 0


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """Name to value; None where a name is there twice."""
    values: dict[str, str | None] = {}
    for name, value in pairs:
        values[name] = None if name in values else value
    return values


def _fields(text: str) -> dict[str, str | None]:
    """`name=value` parts."""
    pairs = (part.partition("=") for part in _parts(text)[0])
    return _once((name, value) for name, _, value in pairs)


def _dictionary(text: str | None) -> dict[str, str | None] | None:
    """Key -> printed value of a printed dictionary; None if the text is not a whole dictionary."""
    if text is None or text[:1] != "{" or text[-1:] != "}":
        return None
    parts, whole = _parts(text[1:-1] + ",")
    pairs = [_PAIR.fullmatch(part) for part in parts if part]
    if not whole or None in pairs:
        return None
    return _once((pair[2], pair[3]) for pair in pairs if pair)


def _text(value: str | None) -> str | None:
    """A printed string."""
    if value is None or value[:1] not in {"'", '"'} or len(value) > MAX_VALUE:
        return None
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None
    return read if isinstance(read, str) else None


def _flag(compilation: Mapping[str, str | None] | None) -> FlagValue:
    if compilation is None:
        return FlagValue.UNSAID
    if FLAG_KEY not in compilation:
        return FlagValue.ABSENT
    return {"True": FlagValue.ON, "False": FlagValue.OFF}.get(compilation[FLAG_KEY] or "", FlagValue.UNSAID)


def _mode(compilation: Mapping[str, str | None] | None) -> int | None:
    match = _MODE.fullmatch((compilation or {}).get(MODE_KEY) or "")
    return int(match[2] or match[3]) if match else None


def _graphs(compilation: Mapping[str, str | None] | None) -> str | None:
    match = _GRAPHS.fullmatch((compilation or {}).get("cudagraph_mode") or "")
    return match[1] if match else None


def _passes(compilation: Mapping[str, str | None] | None) -> dict[str, bool] | None:
    passes = _dictionary((compilation or {}).get("pass_config"))
    if passes is None:
        return None
    return {name: value == "True" for name, value in passes.items() if value in {"True", "False"}}


def _moe_backend(kernels: str | None) -> str | None:
    if kernels is None or not kernels.startswith(_KERNELS) or kernels[-1] != ")":
        return None
    return _text(_fields(f"{kernels[len(_KERNELS) : -1]},").get("moe_backend"))


def _speculative(text: str | None) -> Speculative | NoDraft:
    if text is None:
        return NoDraft.UNSAID
    if text == "None":
        return NoDraft.NONE
    match = _SPECULATIVE.fullmatch(text)
    if match is None:
        return NoDraft.UNSAID
    tokens = None if match[3] == "None" else int(match[3])
    return Speculative(_text(match[1]), _text(match[2]), tokens)
