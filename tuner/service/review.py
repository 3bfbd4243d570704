"""AdmissionReview v1 of Kubernetes: what an API server asks, and the shape of the answer."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, field

from rules.errors import ErrorKind
from tuner.service.refusal import UNREADABLE, ServiceError
from tuner.untrusted.fitting import fitted
from tuner.untrusted.json_text import UnusableError, parse_object

API = "admission.k8s.io/v1"
MAX_UID = 256
"""Characters; the API server sends 36."""
MAX_WARNING = 250
"""Characters of one warning; the API server cuts all of them together at 4096."""
MOST_WARNINGS = 8


class Kind(Struct, frozen=True):
    """What kind of object is created; the core group is empty."""

    kind: str
    version: str
    group: str = ""


class ReviewRequest(Struct, frozen=True):
    """The question of an API server; members that are not listed here do not count.

    Attributes:
        uid: to be sent back.
        kind: of the object.
        operation: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
        subresource: such as `ephemeralcontainers`; empty: the object itself.
        object: as it would be stored; None for some operations.
    """

    uid: Annotated[str, Meta(min_length=1, max_length=MAX_UID)]
    kind: Kind
    operation: str
    subresource: str | None = field(default=None, name="subResource")
    object: dict[str, Any] | None = None

    @property
    def creates_pod(self) -> bool:
        """Whether a pod is created."""
        return self.kind == Kind("Pod", "v1") and self.operation == "CREATE" and not self.subresource


class Review(Struct, frozen=True):
    """The document that holds the question."""

    api: Literal["admission.k8s.io/v1"] = field(name="apiVersion")
    kind: Literal["AdmissionReview"]
    request: ReviewRequest


def read_review(body: bytes) -> ReviewRequest:
    """The question in the body of a POST.

    Raises:
        ServiceError: 400: it is no AdmissionReview of version v1 with a question in it.
    """
    hint = "The webhook configuration of `tuner export --format service` sends what is taken."
    try:
        return fitted(parse_object(body), Review).request
    except UnusableError as error:
        raise ServiceError(UNREADABLE, f"The body {error}.", hint, kind=ErrorKind.USAGE) from None
    except ValidationError as error:
        problem = f"The body is no AdmissionReview of {API}: {error!s:.300}."
        raise ServiceError(UNREADABLE, problem, hint, kind=ErrorKind.USAGE) from None


def answer_to(
    request: ReviewRequest, patch: Sequence[Mapping[str, Any]], warnings: Sequence[str], audit: Mapping[str, str]
) -> dict[str, Any]:
    """The review that lets an object through.

    Args:
        request: the question.
        patch: operations of RFC 6902; empty: the object stays as it is.
        warnings: shown to whoever creates the object; the API server takes short ones.
        audit: what the audit log of the API server is to hold.
    """
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if patch:
        text = json.dumps(patch, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(text).decode()}
    if warnings:
        response["warnings"] = [warning[:MAX_WARNING] for warning in warnings[:MOST_WARNINGS]]
    if audit:
        response["auditAnnotations"] = dict(audit)
    return {"apiVersion": API, "kind": "AdmissionReview", "response": response}
