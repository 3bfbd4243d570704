"""The facts of a `vllm serve` launch that decide, read from the options that state them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.arguments.vllm_options import Kind, Setting
from tuner.text import brief
from tuner.untrusted.json_text import MAX_NESTING, deeper_than

_NONE_WORDS = ("", "None")  # what vLLM reads as None for an option that may be None
_NUMBER = re.compile(r"(\d{1,99}(?:\.\d{1,99})?)([kmgt])|(\d{1,99})([KMGT])")
"""Not longer: a float would overflow, and Python writes out no integer of thousands of digits."""
CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""One object for every NaN: so objects that hold one are equal where their texts are."""
_BARE_NUMBER = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")')


class Serving(Struct, frozen=True):
    """What a launch says about how the model is served; the defaults are vLLM's.

    Attributes:
        speculative: the speculative config, dashes in its keys made underscores as vLLM does; None: the arguments ask
            for no draft. A checkpoint in the `speculators` format brings its own.
    """

    model_impl: str = "auto"
    revision: str | None = None
    quantization: str | None = None
    tokenizer_mode: str = "auto"
    config_format: str = "auto"
    hf_config_path: str | None = None
    hf_overrides: dict[str, Any] | None = None
    speculative: dict[str, Any] | None = None
    enforce_eager: bool = False
    optimization_level: str | None = None
    trust_remote_code: bool = False
    enable_lora: bool = False
    enable_eplb: bool = False
    enable_dbo: bool = False
    enable_expert_parallel: bool = False
    kv_sharing_fast_prefill: bool = False
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    prefill_context_parallel_size: int = 1


_UNSET = Serving()
"""A launch that says nothing."""


def read_serving(settings: Sequence[Setting], *, expands: bool) -> Serving:
    """The serving facts that a list of settings states; of several values vLLM keeps the last.

    Args:
        settings: in vLLM's order.
        expands: as for `stored_objects`.

    Raises:
        TunerError: a value is not an integer or not a JSON object where vLLM wants one.
    """
    values: dict[str, Any] = {}
    keyed: dict[tuple[str, str], Any] = {}
    for field in ("hf_overrides", "speculative"):
        if stored := stored_objects(settings, field, expands=expands):
            values[field] = stored[-1]
    for setting in settings:
        option = setting.option
        if option.kind is Kind.OBJECT or not hasattr(Serving, option.field):
            continue
        if option.key:
            keyed[option.field, option.key] = _scalar(setting)
        else:
            values[option.field] = _scalar(setting)
    for (field, key), value in keyed.items():
        if value is not None:
            values[field] = (values.get(field) or {}) | {key: value}
    if speculative := values.get("speculative"):
        values["speculative"] = _underscored(speculative)
    return Serving(**values)


