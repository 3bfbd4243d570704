"""What a failure of the worker means for the user: the worker's own words, and one way out."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.model.draft import probing_beside_target, sign_of_draft, target_of
from tuner.model.model import Model
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


def about_draft(failure: TunerError, model: Model, tool_options: Sequence[str]) -> TunerError:
    """The failure to build a model alone, told as that of a draft if its config looks like one.

    Args:
        failure: of any kind.
        model: what could not be built.
        tool_options: options of this tool that a command to run next needs, such as `--python PATH`.
    """
    config = model.served_config
    sign = sign_of_draft(config)
    if failure.kind not in (ErrorKind.UNKNOWN_ARCHITECTURE, ErrorKind.MODEL) or not sign:
        return failure
    command = shlex.join(probing_beside_target(model.name, model.revision, config, tool_options))
    release = " in a vLLM release that has this draft" if failure.kind is ErrorKind.UNKNOWN_ARCHITECTURE else ""
    return TunerError(
        f"This looks like a draft of speculative decoding, by {sign}. A draft runs only beside its target. "
        f"Alone it fails: {failure}",
        hint=f"Judge it beside {target_of(config)}{release}: `{command}`.",
        kind=failure.kind,
    )


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
