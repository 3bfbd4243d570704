"""Signatures of bundles in minisign's format: made, and checked.

A signature covers every byte of a bundle (Ed25519 over its BLAKE2b hash). It lies beside the bundle as `FILE.minisig`:
`minisign` itself makes and checks the same signatures, and a release without signatures can read the bundle.
Nothing covers the first line of the signature file, so that line is never shown.
"""

import base64
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain
from tuner.verdicts.origin import printable

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey, Signature

SUFFIX = ".minisig"
MAX_SIGNED = 256 * 1024 * 1024
"""Bytes of the longest bundle whose signature is checked: the bytes that were checked are read from memory."""
MAX_TEXT = 16 * 1024
"""Bytes of the longest key or signature file; minisign's own take 10 KiB at most."""
_TIME = re.compile(r"timestamp:([0-9]{1,12})(?![0-9])")
"""How minisign begins the comment that it signs with the bytes."""
SIGNATURE_BYTES = 2 + 8 + 64
"""Of the second line of a signature file: algorithm, identifier of the key, signature."""


@dataclass(frozen=True)
class Signed:
    """A bundle whose signature is right.

    Attributes:
        text: the bytes that were checked.
        key: identifier of the key, 16 hexadecimal digits, as minisign shows it.
        comment: the comment that was signed with the bundle.
    """

    text: bytes
    key: str
    comment: str

    @property
    def signed_at(self) -> int:
        """When it was signed, in seconds since 1970, as the comment says; 0: it does not."""
        time_stated = _TIME.match(self.comment)
        return int(time_stated[1]) if time_stated else 0

    def signer(self) -> str:
        """Who signed, and the comment, on one line."""
        return f"signed with the key {self.key}: " + printable(self.comment.replace("\t", " "))


def signature_file(bundle: Path) -> Path:
    """The file of a bundle's signature."""
    return Path(f"{bundle}{SUFFIX}")


def check_signature(bundle: Path, public: Path) -> Signed:
    """Read a bundle if the holder of a key signed exactly these bytes.

    Args:
        bundle: the file; its signature lies beside it.
        public: the file of the public key.

    Raises:
        TunerError: a file is missing or damaged, the signature is of another key, or the bundle is not what was signed.
    """
    key = _public_key(public)
    text = _read(bundle, MAX_SIGNED, "bundle", _SIGN_HINT)
    file = signature_file(bundle)
    return _checked(text, _signature(bundle), key, _Names(str(bundle), str(file), str(public)))


class Verifier:
    """Checks texts that did not come as files.

    Args:
        public: the file of the public key; it is read now.

    Raises:
        TunerError: the file cannot be used.
    """

    def __init__(self, public: Path) -> None:
        self._key = _public_key(public)
        self.key = _key_id(self._key.to_base64())
        """Identifier of the key."""

    def require(self, text: bytes, signature: str, name: str) -> Signed:
        """The text, if the holder of the key signed exactly these bytes.

        Args:
            text: the bytes.
            signature: the text of their signature file; empty if there is none.
            name: of the text in sentences.

        Raises:
            TunerError: they are not signed, by another key, or are not what was signed.
        """
        if not signature:
            raise _refusal(f"{name} is not signed", f"Sign it with the private key of {self.key}.")
        parsed = _parsed(signature.encode(errors="replace"), f"of {name}")
        return _checked(text, parsed, self._key, _Names(name, f"of {name}", "the key that is required here"))


def named_key(signature: str) -> str:
    """Identifier of the key that a signature names; whether the signature is right is not looked at.

    Args:
        signature: the text of a signature file.

    Raises:
        ValueError: it is no such text.
    """
    encoded = _second_line(signature.encode("ascii")) if signature.count("\n") > 1 else b""
    if len(signature) > MAX_TEXT or len(base64.b64decode(encoded, validate=True)) != SIGNATURE_BYTES:
        raise ValueError("it is not a signature of minisign")
    return _key_id(encoded)


@dataclass(frozen=True)
class _Names:
    """What a bundle, its signature and the public key are called in sentences."""

    bundle: str
    signature: str
    public: str


def _checked(text: bytes, signature: "Signature", key: "PublicKey", names: _Names) -> Signed:
    signer_id = _key_id(_second_line(bytes(signature)))
    key_id = _key_id(key.to_base64())
    if signer_id != key_id:
        problem = f"{names.bundle} is signed with the key {signer_id}, and {names.public} is {key_id}"
        raise _refusal(problem, "Ask whoever made the bundle which key is theirs.")
    try:
        key.verify(text, signature)
    except ValueError:  # the type of minisign's errors
        changed = "one of them was changed, cut or forged"
        problem = f"{names.bundle} does not match its signature {names.signature}: {changed}"
        raise _refusal(problem, "Get both again from whoever made them.") from None
    return Signed(text, key_id, signature.trusted_comment)


