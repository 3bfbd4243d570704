"""Clients that never end a request or never read an answer: each is cut, and the others are served."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from live_service import live_service
from uvicorn.server import ServerState

from tuner.service import connection
from tuner.service.connection import MOST_OF_ADDRESS, BoundedProtocol

LIMIT_S = 0.4
PATIENCE_S = 20.0
ANSWER = b"x" * 2**16
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def answering(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """An application that reads no body; `/large` answers with more than a socket takes."""
    size = 1000 if scope["path"] == "/large" else 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(size):
        await send({"type": "http.response.body", "body": ANSWER, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def seconds_until_cut(client: Client, patience: float = PATIENCE_S) -> float | None:
    """How long a connection lives on which a client does this; None: longer than the patience."""

    async def meeting() -> float | None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(answering, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60)
        config.load()
        state = ServerState()
        server = await loop.create_server(
            lambda: BoundedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
        begin = loop.time()
        task = asyncio.create_task(client(reader, writer))
        await until(lambda: bool(state.connections))
        try:
            async with asyncio.timeout(patience):
                await until(lambda: not state.connections)
            return loop.time() - begin
        except TimeoutError:
            return None
        finally:
            task.cancel()
            writer.transport.abort()
            server.close()

    return asyncio.run(meeting())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():  # noqa: ASYNC110  uvicorn tells no event
        await asyncio.sleep(0.01)


async def dripping(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send one byte after the other, without an end."""
    with suppress(ConnectionError):
        for byte in itertools.cycle(data):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(LIMIT_S / 20)


async def nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Connect, and that is all."""


async def slow_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A request whose head does not end."""
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    await dripping(writer, b"X-A: b\r\n")


async def endless_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that goes on although the answer was sent."""
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await dripping(writer, b"1\r\nx\r\n")


async def unread_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that nobody reads."""
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await writer.drain()


async def second_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A whole request, and a second one that does not end."""
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readexactly(len(ANSWER))
    await slow_head(reader, writer)


@pytest.mark.parametrize("client", [nothing, slow_head, endless_body, unread_answer, second_request])
def test_a_client_that_does_not_come_to_an_end_is_cut(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it goes on sending."""
    monkeypatch.setattr(connection, "HEAD_S", LIMIT_S)
    monkeypatch.setattr(connection, "REQUEST_S", LIMIT_S)
    seconds = seconds_until_cut(client)
    assert seconds is not None
    assert seconds > LIMIT_S / 2


def test_a_client_that_asks_again_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer begins the time anew, and the time of a request is its own."""
    monkeypatch.setattr(connection, "HEAD_S", LIMIT_S)
    answers: list[int] = []

    async def steady(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(10):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"x" * 100)
            answers.append(len(answers))
            await asyncio.sleep(LIMIT_S / 5)
            reader._buffer.clear()  # type: ignore[attr-defined]  the rest of the answer

    seconds = seconds_until_cut(steady)
    assert len(answers) == 10
    assert seconds is not None
    assert seconds > LIMIT_S * 2


def test_one_address_leaves_connections_to_others(tmp_path: Path, store: Path) -> None:
    """Who opens more than its share loses those beyond it; the service still answers on one of the first."""
    with live_service(tmp_path, "--store", store) as live, ExitStack() as stack:
        sockets = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", live.port))))
            for _ in range(MOST_OF_ADDRESS + 20)
        ]
        cut = [number for number, client in enumerate(sockets) if is_closed(client)]
        assert cut == list(range(MOST_OF_ADDRESS, MOST_OF_ADDRESS + 20))
        sockets[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert sockets[0].recv(100).startswith(b"HTTP/1.1 200")


def is_closed(client: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing was sent."""
    client.settimeout(0.02)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
