"""Signatures of bundles in minisign's format: made, required, and the keys for both.

A signature covers every byte of a bundle (Ed25519 over its BLAKE2b hash) and lies beside it as `FILE.minisig`, so that
`minisign` itself checks and makes the same ones, and a release that knows no signatures reads the bundle. Of the
signature file the first line alone is covered by nothing; it is never shown.
"""

import base64
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rules.errors import ErrorKind, TunerError
from tuner.verdicts.origin import shown

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey, Signature

SUFFIX = ".minisig"
MAX_SIGNED = 256 * 1024 * 1024
"""Bytes of the longest bundle whose signature is checked: it is held in memory, so that what was checked is read."""
MAX_TEXT = 16 * 1024
"""Bytes of the longest key or signature file; minisign's own take 10 KiB at most."""


@dataclass(frozen=True)
class Signed:
    """A bundle whose signature is right.

    Attributes:
        text: the bytes that were checked.
        key: identifier of the key, 16 hexadecimal digits, as minisign shows it.
        comment: the comment that was signed with it.
    """

    text: bytes
    key: str
    comment: str

    def told(self) -> str:
        """Who signed, and the comment, on one line."""
        return f"signed with the key {self.key}: " + shown(self.comment.replace("\t", " "))


def signature_file(bundle: Path) -> Path:
    """Where the signature of a bundle lies."""
    return Path(f"{bundle}{SUFFIX}")


def required(bundle: Path, public: Path) -> Signed:
    """The bundle, if the holder of one key signed exactly these bytes.

    Args:
        bundle: the file; its signature lies beside it.
        public: the file of the public key.

    Raises:
        TunerError: a file is missing or damaged, the signature is of another key, or the bundle is not what was signed.
    """
    key, beside = _public_key(public), signature_file(bundle)
    text = _read(bundle, MAX_SIGNED, "bundle", _SIGN)
    signature = _signature(beside, bundle)
    signed_by, wanted = _key_id(_second_line(bytes(signature))), _key_id(key.to_base64())
    if signed_by != wanted:
        said = f"{bundle} is signed with the key {signed_by}, and {public} is {wanted}"
        raise _refused(said, "Ask whoever made the bundle which key is theirs.")
    try:
        key.verify(text, signature)
    except ValueError:  # minisign's errors are of this kind
        said = f"{bundle} does not match its signature {beside}: one of them was changed, cut or forged"
        raise _refused(said, "Get both files again from whoever made them.") from None
    return Signed(text, wanted, signature.trusted_comment)


def sign(bundle: bytes, key: Path, password: Callable[[], str]) -> bytes:
    """The text of a signature file.

    Args:
        bundle: what is signed.
        key: the file of the private key.
        password: asked for where the key has one.

    Raises:
        TunerError: the key cannot be read, is damaged, or has another password.
    """
    secret = _secret_key(key)
    try:
        if secret.is_encrypted():
            secret.decrypt(password())
        signature = secret.sign(bundle, trusted_comment=f"timestamp:{int(time.time())}\thashed")
        secret.get_public_key().verify(bundle, signature)  # a damaged key signs too
    except ValueError as error:
        raise TunerError(f"The private key {key} cannot sign: {error}.", hint=_KEYS, kind=ErrorKind.SIGNATURE) from None
    return bytes(signature) + b"\n"


def readable_by_others(key: Path) -> str:
    """A warning if others on this machine may read a private key; empty if not, or if the file cannot be looked at."""
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError:
        return ""
    said = f"others on this machine may use the private key {key} (mode {mode:04o}): `chmod 600 {key}` keeps it yours"
    return said if mode & 0o077 else ""


