"""What every part of a report is: frozen, of strict types, without infinities; unknown fields are ignored."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """One part of a report."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Assumption(Part):
    """One thing the probe did otherwise than the launch will: its kind, and what exactly."""

    kind: str
    detail: str
