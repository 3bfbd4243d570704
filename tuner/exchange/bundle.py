"""Verdicts as lines of text that travel between machines. Pure: entries in, lines out, and back.

A bundle is JSON lines in ASCII, one stored verdict a line: `schema_version`, `digest` of the key, `checksum` of the
rest, `command`, what is said to have made it, the whole `entry`, and the `orders` that its report repeats (see
`tuner.exchange.order_lists`). The checksum, taken of the entry as it is stored, finds damage, not forgery: whoever
imports a bundle trusts its reports, but never its verdicts, which are judged anew.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cache.errors import StoreError
from cache.key import digest
from cache.verdicts.entry import Entry, ProbeOrigin
from rules.errors import ErrorKind, ReportError, TunerError
from rules.releases import public_version
from rules.report import parse_report
from tuner.exchange.order_lists import packed, unpacked
from tuner.verdicts.identity import rules_digest

if TYPE_CHECKING:
    from tuner.exchange.bundle_line import BundleLine

BUNDLE_VERSION = 2
"""Version of a line; one of another version is refused."""
MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line, its end included; a report of a large model takes some ten thousand."""
FACTORS = {
    "architecture",
    "fingerprint",
    "model_impl",
    "platform",
    "plugins",
    "remote_code",
    "sources",
    "torch",
    "vllm",
    "worker",
}
"""The factors of a key in this release; a key with others could never match."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What would steer the terminal of whoever lists the verdicts."""
ON_A_DEVICE = {"cuda", "rocm", "xpu", "tpu"}


class BundleError(TunerError):
    """A line of a bundle is not an entry.

    The message is the end of a sentence: who catches the error puts the file and the line in front of it.
    """

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind = ErrorKind.BUNDLE) -> None:
        super().__init__(message, hint=hint, kind=kind)


@dataclass(frozen=True)
class Bundled:
    """One verdict of a bundle.

    Attributes:
        entry: as it was stored where the bundle was made; judged by the rules of this release when it was read here.
        command: what is said to have made it; None if nothing is said.
    """

    entry: Entry
    command: str | None

    def imported(self, file: str, now: str, signed_by: str | None = None) -> Entry:
        """The entry as it is stored here; where it came from before, signature included, is only the line's word.

        Args:
            file: name of the bundle's file.
            now: the time, ISO 8601 in UTC.
            signed_by: identifier of the key whose signature of the file was checked; None: none was.
        """
        provenance: dict[str, str | None] = {"imported_from": file, "imported_at": now, "command": self.command}
        if signed_by:
            provenance["signed_by"] = signed_by
        return replace(self.entry, origin=shareable(self.entry.origin), provenance=provenance)


def line_of(bundled: Bundled) -> str:
    """One line, its end included; the same for equal entries. `line_in` reads it back, its origin as `shareable`.

    Raises:
        ValueError: the entry holds NaN or an infinity.
    """
    entry = replace(bundled.entry, origin=shareable(bundled.entry.origin)).to_dict()
    checked_parts = {"entry": entry, "command": bundled.command}
    report, orders = packed(entry["report"])
    line = {
        "schema_version": BUNDLE_VERSION,
        "digest": bundled.entry.digest,
        "checksum": digest(checked_parts),
        "command": bundled.command,
        "entry": {**entry, "report": report},
        "orders": orders,
    }
    return json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def shareable(origin: ProbeOrigin | None) -> ProbeOrigin | None:
    """What a bundle says of an entry's origin: a name on the hub, never a path or the name of a machine."""
    if origin is None or origin.file is not None:
        return None
    return ProbeOrigin(origin.name, file=None, host=None)