class Signer:
    """Signs texts with one private key.

    Args:
        key: the file of the private key; it is read now.
        password: called for the password if the key has one.

    Raises:
        TunerError: the key cannot be read, is damaged, or has another password.
    """

    def __init__(self, key: Path, password: Callable[[], str]) -> None:
        self._file = key
        self._key = _secret_key(key)
        try:
            if self._key.is_encrypted():
                self._key.decrypt(password())
        except ValueError as error:
            raise self._failure(error) from None

    def sign(self, text: bytes, after: int = 0) -> bytes:
        """The text of the signature file of these bytes.

        Args:
            text: the bytes.
            after: the least time that is stated, in seconds since 1970: that of what this replaces, which a signer
                whose clock is ahead may have signed.

        Raises:
            TunerError: the key is damaged.
        """
        signed_at = max(int(time.time()), after)
        try:
            signature = self._key.sign(text, trusted_comment=f"timestamp:{signed_at}\thashed")
            self._key.get_public_key().verify(text, signature)  # a damaged key makes a signature, too
        except ValueError as error:
            raise self._failure(error) from None
        return bytes(signature) + b"\n"

    def signed_at(self, text: bytes, signature: str) -> int | None:
        """When this key signed exactly these bytes, as `Signed.signed_at`; None: it did not.

        Args:
            text: the bytes.
            signature: the text of their signature file.
        """
        names = _Names("it", "it", str(self._file))
        try:
            parsed = _parsed(signature.encode(errors="replace"), "it")
            return _checked(text, parsed, self._key.get_public_key(), names).signed_at
        except TunerError:
            return None

    def _failure(self, error: ValueError) -> TunerError:
        problem = f"The private key {self._file} cannot sign: {error}."
        return TunerError(problem, hint=_KEYS_HINT, kind=ErrorKind.SIGNATURE)


def readable_by_others(key: Path) -> str | None:
    """A warning if others on this machine may read a private key; None if not, or if its mode cannot be read."""
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError:
        return None
    if not mode & 0o077:
        return None
    return f"others on this machine may use the private key {key} (mode {mode:04o}): `chmod 600 {key}` keeps it yours"


def _library() -> Any:
    try:
        import minisign  # noqa: PLC0415  it takes 150 ms, and only signatures need it
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
    text = _read(file, MAX_TEXT, name, _KEYS_HINT)
    try:
        return kind.from_bytes(text)
    except ValueError as error:
        raise TunerError(
            f"{file} is not a {name} of minisign: {error}.", hint=_KEYS_HINT, kind=ErrorKind.SIGNATURE
        ) from None


def _signature(bundle: Path) -> "Signature":
    file = signature_file(bundle)
    with suppress(OSError):  # if even that cannot be found out, `_read` says why
        if not file.exists():
            raise _refusal(f"{bundle} is not signed: there is no {file}", _SIGN_HINT)
    return _parsed(_read(file, MAX_TEXT, "signature", _SIGN_HINT), str(file))


def _parsed(text: bytes, file: str) -> "Signature":
    """The signature in the text of a signature file that is called `file` in sentences."""
    try:
        signature: Signature = _library().Signature.from_bytes(text)
    except ValueError as error:
        raise _refusal(f"The signature {file} is damaged: {error}", _SIGN_HINT) from None
    if bytes(signature) != text.removesuffix(b"\n"):  # base64 has several spellings of the same bytes
        raise _refusal(f"The signature {file} is damaged: it is not written as minisign writes it", _SIGN_HINT)
    if not signature.is_prehashed():
        raise _refusal(f"The signature {file} is of minisign's old kind", "Sign with minisign 0.10 or later.")
    return signature


def _second_line(text: bytes) -> bytes:
    return text.split(b"\n")[1]


def _key_id(encoded: bytes) -> str:
    """The key's identifier as minisign writes it; it stands behind the two letters that name the algorithm."""
    return f"{int.from_bytes(base64.b64decode(encoded)[2:10], 'little'):016X}"


def _read(file: Path, limit: int, name: str, hint: str) -> bytes:
    try:
        text = read_plain(file, limit + 1)
    except OSError as error:
        raise TunerError(
            f"The {name} {file} cannot be read: {error.strerror}.", hint=hint, kind=ErrorKind.SIGNATURE
        ) from None
    if len(text) > limit:
        raise TunerError(f"The {name} {file} is longer than {limit // 1024} KiB.", hint=hint, kind=ErrorKind.SIGNATURE)
    return text


def _refusal(problem: str, hint: str) -> TunerError:
    return TunerError(f"{problem}. Nothing was stored.", hint=hint, kind=ErrorKind.SIGNATURE)


_KEYS_HINT = "`minisign -G -s NAME.key -p NAME.pub` makes NAME.key, which signs, and NAME.pub, which checks."
_SIGN_HINT = "Sign where it is made: `tuner verdicts export --sign-with KEY --output FILE`, or `minisign -S -m FILE`."
