"""Lines of a bundle on their way to or from a service, each with its own signature or without one.

A signed line is sent as one line of JSON: `line`, the line of a bundle with its end, and `signature`, the text of the
signature file that `minisign` makes of exactly these bytes. A line without a signature is sent as it is.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from msgspec import Struct
from msgspec.json import decode
from msgspec.structs import replace

from cache.verdicts.entry import SignedLine
from rules.errors import ErrorKind, TunerError
from tuner.exchange.signing import Signer, Verifier, named_key


class SentLine(Struct, frozen=True):
    """A line as it came.

    Attributes:
        text: the line of a bundle, its end included.
        signature: the text of its signature file; empty if it has none.
        signed_by: identifier of the key whose signature was checked here; None: none was.
        signed_at: when that key signed it, in seconds since 1970; 0: the signature does not say so.
    """

    text: bytes
    signature: str = ""
    signed_by: str | None = None
    signed_at: int = 0

    def signed_line(self, name: str) -> SignedLine | None:
        """The line as the store keeps it beside its entry; None if it has no signature of its own.

        Args:
            name: of the line in sentences.

        Raises:
            TunerError: its signature is none.
        """
        if not self.signature:
            return None
        try:
            return SignedLine(self.text.decode(), self.signature, named_key(self.signature))
        except ValueError:
            problem = f"The signature of {name} is damaged. Nothing was stored."
            raise TunerError(problem, hint="Sign the line again.", kind=ErrorKind.SIGNATURE) from None


class _Signed(Struct, forbid_unknown_fields=True):
    """The form in which a signed line is sent."""

    line: str
    signature: str


def sign_line(line: str, signer: Signer, after: int = 0) -> str:
    """The form in which a line of a bundle is sent once it is signed, its end included.

    Args:
        line: as `tuner.exchange.transfer.exported_line` makes it.
        signer: signs it.
        after: as for `Signer.sign`.
    """
    return sent_form(line, signer.sign(line.encode(), after).decode())


def sent_form(line: str, signature: str) -> str:
    """The form in which a line is sent, its end included.

    Args:
        line: of a bundle.
        signature: the text of its signature file; empty if it has none.
    """
    return json.dumps({"line": line, "signature": signature}) + "\n" if signature else line


def sent_lines(body: bytes, public: Path | None = None) -> list[SentLine]:
    """The lines of a body, signed ones and others; whether a line is one of a bundle is not looked at.

    Args:
        body: the lines, each with its end.
        public: file of the public key that must have signed each of them; None: none need be signed.

    Raises:
        TunerError: a line is not signed with the key, or the file cannot be used; the sentence names the line.
    """
    lines = [_sent_line(line) for line in BytesIO(body)]
    return lines if public is None else required_lines(lines, public)


def _sent_line(line: bytes) -> SentLine:
    try:
        signed = decode(line, type=_Signed)
    except (ValueError, RecursionError):  # also bytes that are no UTF-8: a line without a signature
        return SentLine(line)
    return SentLine(signed.line.encode(errors="replace"), signed.signature)


def required_lines(lines: Sequence[SentLine], public: Path) -> list[SentLine]:
    """The lines, if the holder of a key signed each of them.

    Args:
        lines: as they came.
        public: the file of the public key.

    Raises:
        TunerError: a line is not signed with it, or the file cannot be used; the sentence names the line.
    """
    verifier = Verifier(public)
    return [_checked(line, verifier, f"The bundle, line {number}") for number, line in enumerate(lines, 1)]


def _checked(line: SentLine, verifier: Verifier, name: str) -> SentLine:
    signed = verifier.require(line.text, line.signature, name)
    return replace(line, signed_by=signed.key, signed_at=signed.signed_at)


def signed_lines(lines: Sequence[SentLine], public: Path) -> list[SentLine]:
    """Those of the lines that the holder of a key signed.

    Args:
        lines: as they came.
        public: the file of the public key.

    Raises:
        TunerError: the file cannot be used.
    """
    verifier = Verifier(public)
    right = []
    for line in lines:
        with suppress(TunerError):
            right.append(_checked(line, verifier, "it"))
    return right
