"""What the store keeps for one verdict."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert, structs

from cache.errors import StoreError
from cache.key import digest

MinisignKey = Annotated[str, Meta(pattern=r"\A[0-9A-F]{16}\Z")]
"""Identifier of a minisign key, as minisign shows it."""


class ProbeOrigin(Struct, frozen=True, forbid_unknown_fields=True):
    """What was probed, and where. It tells people which entry is which, and decides nothing.

    Attributes:
        name: the model's name on the hub, or that of its folder.
        file: the folder as it was given; None for a model of the hub.
        host: the name of the machine; None for an entry of a bundle.
    """

    name: str
    file: str | None
    host: str | None


class Provenance(Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of an entry's `provenance`: where an imported entry comes from.

    Attributes:
        imported_from: name of the bundle's file.
        imported_at: when it was imported, ISO 8601 in UTC.
        command: what is said to have made the entry; None if nothing is said.
        signed_by: the key of a signature that was required and right when the bundle was imported.
    """

    imported_from: str
    imported_at: str
    command: str | None
    signed_by: MinisignKey | UnsetType = UNSET


class SignedLine(Struct, frozen=True, forbid_unknown_fields=True):
    """The line of a bundle that an entry came in, with its signature. Nothing here says that the signature is right.

    Attributes:
        text: the line, byte for byte as it was signed.
        signature: the text of its signature file.
        key: identifier of the key that the signature names.
    """

    text: str
    signature: str
    key: MinisignKey


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict with all it rests on, enough to judge again without probing.

    Attributes:
        key: named factors that decide whether the verdict applies; `architecture` is always one of them.
        sources: the source files the probe hashed, relative to the site-packages folder, each with its SHA-256.
        report: what the probe observed, as JSON values.
        verdict: what the rules made of the report, as JSON values.
        rules: digest of the rule set that judged.
        probed_at: when the probe ran, ISO 8601 in UTC.
        provenance: None for what was probed here; else as `Provenance`.
        origin: what was probed, and where; None if that is not known.

    Raises:
        StoreError: the key names no architecture, a time is not in UTC, or `provenance` has another shape.
    """

    key: dict[str, Any]
    sources: dict[str, str]
    report: dict[str, Any]
    verdict: dict[str, Any]
    rules: str
    probed_at: str
    provenance: dict[str, str | None] | None = None
    origin: ProbeOrigin | None = None

    def __post_init__(self) -> None:
        architecture = self.key.get("architecture")
        if not isinstance(architecture, str) or not architecture:
            raise _no_entry("`key` names no architecture")
        if not _is_utc(self.probed_at):
            raise _no_entry("`probed_at` is not an ISO 8601 time in UTC")
        if self.provenance is not None and not _is_provenance(self.provenance):
            raise _no_entry("`provenance` does not say whence it came")

    @property
    def digest(self) -> str:
        """Digest of the key: 64 hexadecimal characters, the name of the entry everywhere."""
        return digest(self.key)

    @property
    def content(self) -> str:
        """Digest of the probe that the entry rests on; the verdict follows from it, by the rules of a release."""
        return digest({"report": self.report, "sources": self.sources, "probed_at": self.probed_at})

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back. What is None is left out."""
        values = structs.asdict(self)
        if self.origin is not None:
            values["origin"] = structs.asdict(self.origin)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Entry":
        """Read what `to_dict` wrote.

        Raises:
            StoreError: the fields are not exactly those of an entry, or one has the wrong type.
        """
        try:
            return convert(data, cls)
        except (ValidationError, UnicodeEncodeError) as error:  # the latter for half a surrogate pair
            message = str(error)
            # The name of an unknown field is somebody else's text.
            raise _no_entry("it has an unknown field" if "unknown field" in message else message) from None


def _no_entry(problem: str) -> StoreError:
    return StoreError(f"This is not a verdict entry: {problem}.")


def _is_provenance(value: Mapping[str, str | None]) -> bool:
    try:
        provenance = convert(value, Provenance)
    except (ValidationError, UnicodeEncodeError):
        return False
    return _is_utc(provenance.imported_at)


def _is_utc(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False
