"""A certificate authority of the service's own, for those without cert-manager: one folder of four PEM files."""

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.service.certificate import MAX_FILE, names_of
from tuner.text import brief
from tuner.untrusted.files import read_plain

CA, CA_KEY, LEAF, LEAF_KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
"""Files of the folder; the last two are named as in a Secret of type kubernetes.io/tls."""
SUBJECT = "vllm-moe-tuner authority"
CA_DAYS = 3650
SKEW = timedelta(minutes=5)
"""By which the clocks of two machines may differ."""
MAX_NAME = 253
"""Characters of a DNS name."""
PRIVATE_FOLDER = 0o700


class Issued(Struct, frozen=True):
    """A certificate that was made.

    Attributes:
        names: whom it stands for.
        expires: when it ends.
        renewed: it took the place of one of the same authority.
    """

    names: tuple[str, ...]
    expires: datetime
    renewed: bool


def issue(folder: Path, names: Sequence[str], days: int) -> Issued:
    """Make a certificate in a folder, and at the first time the authority that signs it.

    Args:
        folder: made if it is not there; of its files only `tls.crt` and `tls.key` of the same authority are replaced.
        names: DNS names and addresses of the service; empty: those of the certificate that is renewed.
        days: that the certificate is valid; never longer than the authority is.

    Raises:
        TunerError: the folder holds what is not of this authority, or cannot be written; there is no name; or the
            authority is valid no longer.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        return _issue(folder, names, days)
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        raise _unusable(f"The folder {folder} cannot be used: {reason}.", "Name another folder.") from None


def _issue(folder: Path, names: Sequence[str], days: int) -> Issued:
    present = [name for name in (CA, CA_KEY, LEAF, LEAF_KEY) if (folder / name).exists()]
    if not present:
        _require_names(names)
        _make_authority(folder)
    elif not {CA, CA_KEY} <= set(present):
        raise _foreign(folder, present[0])
    authority, key = _authority_in(folder)
    before = _own_leaf(folder, authority) if {LEAF, LEAF_KEY} & set(present) else None
    names = tuple(dict.fromkeys(names)) or (names_of(before) if before else ())
    _require_names(names)
    expires = min(datetime.now(UTC) + timedelta(days=days), authority.not_valid_after_utc)
    _write_leaf(folder, authority, key, names, expires)
    return Issued(names, expires, before is not None)


def _require_names(names: Sequence[str]) -> None:
    if not names:
        hint = "Give --name, such as --name vllm-moe-tuner.NAMESPACE.svc."
        raise _unusable("The certificate needs a name.", hint, ErrorKind.USAGE)
    for name in names:
        if not name.isascii() or not name.replace("*", "").strip(".") or len(name) > MAX_NAME or " " in name:
            raise _unusable(f"{brief(name)} is no DNS name and no address.", "Write it in ASCII.", ErrorKind.USAGE)


def _make_authority(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])
    now = datetime.now(UTC)
    builder = _builder(name, name, key.public_key(), now + timedelta(days=CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder / CA_KEY, _key_text(key))
    _write(folder / CA, certificate.public_bytes(Encoding.PEM))


def _authority_in(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority that signs here, and its key.

    Raises:
        TunerError: it was not made by this command, its key is another one, or it is valid no longer.
    """
    try:
        authority = x509.load_pem_x509_certificate(read_plain(folder / CA, MAX_FILE))
        key = load_pem_private_key(read_plain(folder / CA_KEY, MAX_FILE), None)
    except (ValueError, TypeError):  # no PEM; with a password
        raise _foreign(folder, CA) from None
    common = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_ours = [attribute.value for attribute in common] == [SUBJECT]
    if not is_ours or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _foreign(folder, CA)
    if key.public_key() != authority.public_key():
        raise _foreign(folder, CA)
    if datetime.now(UTC) >= authority.not_valid_after_utc:
        raise _unusable(
            f"The authority in {folder} has expired.",
            "Make another one in another folder, and let those who trust this one trust that one.",
        )
    return authority, key


def _own_leaf(folder: Path, authority: x509.Certificate) -> x509.Certificate:
    """The certificate that is replaced.

    Raises:
        TunerError: it is not of this authority.
    """
    try:
        leaf = x509.load_pem_x509_certificates(read_plain(folder / LEAF, MAX_FILE))[0]
        leaf.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        raise _foreign(folder, LEAF) from None
    return leaf


def _write_leaf(
    folder: Path,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    expires: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vllm-moe-tuner service")])
    builder = _builder(subject, authority.subject, key.public_key(), expires)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    of_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = builder.add_extension(of_authority, critical=False).sign(signer, hashes.SHA256())
    chain = certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    # A service takes the pair when the second file fits the first.
    _write(folder / LEAF_KEY, _key_text(key))
    _write(folder / LEAF, chain)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, expires: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - SKEW).not_valid_after(expires)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, data: bytes) -> None:
    """Put a file in place, whole, and for its owner alone."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # with mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _foreign(folder: Path, name: str) -> TunerError:
    return _unusable(
        f"{folder / name} is not of an authority that this command made here, and is not overwritten.",
        "Name another folder.",
    )


def _unusable(message: str, hint: str, kind: ErrorKind = ErrorKind.SERVICE) -> TunerError:
    return TunerError(message, hint=hint, kind=kind)
