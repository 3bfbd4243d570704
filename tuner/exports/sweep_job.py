"""An Indexed Job whose pods are workers of a service's queue of probes. Pure."""

from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.errors import ExitCode
from tuner.exports.pod import escaped
from tuner.exports.server import DEVICES, checked_name, pinned_image

SWEEP_JOB = "sweep-job"
"""The name of the format, which is about no launch."""
SECRETS = "/etc/tuner"
"""Where a pod has the token and the certificate of the service."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
RETRIES = 3
"""Times that a pod of one index may fail: a service that restarts, a node without memory."""
GRACE_S = 60
"""Seconds in which a pod that is stopped gives its probe back."""


class SweepJob(Struct, frozen=True):
    """What the Job needs.

    Attributes:
        service: address of the service, as pods see it.
        image: that holds both vLLM and the tuner.
        workers: pods at the same time, each with one device.
        platform: whose devices they need.
        name: of the Job.
        queue: of Kueue; None: Kueue is not asked.
    """

    service: str
    image: str
    workers: int = 1
    platform: str = "cuda"
    name: str = "tuner-sweep"
    queue: str | None = None


def as_sweep_job(job: SweepJob) -> str:
    """The Job as a manifest.

    Raises:
        TunerError: pods could not reach the service in this way, the platform's devices are not known, or the name or
            the image cannot be used.
    """
    from tuner.yaml_text import dump_documents  # noqa: PLC0415  PyYAML is slow to import

    pinned_image(job.image)
    for name in filter(None, (job.name, job.queue)):
        checked_name(name)
    if not job.service.startswith("https://") or not job.service.isprintable() or " " in job.service:
        raise TunerError(
            "Pods ask a service over https:// alone.",
            hint="Name it as the cluster does: --service https://HOST:PORT.",
            kind=ErrorKind.USAGE,
        )
    if job.platform != "cpu" and job.platform not in DEVICES:
        raise TunerError(
            "No device plugin is known for this platform.",
            hint=f"Choose one of: cpu, {', '.join(sorted(DEVICES))}.",
            kind=ErrorKind.USAGE,
        )
    return _head(job) + dump_documents([_job(job)])


def _head(job: SweepJob) -> str:
    lines = [
        f"workers of the queue of probes of {job.service}; fill it with `tuner sweep`",
        f"needs a Secret {job.name} with `token`, of a writer, and `ca.crt`, which signed the certificate",
        "one Job for each image: a worker takes the probes of its own vLLM release and platform",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _job(job: SweepJob) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": job.name}
    suspended = {}
    if job.queue is not None:
        metadata["labels"] = {QUEUE_LABEL: job.queue}
        suspended = {"suspend": True}  # Kueue starts it
    spec = {
        **suspended,
        "completionMode": "Indexed",
        "completions": job.workers,
        "parallelism": job.workers,
        "backoffLimitPerIndex": RETRIES,
        "podFailurePolicy": {"rules": _rules()},
        "template": {"spec": _pod(job)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _rules() -> list[dict[str, Any]]:
    """A pod that was evicted or stopped does not count; one with a faulty use fails its index at once."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        _by_code("Ignore", ExitCode.STOPPED),
        _by_code("FailIndex", ExitCode.USAGE),
    ]


def _by_code(action: str, code: ExitCode) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "worker", "operator": "In", "values": [int(code)]}}


def _pod(job: SweepJob) -> dict[str, Any]:
    variables = {"TUNER_SERVICE_TOKEN_FILE": f"{SECRETS}/token", "TUNER_SERVICE_CA": f"{SECRETS}/ca.crt"}
    resource = DEVICES.get(job.platform)
    container = {
        "name": "worker",
        "image": job.image,
        "command": ["tuner", "worker"],
        "args": ["--service", escaped(job.service), "--until-empty"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        **({"resources": {"limits": {resource: "1"}}} if resource else {}),
        "volumeMounts": [{"name": "service", "mountPath": SECRETS, "readOnly": True}],
    }
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [container],
        "volumes": [{"name": "service", "secret": {"secretName": job.name}}],
    }
