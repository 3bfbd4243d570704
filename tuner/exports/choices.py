"""What may be chosen for an export."""

from dataclasses import dataclass
from enum import StrEnum


class Wrap(StrEnum):
    """What a patch is wrapped for."""

    KUSTOMIZE = "kustomize"
    """A kustomize component that applies the patch: one file, `kustomization.yaml`."""
    LLM_D = "llm-d"
    """The names of the Deployment and its container in llm-d's guides (`patch-vllm.yaml`)."""


@dataclass(frozen=True)
class Choices:
    """What a manifest needs beyond the plan; None: the default, or the format has no such thing.

    Attributes:
        image: the container image, with tag or digest; default: vLLM's own for the platform, in the plan's release.
        name: name of the objects; default: made of the model's name, for `Wrap.LLM_D` the guides' `decode`.
        wrap: what a patch is wrapped for; default: the patch as it is.
        container: the container that a patch changes; default: `vllm`, for `Wrap.LLM_D` the guides' `modelserver`.
        nodes: how many nodes the model spans; default: its pipeline stages.
        model_uri: where KServe fetches the model; default: the hub, where the plan names a hub id.
        cold_start: seconds that a cold start was measured to take; default: what `tuner cache warm` recorded for this
            launch below its cache root, if that is here.
        model_name: what the server calls the model, such as the path at which a container has it; default: as given.
        weights_claim: a claim with the weights of a model that is named by its path, or to keep what is fetched.
    """

    image: str | None = None
    name: str | None = None
    wrap: Wrap | None = None
    container: str | None = None
    nodes: int | None = None
    model_uri: str | None = None
    cold_start: float | None = None
    model_name: str | None = None
    weights_claim: str | None = None


class ClusterFormat(StrEnum):
    """What `tuner export` writes without a model."""

    SERVICE = "service"
    """The service with its webhooks."""
    VALIDATING_POLICY = "validating-policy"
    """A ValidatingAdmissionPolicy that refuses labelled pods which passed the service by."""


@dataclass(frozen=True)
class ClusterChoices:
    """What may be chosen; None: the default.

    Attributes:
        image: an image that holds the tuner with its extra `service`; needed for the service.
        name: name of the objects.
        namespace: where the service runs.
        ca_bundle: PEM text of the authority that signed the service's certificate; None: cert-manager makes both.
    """

    image: str | None = None
    name: str | None = None
    namespace: str | None = None
    ca_bundle: bytes | None = None
