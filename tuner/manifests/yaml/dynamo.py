"""Launches in NVIDIA Dynamo's DynamoGraphDeployment and DynamoComponentDeployment.

Of ai-dynamo/dynamo (deploy/cloud/operator, api/v1alpha1): a service's container is `extraPodSpec.mainContainer`, its
variables are those of the graph, of the service and of the container. `python3 -m dynamo.vllm` takes the arguments of
vLLM's engine beside its own (components/src/dynamo/vllm/args.py).
"""

from collections.abc import Iterator

from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.yaml.kubernetes import container_launches, environment_of, kind_of
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, text_of

_KINDS = frozenset({"DynamoGraphDeployment", "DynamoComponentDeployment"})


def dynamo_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """One launch for each service that starts vLLM; none for documents of other kinds."""
    document = reading.document
    spec = document.get("spec") if isinstance(document, Mapping) else None
    if kind_of(document) not in _KINDS or not isinstance(document, Mapping) or not isinstance(spec, Mapping):
        return
    owner = text_of(document.get("metadata", "name")) or ""
    services = spec.get("services")
    named = services.pairs if isinstance(services, Mapping) else [("", spec)]
    for name, service in named:
        pod = service.get("extraPodSpec") if isinstance(service, Mapping) else None
        container = pod.get("mainContainer") if isinstance(pod, Mapping) else None
        if isinstance(service, Mapping) and isinstance(pod, Mapping) and isinstance(container, Mapping):
            reading.mark(container)
            env = environment_of(spec.get("envs")) | environment_of(service.get("envs"))
            full_name = "/".join(filter(None, [owner, name]))
            yield from container_launches(reading, container, pod, shape=kind_of(document), name=full_name, outer=env)
