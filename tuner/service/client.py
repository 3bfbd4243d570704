"""A client of the service: one request, one answer, each within bounds of time and size.

It stands in the start path of a server that asks a service, and imports what it needs when it asks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cache.secrets import redacted
from rules.errors import ErrorKind, TunerError
from tuner.model.patience import NoAnswerInTimeError, answer_of
from tuner.text import brief
from tuner.untrusted.files import read_plain

if TYPE_CHECKING:
    import http.client

TOKEN_FILE, CA_FILE = "TUNER_SERVICE_TOKEN_FILE", "TUNER_SERVICE_CA"
"""Variables: a file whose first line is the token, and a PEM file of the certificates that are trusted beside the
system's."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_ANSWER = 64 * 2**20
MAX_TOKEN = 2**16
WAIT_S = 30.0
"""Seconds that the next bytes of an answer may take; `tuner.model.patience` bounds the whole answer."""
FINE = 200


class Answer(Struct, frozen=True):
    """What a service answered.

    Attributes:
        status: the HTTP status code.
        headers: by names in lower case.
        body: its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class RefusedError(TunerError):
    """A service answered, and not with a result; `status` is the HTTP status code, and `hint` the service's own."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint, kind=ErrorKind.SERVICE)
        self.status = status


class Client(Struct, frozen=True):
    """A service, as it is asked.

    Attributes:
        host: its name or address.
        port: where it listens.
        base: what stands in front of every path.
        token: the token to send; empty: none.
        secure: over TLS.
        trusted: PEM file of further certificates that are trusted; None: only those of the system are.
    """

    host: str
    port: int
    base: str
    token: str
    secure: bool
    trusted: Path | None

    @property
    def name(self) -> str:
        """The service in sentences."""
        return f"{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """The answer to a request; redirections are not followed.

        Raises:
            RefusedError: the service does not answer with a result.
            TunerError: kind `service`: there is no whole answer in time, or it is no answer of a service.
        """
        from http.client import HTTPException  # noqa: PLC0415  as the module says

        try:
            answer = answer_of(lambda: self._exchange(method, path, body), self.name)
        except NoAnswerInTimeError as error:
            raise self._failure(str(error)) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise self._failure(f"{reason:.200}") from None
        if answer.status != FINE:
            message, hint = _failure_texts(answer.body)
            why = f"it answers {answer.status}" + (f" ({message.rstrip('.')})" if message else "")
            raise RefusedError(self._failure(why).message, hint=hint, status=answer.status)
        return answer

    def _exchange(self, method: str, path: str, body: bytes) -> Answer:
        from contextlib import closing  # noqa: PLC0415  as the module says

        headers = {"Content-Type": "application/json"} if body else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        with closing(self._connection()) as connection:
            connection.request(method, self.base + path, body or None, headers)
            response = connection.getresponse()
            data = response.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER:
                raise OSError(0, f"its answer is longer than {MAX_ANSWER >> 20} MiB")
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, data)

    def _connection(self) -> "http.client.HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415  as the module says

        if not self.secure:
            return HTTPConnection(self.host, self.port, timeout=WAIT_S)
        import ssl  # noqa: PLC0415  as the module says

        context = ssl.create_default_context()
        if self.trusted is not None:
            context.load_verify_locations(self.trusted)
        return HTTPSConnection(self.host, self.port, timeout=WAIT_S, context=context)

    def _failure(self, why: str) -> TunerError:
        return TunerError(f"The service {self.name} cannot be used: {why}.", kind=ErrorKind.SERVICE)


def client_of(address: str, environ: Mapping[str, str]) -> Client:
    """The client of the service at an address.

    Args:
        address: `https://HOST[:PORT]`, or `http://` for this machine alone.
        environ: has the variables `TOKEN_FILE` and `CA_FILE`, if they are needed.

    Raises:
        TunerError: the address or a file cannot be used.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415  as the module says

    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise _no_address(address) from None
    secure = parts.scheme == "https"
    strange = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in {"http", "https"} or not parts.hostname or strange or not address.isprintable():
        raise _no_address(address)
    if not secure and parts.hostname not in LOOPBACK:
        raise TunerError(
            f"The service at {brief(redacted(address))} would be asked without encryption.",
            hint="Name it with https://; http:// is for a service on this machine.",
            kind=ErrorKind.USAGE,
        )
    trusted = environ.get(CA_FILE)
    return Client(
        host=parts.hostname,
        port=port or (443 if secure else 80),
        base=parts.path.rstrip("/"),
        token=_token(environ.get(TOKEN_FILE)),
        secure=secure,
        trusted=Path(trusted) if trusted else None,
    )


def _no_address(address: str) -> TunerError:
    return TunerError(
        f"{brief(redacted(address))} is no address of a service.",
        hint="Name it as https://HOST:PORT, without a user, a query or a fragment.",
        kind=ErrorKind.USAGE,
    )


def _token(file: str | None) -> str:
    if not file:
        return ""
    try:
        lines = read_plain(Path(file), MAX_TOKEN).decode("ascii").splitlines()
    except (OSError, ValueError):
        raise TunerError(
            f"The token file {file} cannot be read.", hint=f"{TOKEN_FILE} names it.", kind=ErrorKind.SERVICE
        ) from None
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return tokens[0] if tokens else ""


def _failure_texts(body: bytes) -> tuple[str, str]:
    """What is wrong and what to do next, as the document of a failure says; empty texts if it is none."""
    from tuner.untrusted.json_text import UnusableError, parse_object  # noqa: PLC0415  as the module says

    try:
        error = parse_object(body).get("error")
    except UnusableError:
        return "", ""
    texts = [error.get(name) for name in ("message", "hint")] if isinstance(error, dict) else []
    message, hint = (brief(text, 200) if isinstance(text, str) and text else "" for text in texts or ("", ""))
    return message, hint
