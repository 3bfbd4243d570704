"""The queue of a service, as workers and sweeps ask it; the service's `probes.py` answers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec import Struct, ValidationError, to_builtins

from rules.errors import ErrorKind, TunerError
from tuner.environment.document import environment_document
from tuner.environment.environment import Environment
from tuner.service.client import Client
from tuner.service.queued import Launch
from tuner.untrusted.fitting import fitted
from tuner.untrusted.json_text import UnusableError, parse_object

Shape = TypeVar("Shape")
BATCH = 20
"""Launches of one request; a config of a large model takes 200 kB."""


class Claimed(Struct, frozen=True):
    """A probe that a worker was given.

    Attributes:
        id: of its row.
        lease: the worker's right to it.
        lease_seconds: how long that lasts without a heartbeat.
        launch: what to probe.
        stored: the line of a bundle with what is stored on the model, as it is sent; None if nothing is.
    """

    id: str
    lease: str
    lease_seconds: float
    launch: Launch
    stored: str | None


class Answered(Struct, frozen=True):
    """The answer to a worker that asks for a probe.

    Attributes:
        probe: None if none waits for it.
        left: how many wait or run for its environment; told without a probe alone.
    """

    probe: Claimed | None
    left: int = 0


class Row(Struct, frozen=True):
    """A row of the list, or the state of a launch that was sent.

    Attributes:
        id: of the row.
        state: `waiting`, `running`, `resting`, or `answered` for a launch whose verdict is stored.
        model: its name; empty in the answer to launches.
        vllm: the release; likewise.
        arguments: those behind the model; likewise.
        worker: who has it, or had it last.
        reason: why it failed last.
    """

    id: str
    state: str
    model: str = ""
    vllm: str = ""
    arguments: tuple[str, ...] = ()
    worker: str | None = None
    reason: str | None = None


class Page(Struct, frozen=True):
    """Some rows; `next` is the value of `after` for the others."""

    probes: tuple[Row, ...]
    next: str | None = None


class RemoteQueue:
    """The queue of one service.

    Args:
        client: asks the service.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def name(self) -> str:
        """The service in sentences."""
        return self._client.name

    def claim(self, worker: str, environment: Environment) -> Answered:
        """The next probe that this environment can run.

        Raises:
            TunerError: the service cannot be used.
        """
        document = {"worker": worker, "environment": environment_document(environment)}
        return self._shaped(self._client.ask("POST", "/v1/probes/claim", _json(document)).body, Answered)

    def beat(self, probe: Claimed) -> bool:
        """Keep a lease. Tells whether it is still this worker's.

        Raises:
            TunerError: the service cannot be used.
        """
        path = f"/v1/probes/{probe.id}/heartbeat"
        return bool(self._object(self._client.ask("POST", path, _json({"lease": probe.lease})).body).get("held"))

    def end(self, probe: Claimed, outcome: str, body: bytes) -> str:
        """Say what came of a probe; the state of its row then.

        Args:
            probe: the probe.
            outcome: `verdict`, `failed` or `returned`.
            body: the line of a bundle, the failure, or nothing.

        Raises:
            TunerError: the service cannot be used.
        """
        path = f"/v1/probes/{probe.id}/result?lease={quote(probe.lease)}&outcome={outcome}"
        return str(self._object(self._client.ask("POST", path, body).body).get("state"))

    def put(self, launches: Sequence[Launch], *, retry: bool) -> list[Row]:
        """Put launches into the queue; the state of each.

        Raises:
            TunerError: the service cannot be used, or refuses a launch.
        """
        rows: list[Row] = []
        for begin in range(0, len(launches), BATCH):
            document = {"launches": to_builtins(launches[begin : begin + BATCH]), "retry": retry}
            rows += self._shaped(self._client.ask("POST", "/v1/probes", _json(document)).body, Page).probes
        return rows

    def rows(self) -> Iterable[Row]:
        """All rows.

        Raises:
            TunerError: the service cannot be used.
        """
        after: str | None = ""
        while after is not None:
            page = self._shaped(self._client.ask("GET", f"/v1/probes?after={after}").body, Page)
            yield from page.probes
            after = page.next

    def _shaped(self, body: bytes, shape: type[Shape]) -> Shape:
        try:
            return fitted(self._object(body), shape)
        except ValidationError as error:
            raise self._strange(f"has another shape: {error!s:.200}") from None

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            return parse_object(body)
        except UnusableError as error:
            raise self._strange(str(error)) from None

    def _strange(self, why: str) -> TunerError:
        hint = "The service may be of another release of vllm-moe-tuner."
        return TunerError(f"The answer of {self.name} {why}.", hint=hint, kind=ErrorKind.SERVICE)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