def line_in(text: bytes) -> Bundled:
    """The verdict in one line, judged by the rules of this release: the line's own word is not looked at.

    Raises:
        BundleError: the line is damaged, of another release, or contradicts itself.
    """
    line = _shaped(text)
    try:
        entry = Entry.from_dict({**line.entry, "report": unpacked(line.entry.get("report"), line.orders)})
        key_digest, checksum = entry.digest, digest({"entry": entry.to_dict(), "command": line.command})
    except StoreError as error:
        raise BundleError(error.message.rstrip(".")) from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"its entry cannot be read: {error}") from None
    if line.digest != key_digest:
        raise BundleError(f"its digest is not that of its key, {key_digest[:12]}")
    if line.checksum != checksum:
        raise BundleError("its checksum is not that of its contents", hint="Export it again: the line was changed.")
    _require_consistent(entry)
    return Bundled(_judged(entry), line.command)


def _shaped(text: bytes) -> "BundleLine":
    """A line of this schema, of the right shape as far as the entry."""
    from tuner.exchange.bundle_line import LineShapeError, shaped_line  # noqa: PLC0415  pydantic: an export needs none

    if len(text) > MAX_LINE:
        raise BundleError(f"it is longer than {MAX_LINE // 1024 // 1024} MiB")
    try:
        line = json.loads(text.decode())
    except (ValueError, RecursionError):
        raise BundleError("it is not JSON") from None
    version = line.get("schema_version") if isinstance(line, dict) else None
    if type(version) is int and version > BUNDLE_VERSION:
        raise BundleError(
            f"its schema is {version}, and this release reads {BUNDLE_VERSION}",
            hint="Upgrade vllm-moe-tuner, or export it with the same release.",
        )
    if type(version) is int and 0 < version < BUNDLE_VERSION:
        raise BundleError(
            f"an older release of the tool made it (schema {version}), and this release reads {BUNDLE_VERSION}",
            hint="Probe the models with this release where the bundle was made, and export it anew with "
            "`tuner verdicts export`.",
        )
    try:
        return shaped_line(line)
    except LineShapeError as error:
        wrong = WRONG_MEMBERS.get(error.member)
    if wrong:
        raise BundleError(wrong)
    raise BundleError("it is not a line of a bundle", hint="Make a bundle with `tuner verdicts export`.")


WRONG_MEMBERS = {"command": "its command is not text", "orders": "its orders are not lists of layer names"}
"""Member of a line that has another type -> what is wrong, in words."""


def _require_consistent(entry: Entry) -> None:
    """The key must claim what the report saw: a look-up believes the key."""
    key, environment = entry.key, entry.report.get("environment")
    if set(key) != FACTORS:
        raise BundleError(
            f"its key names other factors than this release: {', '.join(sorted(set(key) ^ FACTORS))}",
            hint="Export it with the same release.",
        )
    if not all(isinstance(value, str) and not CONTROL.search(value) for value in key.values()):
        raise BundleError("its key holds something that is not plain text")
    if entry.report.get("sources") != entry.sources or digest(entry.sources) != key["sources"]:
        raise BundleError("its key, its report and its list of source files disagree")
    if not entry.sources:  # nothing could ever differ: it would apply to every build of its versions
        raise BundleError("its report names no source file")
    environment = environment if isinstance(environment, dict) else {}
    for name in ("vllm", "torch"):
        if public_version(key[name]) != public_version(environment.get(name)):
            raise BundleError(f"its key says {name} {key[name]}, its report {environment.get(name)}")
    device = environment.get("device")
    if key["platform"] in _elsewhere(device):
        raise BundleError(f"its key says {key['platform']}, its report {device}")


def _elsewhere(device: object) -> set[str]:
    """The platforms that do not have such a device; none where the report names no device."""
    if device == "cpu":
        return ON_A_DEVICE
    return {"cpu"} if device else set()


def _judged(entry: Entry) -> Entry:
    from rules.judge import judge  # noqa: PLC0415  an export does without it

    try:
        verdict = judge(parse_report(entry.report))
    except ReportError as error:
        raise BundleError(error.message.rstrip("."), hint="Probe the model again where the bundle was made.") from None
    return replace(entry, verdict=verdict.to_dict(), rules=rules_digest())