def _underscored(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, with `_` for each `-` in their names."""
    return {name.replace("-", "_"): value for name, value in values.items()}


def stored_objects(settings: Sequence[Setting], field: str, *, expands: bool) -> list[dict[str, Any] | None]:
    """The values of an object option in the order in which vLLM stores them: it keeps the last one alone.

    Dotted arguments are gathered by the option's spelling, and each gathered object is stored behind all plain ones,
    wherever its arguments stood.

    Args:
        settings: in vLLM's order.
        field: of the option.
        expands: the release writes out numbers such as `80g`.

    Raises:
        TunerError: a value is not a JSON object.
    """
    mine = [s for s in settings if s.option.field == field and s.option.kind is Kind.OBJECT]
    plain = [_object(s, expands) for s in mine if not s.path]
    dotted: dict[str, dict[str, Any]] = {}
    for setting in mine:
        if setting.path:
            _extend(dotted.setdefault(setting.spelling, {}), _nested(setting, expands))
    return [*plain, *dotted.values()]


def _scalar(setting: Setting) -> Any:
    """The value of a setting that is not an object."""
    option = setting.option
    if option.kind is Kind.FLAG:
        return not setting.negated
    if setting.value in _NONE_WORDS and (option.key or getattr(_UNSET, option.field) is None):
        return None
    if option.kind is Kind.TEXT:
        return setting.value
    try:
        return int(setting.value)
    except ValueError:
        raise TunerError(
            f"The value {brief(setting.value)} of {brief(setting.spelling)} is not an integer.", kind=ErrorKind.USAGE
        ) from None


def _object(setting: Setting, expands: bool) -> dict[str, Any] | None:
    """The JSON object of an option in its plain form."""
    if setting.value in _NONE_WORDS and hasattr(Serving, setting.option.field):
        return None
    if setting.option.field == "speculative" and setting.value.strip() == "null":
        return None
    no_json = False
    try:
        value = _json(write_out_numbers(setting.value) if expands else setting.value, setting)
    except ValueError:
        value, no_json = None, True
    if not isinstance(value, dict):
        in_parser = setting.option.field == "compilation_config" or (no_json and setting.option.field == "speculative")
        raise TunerError(
            f"The value {brief(setting.value)} of {brief(setting.spelling)} is not a JSON object.",
            hint="""Write it like '{"key": "value"}', in single quotes so that the shell leaves it alone.""",
            kind=ErrorKind.USAGE if in_parser else ErrorKind.ARGUMENTS,
        )
    return value


def _nested(setting: Setting, expands: bool) -> dict[str, Any]:
    """`--option.a.b=1` as `{"a": {"b": 1}}`; a `+` behind the last key makes a list of its value."""
    if len(setting.path) > MAX_NESTING:
        raise _too_deep(setting)
    *parents, last = setting.path
    if last.endswith("+"):
        nested: dict[str, Any] = {last.removesuffix("+"): setting.value.split(",")}
    else:
        nested = {last: _dotted_value(setting, expands)}
    for key in reversed(parents):
        nested = {key: nested}
    return nested


def _dotted_value(setting: Setting, expands: bool) -> Any:
    """JSON, a number such as `80g` where the release expands it, or the text itself."""
    text = setting.value
    try:
        return _json(text, setting)
    except ValueError:
        number = _number(text.strip()) if expands else None
        return text if number is None else number


def _json(text: str, setting: Setting) -> Any:
    """The JSON in the value of a setting; NaN and the infinities, which JSON lacks, are numbers to vLLM as well.

    Raises:
        ValueError: it is none.
        TunerError: it is nested too deeply.
    """
    try:
        value = json.loads(text, parse_constant=CONSTANTS.__getitem__)
    except RecursionError:
        raise _too_deep(setting) from None
    if deeper_than(MAX_NESTING, value):
        raise _too_deep(setting)
    return value


def _too_deep(setting: Setting) -> TunerError:
    """VLLM ends with a traceback where Python's own limit is reached."""
    return TunerError(
        f"A value of {brief(setting.spelling)} is nested more than {MAX_NESTING} levels deep.",
        hint="No option of vLLM needs that; correct the value.",
        kind=ErrorKind.ARGUMENTS,
    )


def write_out_numbers(text: str) -> str:
    """JSON with its bare numbers such as `80g` written out, as 0.32.0 does; valid JSON has none."""

    def write_out(match: re.Match[str]) -> str:
        number = _number(match[0])
        return match[0] if number is None else str(number)

    parts = _QUOTED.split(text)
    parts[::2] = [_BARE_NUMBER.sub(write_out, part) for part in parts[::2]]
    return "".join(parts)


def _number(text: str) -> int | None:
    """`1k` is 1000 and `1K` is 1024, as vLLM's `human_readable_int` has it; None for anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    decimal, decimal_suffix, binary, binary_suffix = match.groups()
    if decimal is not None:
        return int(float(decimal) * 10 ** (3 * "_kmgt".index(decimal_suffix)))
    return int(binary) << (10 * "_KMGT".index(binary_suffix))


def _extend(target: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Merge as vLLM merges dotted arguments: objects deeply, lists joined, else the last wins."""
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _extend(target[key], value)
        elif isinstance(value, list) and isinstance(target.get(key), list):
            target[key] += value
        else:
            target[key] = value
