"""Verdicts on their way out of a store and into another: what `tuner verdicts export` and `import` do."""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from msgspec.structs import replace

from cache.verdicts.entry import Entry, SignedLine
from cache.verdicts.signed_times import SignedTimes
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, ReportError, TunerError
from rules.verdict import Verdict
from tuner.exchange.bundle import MAX_LINE, Bundled, BundleError, line_in, line_of
from tuner.exchange.conflict import STORED, Conflict, Imported, ImportOutcome, resolve_conflict, same
from tuner.exchange.sent_line import SentLine
from tuner.exchange.signing import Signed, signature_file
from tuner.untrusted.files import open_plain
from tuner.verdicts.identity import rules_digest
from tuner.verdicts.lookup import current_verdict, known_verdict
from tuner.verdicts.selection import entries_called


@dataclass(frozen=True)
class Exported:
    """A bundle about to be written.

    Attributes:
        text: its lines, by architecture and then digest.
        left_out: a sentence for each entry whose report the rules of this release cannot read.
    """

    text: str
    left_out: tuple[str, ...]


def export(store: VerdictStore, names: Sequence[str], command: str | None) -> Exported:
    """Stored verdicts as a bundle, judged by the rules of this release.

    Args:
        store: where they are.
        names: words for those wanted (`tuner.verdicts.selection`); none: all.
        command: what made them; None: what an imported entry says itself.

    Raises:
        TunerError: there is no such entry, or none at all.
        StoreError: the store or a record is damaged.
    """
    lines: list[tuple[str, str, str]] = []
    left_out = []
    for entry in _named_entries(store, names):
        try:
            line = exported_line(store, entry, command)
        except ReportError as error:
            left_out.append(f"left out {entry.digest[:12]}: {error.message}; {error.hint}")
            continue
        lines.append((str(entry.key["architecture"]), entry.digest, line))
    return Exported("".join(line for _, _, line in sorted(lines)), tuple(left_out))


def exported_line(store: VerdictStore, entry: Entry, command: str | None = None) -> str:
    """The line of a bundle that carries one stored verdict, its end included; arguments as for `export`.

    Raises:
        ReportError: the rules of this release cannot read the entry's report.
        StoreError: the entry is damaged.
    """
    judged = replace(entry, verdict=current_verdict(store, entry).to_dict(), rules=rules_digest())
    stated = command or (entry.provenance["command"] if entry.provenance else None)
    return line_of(Bundled(judged, stated))


def import_file(
    store: VerdictStore, path: Path, *, giving_way: Collection[str] = (), signed: Signed | None = None
) -> Imported:
    """Store the verdicts of a bundle: all that are wanted or, if any line is damaged, none.

    Args:
        store: where to.
        path: the bundle.
        giving_way: the origins (`tuner.verdicts.origin`) whose entries give way to a different one of the bundle; an
            unsafe verdict of what was probed here never gives way to a safe one.
        signed: the bundle as it was read when its signature was checked, kept with each verdict; None: none was
            required, and it is read now.

    Raises:
        TunerError: the file cannot be read, or a line is damaged; the sentence names it.
        StoreError: the store cannot be written, or an entry of one of these keys is damaged there.
    """
    key = signed.key if signed else None
    text = signed.text if signed else None
    lines = (SentLine(line, signed_by=key) for line in _lines(path, text))
    return _stored(store, lines, _Source(str(path), path.name, _now()), giving_way)


def import_lines(
    store: VerdictStore, lines: Iterable[SentLine], source: str, *, giving_way: Collection[str] = ()
) -> Imported:
    """As `import_file`, for lines that did not come as a file; their own signatures are kept with the verdicts.

    Args:
        store: where to.
        lines: those of a bundle.
        source: what the verdicts say they were imported from.
        giving_way: as for `import_file`.

    Raises:
        TunerError: there is no line, or one is damaged; the sentence names it.
        StoreError: as for `import_file`.
    """
    return _stored(store, lines, _Source("The bundle", source, _now()), giving_way)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stored(store: VerdictStore, lines: Iterable[SentLine], source: "_Source", giving_way: Collection[str]) -> Imported:
    """Store the lines of a bundle: all that are wanted or, if any line is damaged, none.

    Of lines whose signatures were checked, one that was signed earlier than one of its key that was taken before is
    not wanted, unless it is what is stored.
    """
    offered = _distinct(lines, source)
    fates = Counter({ImportOutcome.KNOWN: offered.repeated})
    conflicts: list[Conflict] = []
    times = SignedTimes(store.path)
    newest = times.newest(time.time()) if offered.signed_at else {}
    taken: dict[str, int] = {}

    def is_wanted(stored: Entry | None, new: Entry) -> bool:
        signed_at = offered.signed_at.get(new.digest)
        if stored is not None and same(stored, new):
            fate = ImportOutcome.KNOWN
        elif signed_at is not None and signed_at < newest.get(new.digest, 0):
            fate = ImportOutcome.OLDER
        elif stored is None:
            fate = ImportOutcome.NEW
        else:
            conflicts.append(_conflict(store, stored, new, giving_way))
            fate = conflicts[-1].fate
        fates[fate] += 1
        if signed_at is not None and fate in {*STORED, ImportOutcome.KNOWN}:
            taken[new.digest] = signed_at
        return fate in STORED

    store.merge(offered.entries, is_wanted, lines=offered.signed)
    times.keep(taken, time.time())
    return Imported(fates, tuple(conflicts))


