"""The application: each request is limited, admitted, answered in a thread, counted and logged."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio.to_thread import run_sync
from msgspec import Struct
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rules.errors import ErrorKind, TunerError
from tuner.service.client import LOOPBACK
from tuner.service.endpoint import Access, Asked, Endpoint, Reply, State, as_json
from tuner.service.endpoints import ENDPOINTS
from tuner.service.limits import BodyMemory, RateLimit, body_of
from tuner.service.recent import NotAtHandError
from tuner.service.refusal import (
    BROKEN,
    BUSY,
    FORBIDDEN,
    NO_TOKEN,
    NOT_TAKEN,
    ServiceError,
    error_document,
    status_of,
)
from tuner.service.tokens import TokenFile
from tuner.text import brief, visible

MAX_AT_ONCE = 2**15
"""Bytes of a body that is read without a thread: a launch has some thousand. The worst of this size takes 2 ms, and no
other request goes on meanwhile."""
MAX_LOGGED = 200
"""Characters of a path in the log."""


class Door(Struct, frozen=True):
    """Who may come in.

    Attributes:
        rate: how often one address may ask.
        read: tokens of those who may read; None: everybody may.
        write: tokens of those who may write; None: nobody may.
        loopback_only: requests must name this machine, so that a web page cannot lead a browser here under a name of
            its own.
    """

    rate: RateLimit
    read: TokenFile | None
    write: TokenFile | None
    loopback_only: bool

    def admit(self, request: Request, access: Access) -> None:
        """Let a request in.

        Raises:
            ServiceError: it may not come in.
        """
        if self.loopback_only and _host_of(request) not in LOOPBACK:
            raise ServiceError(FORBIDDEN, "The request names another host than this machine.")
        self.count(request)
        if access is Access.OPEN or (access is Access.READ and self.read is None):
            return
        if access is Access.WRITE and self.write is None:
            raise ServiceError(
                FORBIDDEN, "This service takes no bundles.", "Start it with --write-tokens FILE to let it take them."
            )
        if not self._has_token(request, access):
            raise ServiceError(
                NO_TOKEN,
                "The request has no token that is right here.",
                "Send the header `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def count(self, request: Request) -> None:
        """Count a request against the rate of its address.

        Raises:
            ServiceError: the address has asked too often.
        """
        self.rate.require(request.client.host if request.client else "")

    def _has_token(self, request: Request, access: Access) -> bool:
        """Whether the token is right; who may write may also read."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return False
        files = (self.write,) if access is Access.WRITE else (self.read, self.write)
        return any(file is not None and file.accepts(token) for file in files)


def _host_of(request: Request) -> str | None:
    """The host that a request names; None if what it names is none."""
    try:
        return request.url.hostname
    except ValueError:
        return None


Background = Callable[[], Coroutine[Any, Any, None]]
"""What runs beside the requests."""


def application(
    state: State, door: Door, log: Callable[[str], None], background: tuple[Background, ...] = ()
) -> Starlette:
    """The application of one service.

    Args:
        state: what answers come from.
        door: who may come in.
        log: is given one line for each request, without its query, its headers and its body.
        background: what runs beside the requests, until the service ends.
    """
    handler = _Handler(state, door, log)
    routes = [
        Route(endpoint.path, partial(handler.handle, endpoint), methods=[endpoint.method]) for endpoint in ENDPOINTS
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: handler.refuse},
        lifespan=partial(_lifespan, background),
    )
    app.router.redirect_slashes = False  # a redirection would name the host that the client names
    return app


def _lifespan(background: tuple[Background, ...], _app: Starlette) -> AbstractAsyncContextManager[None]:
    return _running(background)


@asynccontextmanager
async def _running(background: tuple[Background, ...]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for task in background:
            tasks.start_soon(task)
        yield
        tasks.cancel_scope.cancel()


class _Handler:
    """Answers requests.

    Args:
        state: what answers come from.
        door: who may come in.
        log: is given one line for each request.
    """

    def __init__(self, state: State, door: Door, log: Callable[[str], None]) -> None:
        self._state = state
        self._door = door
        self._log = log
        self._bodies = BodyMemory()

    async def handle(self, endpoint: Endpoint, request: Request) -> Response:
        """The answer to a request, whatever becomes of it."""
        begin = time.perf_counter()
        try:
            reply = await self._reply(endpoint, request)
            response = Response(reply.body, reply.status, dict(reply.headers), reply.media)
        except TunerError as error:
            response = self._failure(error)
        except Exception as error:  # noqa: BLE001  a client never sees a traceback
            self._log(f"{endpoint.method} {endpoint.path} failed: {type(error).__name__} {_place(error)}")
            hint = "The log of the service has a line about it."
            response = self._failure(ServiceError(BROKEN, "The service has a fault.", hint))
        seconds = time.perf_counter() - begin
        self._state.metrics.count_answer(endpoint.path, response.status_code, seconds)
        self._log_answer(request, response.status_code, seconds)
        return response

    async def refuse(self, request: Request, error: Exception) -> Response:
        """The answer to a request that no endpoint takes."""
        status = error.status_code if isinstance(error, HTTPException) else BROKEN
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        hint = "GET /openapi.json lists what there is."
        refusal = ServiceError(
            status, "There is nothing of this path and method.", hint, kind=ErrorKind.USAGE, headers=headers
        )
        try:
            self._door.count(request)
        except ServiceError as too_many:
            refusal = too_many
        self._log_answer(request, refusal.status, 0.0)
        return self._failure(refusal)

    async def _reply(self, endpoint: Endpoint, request: Request) -> Reply:
        query = request.query_params
        writes = any(name in endpoint.writing for name in query)
        self._door.admit(request, Access.WRITE if writes else endpoint.access)
        strange = [name for name in query if name not in endpoint.query]
        if strange or len(query.multi_items()) > len(query):
            name = brief(strange[0]) if strange else "of one name twice"
            raise ServiceError(NOT_TAKEN, f"There is a parameter {name}, which is not taken.", kind=ErrorKind.USAGE)
        async with body_of(request, endpoint.limit, self._bodies) as body:
            asked = Asked(request.path_params, dict(query), dict(request.headers), body)
            return await self._answer(endpoint, asked)

    async def _answer(self, endpoint: Endpoint, asked: Asked) -> Reply:
        if endpoint.remembers and len(asked.body) <= MAX_AT_ONCE:
            with suppress(NotAtHandError):
                return endpoint.answer(self._state, replace(asked, may_wait=False))
        try:
            with anyio.fail_after(endpoint.seconds):
                return await run_sync(endpoint.answer, self._state, asked, abandon_on_cancel=True)
        except TimeoutError:
            raise ServiceError(BUSY, f"No answer was ready within {endpoint.seconds:g} s.", "Try again.") from None

    def _failure(self, error: TunerError) -> Response:
        status = status_of(error)
        headers = error.headers if isinstance(error, ServiceError) else {}
        if error.kind is ErrorKind.STORE:
            self._log(f"the store cannot be used: {error.message}")
            error = ServiceError(status, "The store cannot be used.", "The log of the service says why.")
        return Response(as_json(error_document(error)), status, headers, "application/json")

    def _log_answer(self, request: Request, status: int, seconds: float) -> None:
        address = request.client.host if request.client else "-"
        path = visible(request.scope["path"][:MAX_LOGGED])
        self._log(f"{address} {request.method} {path} {status} {seconds * 1000:.1f} ms")


def _place(error: Exception) -> str:
    """Where an error was raised: file and line, without its text, which may quote a client."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
