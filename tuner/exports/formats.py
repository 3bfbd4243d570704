"""The formats of `tuner export`, the options that each one takes, and the function that writes it."""

from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import Choices
from tuner.launch.text import require_utf8

if TYPE_CHECKING:
    from tuner.launch.plan import Plan


class Format(StrEnum):
    """What `tuner export` can write."""

    JSON = "json"
    """The document of `tuner plan --json`; its schema is docs/schema/launch-2.json."""
    VLLM_YAML = "vllm-yaml"
    """A file for `vllm serve --config`."""
    ENV = "env"
    """A file for a POSIX shell: variables and the argument list."""
    DOCKERFILE = "dockerfile"
    """Lines for a Dockerfile."""
    CONFIGMAP = "configmap"
    """A ConfigMap that holds the file for `vllm serve --config`."""
    DEPLOYMENT = "deployment"
    """A Deployment with its Service, and a claim where a cache root is set."""
    PATCH = "patch"
    """A strategic merge patch for an existing Deployment; `Wrap` says what it is wrapped for."""
    HELM_PRODUCTION_STACK = "helm-production-stack"
    """Values for the chart of vLLM's production-stack."""
    KSERVE_INFERENCESERVICE = "kserve-inferenceservice"
    KSERVE_LLMINFERENCESERVICE = "kserve-llminferenceservice"
    LEADERWORKERSET = "leaderworkerset"
    """A LeaderWorkerSet for a model that spans nodes, with the leader's Service."""
    WARM_JOB = "warm-job"
    """A Job that fills the server's compile cache with `tuner cache warm`."""


_SERVERS = {
    Format.DEPLOYMENT,
    Format.HELM_PRODUCTION_STACK,
    Format.KSERVE_INFERENCESERVICE,
    Format.KSERVE_LLMINFERENCESERVICE,
    Format.LEADERWORKERSET,
}
USES: dict[str, set[Format]] = {
    "image": _SERVERS | {Format.WARM_JOB},
    "name": _SERVERS | {Format.CONFIGMAP, Format.PATCH, Format.WARM_JOB},
    "wrap": {Format.PATCH},
    "container": {Format.PATCH},
    "nodes": {Format.LEADERWORKERSET},
    "model_uri": {Format.KSERVE_LLMINFERENCESERVICE},
    "model_name": set(Format) - {Format.JSON},
    "weights_claim": {
        Format.DEPLOYMENT,
        Format.KSERVE_INFERENCESERVICE,
        Format.LEADERWORKERSET,
        Format.WARM_JOB,
    },
    "cold_start": _SERVERS | {Format.PATCH, Format.WARM_JOB},
}
"""Choice -> the formats that use it."""
RENAMED = {
    "deployment-patch": "--format patch",
    "kustomize": "--format patch --wrap kustomize",
    "llm-d": "--format patch --wrap llm-d",
}
"""Old name of a format -> the options that write the same file now."""


def writer(name: str, choices: Choices) -> Callable[["Plan", float | None], str]:
    """The writer of a format: from a plan, and from the seconds of its recorded cold start if there is one.

    Raises:
        TunerError: there is no such format, or it has no use for a choice that was made. The writer raises it for a
            launch with a word that is not UTF-8.
    """
    if name in RENAMED:
        raise TunerError(f"The format {name} has another name now.", hint=f"Use {RENAMED[name]}.", kind=ErrorKind.USAGE)
    if name not in set(Format):
        meant = [form for form in Format if name and name in form]
        likely = f"{' or '.join(meant)} may be meant. " if meant else ""
        hint = f"{likely}Choose one of: {', '.join(Format)}."
        raise TunerError(f"There is no format {name}.", hint=hint, kind=ErrorKind.USAGE)
    for field in fields(choices):
        uses = USES[field.name]
        if getattr(choices, field.name) is not None and name not in uses:
            option = "--" + field.name.replace("_", "-")
            raise TunerError(
                f"The format {name} has no use for {option}.",
                hint=f"It is for: {', '.join(sorted(uses))}.",
                kind=ErrorKind.USAGE,
            )
    write = _writers()[Format(name)]

    def written(plan: "Plan", measured: float | None) -> str:
        require_utf8(plan)
        if choices.model_name is not None:
            plan = _called(plan, choices.model_name)
        return write(plan, replace(choices, cold_start=choices.cold_start or measured))

    return written


def _called(plan: "Plan", name: str) -> "Plan":
    """The plan of the same model under the name that it has where the server runs; the model is the first argument."""
    from msgspec.structs import replace as replaced  # noqa: PLC0415  only when a file is written

    model = replaced(plan.subject.model, name=name)
    subject = replaced(plan.subject, model=model)
    launch = replaced(plan.launch, args=(name, *plan.launch.args[1:]))
    return replaced(plan, subject=subject, launch=launch)


def _writers() -> dict[Format, Callable[["Plan", Choices], str]]:
    from tuner.exports import deployment, file, helm, job, kserve, lws  # noqa: PLC0415  only when a file is written

    return {
        Format.JSON: file.as_json,
        Format.VLLM_YAML: file.as_vllm_yaml,
        Format.ENV: file.as_env,
        Format.DOCKERFILE: file.as_dockerfile,
        Format.CONFIGMAP: deployment.as_configmap,
        Format.DEPLOYMENT: deployment.as_deployment,
        Format.PATCH: deployment.as_patch,
        Format.HELM_PRODUCTION_STACK: helm.as_values,
        Format.KSERVE_INFERENCESERVICE: kserve.as_inference_service,
        Format.KSERVE_LLMINFERENCESERVICE: kserve.as_llm_inference_service,
        Format.LEADERWORKERSET: lws.as_leader_worker_set,
        Format.WARM_JOB: job.as_warm_job,
    }
