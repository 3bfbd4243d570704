"""Test support: a service without a socket, and the requests that clients send it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_environment import MIXTRAL, Serving
from starlette.testclient import TestClient

from cache.verdicts.store import VerdictStore
from tuner.environment.document import environment_document
from tuner.environment.environment import Environment
from tuner.service.app import Door, application
from tuner.service.clock import Clock, steady_clock
from tuner.service.endpoint import State
from tuner.service.limits import RateLimit
from tuner.service.metrics import Metrics
from tuner.service.tokens import TokenFile

READER, WRITER = "reader-" + "r" * 20, "writer-" + "w" * 20


@dataclass
class Bench:
    """One service, and what it said.

    Attributes:
        client: asks it.
        log: its lines.
        state: what its answers come from.
    """

    client: TestClient
    log: list[str]
    state: State

    def decision(self, request: dict[str, Any], status: int = 200) -> Any:
        """The answer to a request for a decision."""
        answer = self.client.post("/v1/decisions", json=request)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200, **query: object) -> Any:
        """The answer to a GET."""
        answer = self.client.get(path, params={name: str(value) for name, value in query.items()})
        assert answer.status_code == status, answer.text
        return answer.json()


@dataclass
class Setting:
    """How a bench's service runs; tokens are files, as for `tuner service run`."""

    store: Path
    configs: Path | None = None
    signed_with: Path | None = None
    follows: str = ""
    read: Path | None = None
    write: Path | None = None
    rate: float = 1000
    loopback_only: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    images: tuple[tuple[str, Environment], ...] = ()
    clock: Clock = field(default_factory=steady_clock)


def bench(setting: Setting) -> Bench:
    """A service; requests come from this machine."""
    log: list[str] = []
    state = State(
        store=VerdictStore(setting.store),
        configs=setting.configs,
        signed_with=setting.signed_with,
        follows=setting.follows,
        feed="feed",
        metrics=Metrics(),
        unready=lambda: "",
        images=setting.images,
        clock=setting.clock,
    )
    door = Door(
        rate=RateLimit(setting.rate),
        read=TokenFile(setting.read, log.append) if setting.read else None,
        write=TokenFile(setting.write, log.append) if setting.write else None,
        loopback_only=setting.loopback_only,
    )
    app = application(state, door, log.append)
    client = TestClient(app, base_url="http://127.0.0.1", headers=setting.headers, raise_server_exceptions=False)
    return Bench(client, log, state)


def tokens_in(folder: Path) -> dict[str, Path]:
    """Files with one token of a reader and one of a writer."""
    files = {}
    for name, token in (("read", READER), ("write", WRITER)):
        files[name] = folder / f"{name}.tokens"
        files[name].write_text(f"# of the team\n{token}\n", encoding="utf-8")
    return files


def bearing(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {token}"}


def launch_request(serving: Serving, *args: str, model: Path = MIXTRAL, **fields: Any) -> dict[str, Any]:
    """The request for a launch of an example model, described by its config.json."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return named_request(serving, [str(model), *args], **{"model": {"config": config}, **fields})


def named_request(serving: Serving, arguments: Sequence[str], **fields: Any) -> dict[str, Any]:
    """The request for a launch of a model that the service knows by name."""
    return {"environment": environment_document(serving.read()), "arguments": list(arguments), **fields}
