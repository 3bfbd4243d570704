"""What a failure of the worker means for the user: the worker's own words, and one way out."""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.processes.answers import Failed, checked, damaged

HINTS = {
    ErrorKind.MODEL: "vLLM could not build or run the model on this machine.",
    ErrorKind.MEMORY: "A worker takes at most 16 GiB of a GPU; free its memory, or probe with --workers 1.",
    ErrorKind.KERNEL_MISSING: "This vLLM has no kernel for it on this machine; probe on the GPU type that will serve.",
    ErrorKind.UNKNOWN_ARCHITECTURE: "Another vLLM release may have it; see its list of supported models.",
    ErrorKind.PLUGIN: "Correct the plugin for this vLLM release, or probe with a release that it was written for.",
    ErrorKind.REMOTE_CODE: "Run again with --trust-remote-code if you trust the code in the model's folder.",
}
"""Each kind of failure that the worker names -> what to do."""


DRAFT_NAME = re.compile(r"[Ee]agle(?!2)|DFlash|DSpark|Draft|Medusa|MTP|NextN|Speculat")
"""Found in the names of vLLM's drafts of speculative decoding (vLLM 0.16.0 to 0.32.0, models/registry.py). Eagle2 and
Eagle2_5_VL are models for images."""
DRAFT_FIELDS = ("draft_vocab_size", "eagle_config", "dflash_config", "speculators_config", "target_hidden_size")
"""Fields that only the config of a draft has (vLLM 0.16.0 to 0.32.0, transformers_utils/configs and
config/speculative.py)."""


class ModelFailure(Struct, frozen=True):
    """A report that says why there is no other one.

    Attributes:
        result: anything but `ok`.
        kind: of the failure.
        message: what went wrong.
        where: the place in the code that raised it.
    """

    result: str
    kind: str
    message: str
    where: Any = ""


class ImportFailure(Failed, frozen=True):
    """An import of vLLM that raised; `plugin` names the plugin that did."""

    plugin: Any = None


def failed(report: Mapping[str, Any]) -> TunerError:
    """The failure that a report describes.

    Raises:
        TunerError: kind `report`: it does not describe any.
    """
    failure = checked("report", report, ModelFailure)
    if failure.kind not in HINTS:
        raise damaged("report", f"its kind of failure is {failure.kind!r:.80}")
    kind = ErrorKind(failure.kind)
    hint = f"{HINTS[kind]} Raised at {failure.where}." if failure.where else HINTS[kind]
    return TunerError(failure.message, hint=hint, kind=kind)


def about_draft(failure: TunerError, config: Mapping[str, Any]) -> TunerError:
    """The same failure, with a sentence about drafts if the config of a model that cannot be built looks like one.

    Args:
        failure: of any kind.
        config: the model's config.json.
    """
    sign = sign_of_draft(config)
    if failure.kind not in (ErrorKind.UNKNOWN_ARCHITECTURE, ErrorKind.MODEL) or not sign:
        return failure
    release = " in a vLLM release that has the draft" if failure.kind is ErrorKind.UNKNOWN_ARCHITECTURE else ""
    return TunerError(
        f"{failure} {sign}: it looks like a draft of speculative decoding, which runs only beside its target.",
        hint=f"Probe {target_of(config)}{release}, with `-- --speculative-config`.",
        kind=failure.kind,
    )


def target_of(config: Mapping[str, Any]) -> str:
    """The target of a draft: its name, its width, or just the words for it, whichever its config gives first.

    A config in the format of the library speculators names the target as its verifier.
    """
    speculators = config.get("speculators_config")
    verifier = speculators.get("verifier") if isinstance(speculators, Mapping) else None
    name = verifier.get("name_or_path") if isinstance(verifier, Mapping) else None
    if isinstance(name, str) and name:
        return f"its target {name:.200}"
    width = config.get("target_hidden_size")
    return f"a target whose hidden_size is {width}" if isinstance(width, int) else "the target"


def sign_of_draft(config: Mapping[str, Any]) -> str:
    """What in the config says that the model is a draft. Empty if nothing does."""
    names = config.get("architectures")
    if isinstance(names, list) and names and DRAFT_NAME.search(str(names[0])):
        return "By its name"
    for field in DRAFT_FIELDS:
        if config.get(field) is not None:
            return f"By its field {field}"
    return ""


def no_vllm(facts: Mapping[str, Any]) -> TunerError:
    """The failure of an import of vLLM, or of a plugin of it."""
    failure = checked("environment.json", facts, ImportFailure)
    if isinstance(failure.plugin, str) and failure.plugin:
        return TunerError(
            f"The vLLM plugin {failure.plugin} fails in this environment: {failure.message}",
            hint=f"Raised at {failure.where}; correct or uninstall it, or name the others alone in VLLM_PLUGINS.",
            kind=ErrorKind.ENVIRONMENT,
        )
    return TunerError(
        f"vLLM does not import in this environment: {failure.message}",
        hint=f"Raised at {failure.where}; check the environment with its own `python -c 'import vllm'`.",
        kind=ErrorKind.ENVIRONMENT,
    )


def not_listed(reason: str, hint: str) -> TunerError:
    """The failure to read the registry of the environment's vLLM."""
    return TunerError(
        f"vLLM's registry of models could not be listed: {reason}.", hint=hint, kind=ErrorKind.ENVIRONMENT
    )
