"""The certificate of the service: checked before it is used, and exchanged under running connections."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain

MAX_FILE = 2**20
"""Bytes of a certificate with its chain."""
RELOAD_S = 2.0
"""Seconds between two looks at the files."""


class Certificate:
    """A certificate and its key, read again when the files change.

    A pair that does not fit is not taken: the service goes on with the one before.

    Args:
        certificate: PEM file of the certificate and its chain.
        key: PEM file of the private key, without a password.
        tell: is given a sentence when the certificate was exchanged, or could not be, or is not for the name.
        name: by which the service will be asked, such as the webhook's; empty: not known.

    Raises:
        TunerError: the two do not fit, or the certificate is not valid now.
    """

    def __init__(self, certificate: Path, key: Path, tell: Callable[[str], None], name: str = "") -> None:
        self._certificate = certificate
        self._key = key
        self._tell = tell
        self._name = name
        self._stamps = self._stamps_now()
        self._refused: tuple[object, ...] = ()
        self._current, self.expires = self._read()
        self.context = _server_context()
        """The context of the listening socket; each handshake gets the certificate that is current."""
        self._load_into(self.context)
        self.context.sni_callback = self._use_current

    @property
    def valid(self) -> bool:
        """Whether the certificate has not expired."""
        return datetime.now(UTC) < self.expires

    def refresh(self) -> None:
        """Take the files if they changed and fit."""
        stamps = self._stamps_now()
        if stamps == self._stamps:
            return
        try:
            self._current, self.expires = self._read()
        except TunerError as error:  # it may fit later: once its time begins, or the system's clock is right again
            if stamps != self._refused:
                before = f"The certificate before stays in use, until {self.expires:%Y-%m-%d %H:%M} UTC."
                self._tell(f"{error.message} {before}")
            self._refused = stamps
        else:
            self._stamps, self._refused = stamps, ()
            self._tell(f"the certificate was read again; it is valid until {self.expires:%Y-%m-%d %H:%M} UTC")

    def _read(self) -> tuple[ssl.SSLContext, datetime]:
        """A context with the files as they are now, and when the certificate expires; a name that is missing is told.

        Raises:
            TunerError: they do not fit, or the certificate is not valid now.
        """
        context, first = _context(self._certificate, self._key)
        names = names_of(first)
        if self._name and not any(_stands_for(name, self._name) for name in names):
            others = f"only for {', '.join(names)}" if names else "and names nothing"
            self._tell(
                f"The certificate {self._certificate} is not for {self._name}, {others}. "
                "Whoever asks by that name will not trust it."
            )
        return context, first.not_valid_after_utc

    def _use_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load_into(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key)

    def _stamps_now(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in (self._certificate, self._key))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses that a certificate is for, in its order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def _stands_for(pattern: str, name: str) -> bool:
    """Whether a name of a certificate covers another; a star is one whole label, and the first (RFC 9525)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    first, _, parent = name.partition(".")
    return pattern == name or (bool(first) and bool(parent) and pattern == f"*.{parent}")


def _stamp(file: Path) -> object:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, x509.Certificate]:
    """A context with this pair, and the certificate itself."""
    context = _server_context()
    try:
        first = x509.load_pem_x509_certificates(read_plain(certificate, MAX_FILE))[0]
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError among them
        reason = getattr(error, "reason", None) or error.strerror or "it is no PEM file"
        raise _unfit(f"{certificate} and {key} cannot be used together: {reason}.") from None
    except ValueError:
        raise _unfit(f"{certificate} is no certificate in PEM form, or {key} has a password.") from None
    now = datetime.now(UTC)
    if not first.not_valid_before_utc <= now < first.not_valid_after_utc:
        span = f"from {first.not_valid_before_utc:%Y-%m-%d %H:%M} to {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise _unfit(f"The certificate {certificate} is not valid now, only {span}.")
    return context, first


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise ValueError("the key has a password")


def _unfit(message: str) -> TunerError:
    return TunerError(message, hint="Give the two PEM files of one valid certificate.", kind=ErrorKind.SERVICE)
