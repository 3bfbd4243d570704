"""Bearer tokens: files of secrets, read again when they change, and compared in constant time."""

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain

MIN_TOKEN = 20
"""Characters of the shortest token that is taken."""
MAX_FILE = 2**16
"""Bytes of a file of tokens."""
_HINT = "Put one token on a line, such as the output of `openssl rand -hex 32`; a line that begins with # is a comment."
_Stamp = tuple[int, int, int] | None


class TokenFile:
    """The tokens in a file. While the file cannot be used, no token is right.

    Args:
        path: the file.
        tell: is given a sentence when a changed file cannot be used, or can be used again.

    Raises:
        TunerError: the file cannot be used now.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._stamp = _stamp(path)
        self._digests = _digests(path)

    def accepts(self, token: str) -> bool:
        """Whether a token is in the file as it is now."""
        self._refresh()
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        right = False
        for accepted in self._digests:  # all of them, whichever is right
            right |= hmac.compare_digest(accepted, digest)
        return right

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._digests = _digests(self._path)
        except TunerError as error:
            self._digests = ()
            self._tell(f"{error.message} No token of it is taken until it is right again.")
        else:
            self._tell(f"the tokens in {self._path} were read again: {len(self._digests)}")


def _stamp(path: Path) -> _Stamp:
    """What changes when a file is written or exchanged; None: it cannot be looked at."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _digests(path: Path) -> tuple[bytes, ...]:
    try:
        data = read_plain(path, MAX_FILE + 1)
        lines = data.decode("ascii").splitlines()
    except OSError as error:
        raise _unusable(f"The token file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _unusable(f"The token file {path} holds other characters than ASCII.") from None
    if len(data) > MAX_FILE:
        raise _unusable(f"The token file {path} is longer than {MAX_FILE >> 10} KiB.")
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise _unusable(f"The token file {path} holds no token.")
    if min(map(len, tokens)) < MIN_TOKEN:
        raise _unusable(f"The token file {path} holds a token of fewer than {MIN_TOKEN} characters.")
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)


def _unusable(message: str) -> TunerError:
    return TunerError(message, hint=_HINT, kind=ErrorKind.SERVICE)