def _conflict(store: VerdictStore, stored: Entry, new: Entry, giving_way: Collection[str]) -> Conflict:
    # The store is being written: a new judgement cannot be kept now.
    reader = VerdictStore(store.path, read_only=True, named=store.place.named)
    was, now = known_verdict(reader, stored), Verdict.from_dict(new.verdict)
    return Conflict(stored, was, new, now, resolve_conflict(stored, was, now, giving_way))


@dataclass(frozen=True)
class _Source:
    """Where the lines of a bundle come from.

    Attributes:
        name: of the bundle in sentences.
        source: of the bundle in the store.
        now: when it is imported, ISO 8601 in UTC.
    """

    name: str
    source: str
    now: str


@dataclass(frozen=True)
class _Offered:
    """What a bundle holds.

    Attributes:
        entries: each of another key.
        signed: digest of an entry -> its line, if that has a signature of its own.
        signed_at: digest of an entry -> when its line was signed, if that signature was checked.
        repeated: how many lines only repeat another.
    """

    entries: list[Entry]
    signed: dict[str, SignedLine]
    signed_at: dict[str, int]
    repeated: int


def _distinct(lines: Iterable[SentLine], source: _Source) -> _Offered:
    numbered: dict[str, tuple[int, Entry]] = {}
    signed: dict[str, SignedLine] = {}
    signed_at: dict[str, int] = {}
    repeated = 0
    for number, line in enumerate(lines, 1):
        try:
            new = line_in(line.text).imported(source.source, source.now, line.signed_by)
        except BundleError as error:
            raise _damaged(source.name, number, error.message, error.hint) from None
        first, entry = numbered.setdefault(new.digest, (number, new))
        if first != number and not same(entry, new):
            reason = f"it is another verdict of the key of line {first}, {new.digest[:12]}"
            raise _damaged(source.name, number, reason, "Leave one of the two lines out.")
        repeated += first != number
        if own := line.signed_line(f"line {number}"):
            signed[new.digest] = own
            if line.signed_by:
                signed_at[new.digest] = line.signed_at
    if not numbered:
        raise TunerError(f"{source.name} holds no verdict: it is empty.", hint=_MAKE, kind=ErrorKind.BUNDLE)
    return _Offered([entry for _, entry in numbered.values()], signed, signed_at, repeated)


def _lines(path: Path, text: bytes | None) -> Iterator[bytes]:
    """Each line; one that is too long is cut, and still too long."""
    try:
        with open_plain(path) if text is None else BytesIO(text) as stream:
            while line := stream.readline(MAX_LINE + 1):
                yield line
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise TunerError(f"The bundle {path} cannot be read: {why}.", hint=_MAKE, kind=ErrorKind.BUNDLE) from None


def _damaged(name: str, number: int, reason: str, hint: str) -> TunerError:
    return TunerError(
        f"{name}, line {number} is damaged: {reason}. Nothing was stored.", hint=hint or _MAKE, kind=ErrorKind.BUNDLE
    )


def write(exported: Exported, output: Path, signature: bytes | None) -> None:
    """Write a bundle as a file and, where it is signed, the signature beside it; each whole or not at all.

    Raises:
        TunerError: one of them cannot be written.
    """
    write_whole(output, exported.text.encode(), ErrorKind.BUNDLE)
    if signature is not None:
        write_whole(signature_file(output), signature, ErrorKind.BUNDLE)


def write_whole(file: Path, text: bytes, kind: ErrorKind) -> None:
    """Write a file whole or not at all; behind a link, in the place of its target.

    Raises:
        TunerError: it cannot be written; its kind is `kind`.
    """
    try:
        target = file.resolve()
        if target.exists() and not target.is_file():
            raise TunerError(f"{file} is not a plain file.", hint="Name another one, or leave --output out.", kind=kind)
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with draft.open("xb") as stream:
                stream.write(text)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        why = error.strerror if isinstance(error, OSError) else error
        raise TunerError(f"{file} cannot be written: {why}.", hint="Name another file.", kind=kind) from None


def _named_entries(store: VerdictStore, names: Sequence[str]) -> list[Entry]:
    entries = entries_called(store, names) if names else list(store.entries())
    if not entries:
        probe, shows = store.place.command("probe", "MODEL"), store.place.command("verdicts", "list")
        hint = f"`{probe}` stores one; `{shows}` shows what is stored."
        raise TunerError("No verdict is stored, so there is nothing to export.", hint=hint, kind=ErrorKind.NO_VERDICT)
    return entries


_MAKE = "Make a bundle with `tuner verdicts export > FILE`."
