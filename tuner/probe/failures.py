"""What a failure of the worker means for the user: the worker's own words, and one way out."""

from collections.abc import Mapping
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.processes.answers import FAILED, damaged, require

HINTS = {
    ErrorKind.MODEL: "",
    ErrorKind.KERNEL_MISSING: "This vLLM has no kernel for it on this machine; probe on the GPU type that will serve.",
    ErrorKind.UNKNOWN_ARCHITECTURE: "Another vLLM release may have it; see its list of supported models.",
    ErrorKind.PLUGIN: "Correct the plugin for this vLLM release, or probe with a release that it was written for.",
    ErrorKind.REMOTE_CODE: "Run again with --trust-remote-code if you trust the code in the model's folder.",
}
"""Each kind of failure that the worker names -> what to do; empty: it depends on where the failure was raised."""


def failed(report: Mapping[str, Any]) -> TunerError:
    """The failure that a report describes.

    Raises:
        TunerError: kind `report`: it does not describe any.
    """
    require("report", report, {"result": str, "kind": str, "message": str})
    if report["kind"] not in HINTS:
        raise damaged("report", f"its kind of failure is {report['kind']!r:.80}")
    kind, where = ErrorKind(report["kind"]), report.get("where", "")
    hint = HINTS[kind] or f"vLLM could not build or run the model on this machine, at {where}."
    return TunerError(report["message"], hint=hint, kind=kind)


def no_vllm(facts: Mapping[str, Any]) -> TunerError:
    """An import of vLLM that raised, or a plugin of it."""
    require("environment.json", facts, FAILED)
    if isinstance(facts.get("plugin"), str) and facts["plugin"]:
        return TunerError(
            f"The vLLM plugin {facts['plugin']} fails in this environment: {facts['message']}",
            hint=f"Raised at {facts['where']}; correct or uninstall it, or name the others alone in VLLM_PLUGINS.",
            kind=ErrorKind.ENVIRONMENT,
        )
    return TunerError(
        f"vLLM does not import in this environment: {facts['message']}",
        hint=f"Raised at {facts['where']}; check the environment with its own `python -c 'import vllm'`.",
        kind=ErrorKind.ENVIRONMENT,
    )


def not_listed(said: str, hint: str) -> TunerError:
    """The registry of the environment's vLLM could not be read."""
    return TunerError(f"vLLM's registry of models could not be listed: {said}.", hint=hint, kind=ErrorKind.ENVIRONMENT)
