"""The shape of one line of a bundle."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class BundleLine(BaseModel):
    """One line of a bundle; `tuner.exchange.bundle` says what its members are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int = Field(ge=1)
    digest: str
    checksum: str
    command: str | None
    entry: dict[str, Any]
    orders: list[list[str]]


class LineShapeError(ValueError):
    """A JSON value that has not the shape of a line.

    Args:
        member: the first member that has another type; empty if the value has other members than a line.
    """

    def __init__(self, member: str) -> None:
        super().__init__(member)
        self.member = member


def shaped_line(value: object) -> BundleLine:
    """A JSON value as a line.

    Raises:
        LineShapeError: a member is missing, unknown or of another type.
    """
    try:
        return BundleLine.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        whole = not first["loc"] or first["type"] in {"missing", "extra_forbidden"}
        raise LineShapeError("" if whole else str(first["loc"][0])) from None