def make_keys(stem: Path) -> tuple[Path, Path, str]:
    """Write a new key pair: the private key as `STEM.key`, for its owner alone, and the public one as `STEM.pub`.

    Returns:
        Both files and the identifier of the key.

    Raises:
        TunerError: one of them is there already, or cannot be written.
    """
    pair = _library().KeyPair.generate()
    secret, public = Path(f"{stem}.key"), Path(f"{stem}.pub")
    identifier = _key_id(pair.public_key.to_base64())
    pair.public_key.untrusted_comment = f"minisign public key {identifier}"
    _create(secret, bytes(pair.secret_key) + b"\n", 0o600)
    try:
        _create(public, bytes(pair.public_key) + b"\n", 0o644)
    except TunerError:
        secret.unlink(missing_ok=True)  # its public half is nowhere
        raise
    return secret, public, identifier


def _library() -> Any:
    try:
        import minisign  # noqa: PLC0415  150 ms, and nobody needs it who signs nothing
    except ImportError:
        raise TunerError(
            "Signatures need the package py-minisign, which is not installed here.",
            hint="Install it with the tuner: `pip install 'vllm-moe-tuner[sign]'`.",
            kind=ErrorKind.SIGNATURE,
        ) from None
    return minisign


def _public_key(file: Path) -> "PublicKey":
    key: PublicKey = _key(file, _library().PublicKey, "public key")
    return key


def _secret_key(file: Path) -> "SecretKey":
    key: SecretKey = _key(file, _library().SecretKey, "private key")
    return key


def _key(file: Path, kind: Any, name: str) -> Any:
    text = _read(file, MAX_TEXT, name, _KEYS)
    try:
        return kind.from_bytes(text)
    except ValueError as error:
        raise TunerError(f"{file} is no {name} of minisign: {error}.", hint=_KEYS, kind=ErrorKind.SIGNATURE) from None


def _signature(file: Path, bundle: Path) -> "Signature":
    with suppress(OSError):  # where even that is not known, the reading says why
        if not file.exists():
            raise _refused(f"{bundle} is not signed: there is no {file}", _SIGN)
    text = _read(file, MAX_TEXT, "signature", _SIGN)
    try:
        signature: Signature = _library().Signature.from_bytes(text)
    except ValueError as error:
        raise _refused(f"The signature {file} is damaged: {error}", _SIGN) from None
    if bytes(signature) != text.removesuffix(b"\n"):  # base64 has several spellings of the same bytes
        raise _refused(f"The signature {file} is damaged: it is not written as minisign writes it", _SIGN)
    if not signature.is_prehashed():
        raise _refused(f"The signature {file} is of minisign's old kind", "Sign with minisign 0.10 or later.")
    return signature


def _second_line(text: bytes) -> bytes:
    return text.split(b"\n")[1]


def _key_id(encoded: bytes) -> str:
    """The key's identifier behind the two letters that name the algorithm, as minisign writes it."""
    return f"{int.from_bytes(base64.b64decode(encoded)[2:10], 'little'):016X}"


def _read(file: Path, limit: int, what: str, hint: str) -> bytes:
    try:
        with file.open("rb") as stream:
            text = stream.read(limit + 1)
    except OSError as error:
        raise TunerError(
            f"The {what} {file} cannot be read: {error.strerror}.", hint=hint, kind=ErrorKind.SIGNATURE
        ) from None
    if len(text) > limit:
        raise TunerError(f"The {what} {file} is longer than {limit // 1024} KiB.", hint=hint, kind=ErrorKind.SIGNATURE)
    return text


def _create(file: Path, text: bytes, mode: int) -> None:
    """Write a file that must not be there yet: a key that is overwritten is lost."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(text)
    except OSError as error:
        said = f"The key {file} is not written: {error.strerror}."
        raise TunerError(said, hint="Name another one.", kind=ErrorKind.SIGNATURE) from None


def _refused(said: str, hint: str) -> TunerError:
    return TunerError(f"{said}. Nothing was stored.", hint=hint, kind=ErrorKind.SIGNATURE)


_KEYS = "`tuner verdicts keygen NAME` makes NAME.key to sign with and NAME.pub to check with; so does `minisign -G`."
_SIGN = "Sign where it is made: `tuner verdicts export --sign-with KEY --output FILE`, or `minisign -S -m FILE`."
