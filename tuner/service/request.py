"""What clients may send: bodies of requests, read in their shape."""

from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, ValidationError

from rules.errors import ErrorKind
from tuner.service.refusal import NOT_TAKEN, UNREADABLE, ServiceError
from tuner.untrusted.fitting import fitted
from tuner.untrusted.json_text import UnusableError, parse_object

MAX_ARGUMENTS = 4096
"""Arguments of a launch, and variables of its environment."""
Shape = TypeVar("Shape")
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class AskedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that the client describes.

    Attributes:
        config: the content of its config.json.
        side_files: SHA-256 of each small file beside it that vLLM reads, by its name.
        revision: commit on the hub.
    """

    config: dict[str, Any]
    side_files: dict[str, Sha256] = {}
    revision: str | None = None


class DecisionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A launch that the service is to decide.

    Attributes:
        environment: what `tuner env --json` prints.
        arguments: those of `vllm serve`, the model included.
        variables: environment variables of the launch.
        model: describes the model that the arguments name; None: the service looks that name up in its own folder.
        accept_platform: as the option of `tuner plan`, and so are the four below.
        fail_on_unknown: refuse where the flag may be on and nothing is known.
        enforce: refuse where the user's value contradicts an unsafe verdict.
        cache_root: value for VLLM_CACHE_ROOT.
        cache_dir_in: what carries the cache folder into the launch.
    """

    environment: dict[str, Any]
    arguments: Annotated[list[str], Meta(min_length=1, max_length=MAX_ARGUMENTS)]
    variables: Annotated[dict[str, str], Meta(max_length=MAX_ARGUMENTS)] = {}
    model: AskedModel | None = None
    accept_platform: str | None = None
    fail_on_unknown: bool = False
    enforce: bool = False
    cache_root: str | None = None
    cache_dir_in: Literal["env", "config"] = "env"


def read_request(body: bytes) -> DecisionRequest:
    """The request for a decision in the body of a POST.

    Raises:
        ServiceError: as `read_as`.
    """
    return read_as(body, DecisionRequest, "is no decision request")


def read_as(body: bytes, shape: type[Shape], otherwise: str = "has another shape") -> Shape:
    """The body of a request, in its shape.

    Args:
        body: its bytes.
        shape: the class that it must fit.
        otherwise: what is said of a body that does not fit, before the reason.

    Raises:
        ServiceError: it is no JSON object within the bounds of `tuner/untrusted/json_text.py`, or has another shape.
    """
    hint = "GET /openapi.json and docs/reference/service.md describe what is taken."
    try:
        return fitted(parse_object(body), shape)
    except UnusableError as error:
        raise ServiceError(UNREADABLE, f"The body {error}.", hint, kind=ErrorKind.USAGE) from None
    except ValidationError as error:
        problem = f"The body {otherwise}: {error!s:.300}."
        raise ServiceError(NOT_TAKEN, problem, hint, kind=ErrorKind.USAGE) from None
