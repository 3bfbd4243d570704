"""Test support: `tuner service run` in a process of its own, and certificates for it."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_environment import OURS

START_S = 120
"""Seconds that a busy machine may take to start a service."""


@dataclass
class Live:
    """A service that runs.

    Attributes:
        process: its process.
        url: its address.
        port: on 127.0.0.1.
        log: the file with its stderr.
        trusted: the certificate that its clients trust; None without TLS.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    port: int
    log: Path
    trusted: Path | None = None

    def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """Status and body of a GET over a connection of its own."""
        with closing(self.connection()) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def connection(self) -> http.client.HTTPConnection:
        """A new connection."""
        if self.trusted is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        context = ssl.create_default_context(cafile=self.trusted)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)

    def stop(self) -> int:
        """Stop it as a cluster does, and tell how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


@contextmanager
def live_service(
    folder: Path,
    *options: object,
    certificate: Path | None = None,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """`tuner service run` with these options, once it answers; it is killed at the end.

    Args:
        folder: where its log goes.
        options: of the command, but for --port.
        certificate: that its clients trust, if it has one.
        port: to listen on; None: any that is free.
        env: variables beside those of this process; of ours none is inherited.
    """
    port = port or free_port()
    log = folder / f"service-{port}-{time.monotonic_ns()}.log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | dict(env or {})
    words = [sys.executable, "-m", "tuner", "service", "run", "--port", port, *options]
    with log.open("wb") as stream:
        process = subprocess.Popen([str(word) for word in words], env=clean, stderr=stream, stdin=subprocess.DEVNULL)
    scheme = "http" if certificate is None else "https"
    live = Live(process, f"{scheme}://127.0.0.1:{port}", port, log, certificate)
    try:
        until(lambda: _answers(live))
        yield live
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], seconds: float = START_S) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def _answers(live: Live) -> bool:
    assert live.process.poll() is None, live.log.read_text(encoding="utf-8")
    try:
        return live.get("/healthz")[0] == 200
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_pair(stem: Path, *, days: float = 1, begun: float = 1, number: int = 1) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself as `STEM.crt`, and its key as `STEM.key`.

    Args:
        stem: of both names.
        days: that it is still valid; negative: that it has not been any more.
        begun: days since it has been valid; negative: until it will be.
        number: its serial number.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tuner")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), number)
        .not_valid_before(now - timedelta(days=begun))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, private = Path(f"{stem}.crt"), Path(f"{stem}.key")
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return crt, private


def served_number(port: int) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain) as secured,
    ):
        shown = secured.getpeercert(binary_form=True) or b""
    return x509.load_der_x509_certificate(shown).serial_number
