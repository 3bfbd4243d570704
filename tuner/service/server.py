"""The server: its options checked, its certificate and tokens opened, and its loop run."""

import logging
import secrets
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import uvicorn
from msgspec import Struct

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.environment.environment import Environment
from tuner.exchange.signing import Verifier
from tuner.service.app import Background, Door, application
from tuner.service.certificate import RELOAD_S, Certificate
from tuner.service.client import LOOPBACK, Client
from tuner.service.connection import BoundedProtocol
from tuner.service.endpoint import State
from tuner.service.follow import Follower
from tuner.service.limits import RateLimit
from tuner.service.metrics import Metrics
from tuner.service.tokens import TokenFile

MAX_CONNECTIONS = 512
"""Requests at the same time; more are answered with 503."""
GRACE_S = 5
"""Seconds that requests in progress have when the service is stopped."""
SWITCH_S = 0.0005
"""Seconds for which one thread may compute while others wait. Python's 5 ms let a request that is answered from memory
wait as long for each of its steps while an answer is made."""
Tell = Callable[[str], None]


class Settings(Struct, frozen=True):
    """How a service runs.

    Attributes:
        store: the verdicts.
        host: address to listen on; without a certificate one of this machine alone.
        port: likewise; 0: any that is free.
        configs: folder of folders ORGANISATION--NAME with a config.json, of the models that may be asked for by name.
        read_tokens: file with the tokens of those who may read; needed with a certificate.
        write_tokens: file with the tokens of those who may send bundles; without it nobody may.
        certificate: PEM file of the certificate and its chain.
        key: PEM file of its private key.
        name: the name by which it will be asked, which the certificate should have; empty: not known.
        signed_with: file of the public key that must have signed each line, of a bundle or of the service that is
            followed.
        rate: requests a second that one address may make.
        images: patterns of image names, each with the environment of these images.
        follow: the service of which this one is a replica; None: it takes bundles itself.
    """

    store: VerdictStore
    host: str
    port: int
    configs: Path | None = None
    read_tokens: Path | None = None
    write_tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str = ""
    signed_with: Path | None = None
    rate: float = 1000.0
    follow: Client | None = None
    images: tuple[tuple[str, Environment], ...] = ()


def run_service(settings: Settings, tell: Tell) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: how.
        tell: is given each line of the log.

    Raises:
        TunerError: the settings contradict each other, or a file of them cannot be used.
        StoreError: the store cannot be used.
    """
    _require_safe(settings)
    settings.store.newest_change()
    if settings.signed_with is not None:
        Verifier(settings.signed_with)
    certificate = _certificate(settings, tell)
    server = uvicorn.Server(_config(settings, certificate, tell))
    sys.setswitchinterval(SWITCH_S)
    try:
        server.run()
    except SystemExit:  # uvicorn's word for an address that cannot be had
        problem = f"The service cannot listen on {settings.host}, port {settings.port}."
        raise TunerError(problem, hint="Choose another --port or --host.", kind=ErrorKind.SERVICE) from None


def _require_safe(settings: Settings) -> None:
    """Refuse to open the service to others without encryption or without tokens."""
    if (settings.certificate is None) is not (settings.key is None):
        raise _usage("--certificate and --key belong together.", "Give both, or neither.")
    if settings.certificate is None and settings.host not in LOOPBACK:
        raise _usage(
            f"Without a certificate the service listens on this machine alone, and not on {settings.host}.",
            "Give --certificate and --key, or leave --host out.",
        )
    if settings.certificate is not None and settings.read_tokens is None:
        raise _usage("With a certificate those who read need tokens.", "Give --read-tokens FILE.")
    if settings.follow is not None and settings.write_tokens:
        raise _usage("A replica takes no bundles.", "Leave --write-tokens out.")
    if settings.configs is not None and not settings.configs.is_dir():
        raise _usage(f"{settings.configs} is no folder.", "It holds a folder ORGANISATION--NAME for each model.")


def _usage(problem: str, hint: str) -> TunerError:
    return TunerError(problem, hint=hint, kind=ErrorKind.USAGE)


def _certificate(settings: Settings, tell: Tell) -> Certificate | None:
    if settings.certificate is None or settings.key is None:
        return None
    return Certificate(settings.certificate, settings.key, tell, settings.name)


def _config(settings: Settings, certificate: Certificate | None, tell: Tell) -> uvicorn.Config:
    background: list[Background] = [_announcement(settings, tell)]
    metrics = Metrics()
    if certificate is not None:
        background.append(_reloading(certificate))
        metrics.show_certificate(lambda: certificate.expires)
    follower = Follower(settings.follow, settings.store, tell, settings.signed_with) if settings.follow else None
    if follower is not None:
        background.append(follower.run)
        metrics.show_followed(lambda: follower.followed_at)
    state = State(
        store=settings.store,
        configs=settings.configs,
        signed_with=settings.signed_with,
        follows=settings.follow.name if settings.follow else "",
        feed=secrets.token_hex(8),
        metrics=metrics,
        unready=lambda: _unready(certificate, follower),
        images=settings.images,
    )
    return uvicorn.Config(
        application(state, _door(settings, tell), tell, tuple(background)),
        host=settings.host,
        port=settings.port,
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=None if certificate is None else lambda _config, _default: _context(certificate),
    )


def _context(certificate: Certificate) -> ssl.SSLContext:
    return certificate.context


def _door(settings: Settings, tell: Tell) -> Door:
    read, write = settings.read_tokens, settings.write_tokens
    return Door(
        rate=RateLimit(settings.rate),
        read=TokenFile(read, tell) if read else None,
        write=TokenFile(write, tell) if write else None,
        loopback_only=settings.certificate is None,
    )


def _unready(certificate: Certificate | None, follower: Follower | None) -> str:
    """Why the service is not ready; empty if it is."""
    if follower is not None and not follower.followed_at:
        return "The replica does not have all changes yet."
    return "The certificate has expired." if certificate is not None and not certificate.valid else ""


def _reloading(certificate: Certificate) -> Background:
    async def reload() -> None:
        while True:
            await anyio.sleep(RELOAD_S)
            certificate.refresh()

    return reload


def _announcement(settings: Settings, tell: Tell) -> Background:
    scheme = "http" if settings.certificate is None else "https"

    async def announce() -> None:
        tell(f"serving {settings.store.path} on {scheme}://{settings.host}:{settings.port}")

    return announce
