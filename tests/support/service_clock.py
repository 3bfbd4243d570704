"""Test support: a service and its replica whose system clock jumps while they run.

`shifted_clock.c` shifts what a process reads as the time of day. libfaketime 0.9.10 does not serve: where it leaves the
steady clocks alone, Python's sleep fails.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fake_environment import MIXTRAL, SETTABLE, serving_in
from live_service import Live, free_port, live_service, until, write_pair
from service_bench import WRITER, bearing, tokens_in
from service_faults import Counts, new_lines, put, stored

from tuner.environment.document import environment_document
from tuner.fleet.worker import BEATS
from tuner.service.probes import LEASE_S

SOURCE = Path(__file__).with_name("shifted_clock.c")
HOUR, TEN_YEARS = 3600, 10 * 365 * 24 * 3600
JUMPS = (-HOUR, HOUR, TEN_YEARS, 0)
"""Seconds by which the clock is wrong, one after the other."""
LINES, READS = 3, 20
"""New verdicts, and requests of readers, after each jump."""
SLACK_S = 30.0
"""Seconds that a busy machine may take to ask again."""


class ShiftedClock:
    """The system's clock, as some processes read it.

    Args:
        folder: for the library that shifts it, and the file that says by how much.
    """

    def __init__(self, folder: Path) -> None:
        self._library, self._file = folder / "shifted_clock.so", folder / "clock"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._library, SOURCE], check=True)
        self.seconds = 0
        self._file.write_bytes(bytes(8))

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that make a process read it."""
        return {"LD_PRELOAD": str(self._library), "TUNER_TEST_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let it jump to so many seconds beside the right time."""
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
        self.seconds = seconds

    def is_read_by(self, live: Live) -> bool:
        """Whether a service reads it as it is now: the last line of its log has that time."""
        live.get("/healthz")
        stamp = live.log.read_text().splitlines()[-1].partition(" ")[0]
        logged = datetime.fromisoformat(stamp).timestamp()
        return abs(logged - (datetime.now(UTC).timestamp() + self.seconds)) < HOUR / 2


class Queue:
    """One probe in the queue of a service, and the workers that want it.

    Args:
        folder: where their serving environment is made.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = environment_document(serving_in(folder / "env", SETTABLE).read())
        self._beaten_at = 0.0

    def put(self, live: Live) -> None:
        """Queue it, and forget its failures."""
        config = json.loads((MIXTRAL / "config.json").read_text())
        launch = {"model": "mistralai/Mixtral-8x7B-v0.1", "config": config, "vllm": "0.19.1", "platform": "cpu"}
        posted(live, "/v1/probes", {"launches": [launch], "retry": True})

    def claim(self, live: Live, worker: str) -> dict[str, str] | None:
        """The probe with a lease; None: a worker has it."""
        probe = posted(live, "/v1/probes/claim", {"worker": worker, "environment": self._environment})["probe"]
        if probe is not None:
            self._beaten_at = time.monotonic()
        return {"id": probe["id"], "lease": probe["lease"]} if probe else None

    @contextmanager
    def beating(self, live: Live, probe: dict[str, str]) -> Iterator[list[bool]]:
        """A worker that lives, in a thread of its own; gives for each sign of life whether it still had the probe."""
        held: list[bool] = []
        end = threading.Event()

        def beat() -> None:
            while not end.wait(LEASE_S / BEATS):
                self._beaten_at = time.monotonic()
                path = f"/v1/probes/{probe['id']}/heartbeat"
                held.append(posted(live, path, {"lease": probe["lease"]})["held"])

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield held
        finally:
            end.set()
            thread.join()

    def wait(self, live: Live) -> float:
        """Seconds from the last sign of life of its worker until another one gets the probe, which gives it back."""
        begin = self._beaten_at
        while (probe := self.claim(live, "next")) is None:
            assert time.monotonic() < begin + 10 * LEASE_S, "the lease does not end"
            time.sleep(1)
        posted(live, f"/v1/probes/{probe['id']}/result?lease={probe['lease']}&outcome=returned", {})
        return time.monotonic() - begin


def posted(live: Live, path: str, document: dict[str, Any]) -> Any:
    """The answer to a POST of a writer."""
    with closing(live.connection()) as connection:
        connection.request("POST", path, json.dumps(document), bearing(WRITER))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == HTTPStatus.OK, body
        return json.loads(body)


def clock(folder: Path, count: int) -> Counts:
    """A clock that jumps under a writer with a lease, its replica, and a service with a certificate; so many rounds."""
    ground = Ground(folder)
    with ground.secured() as secured, ground.replica() as replica:
        for _ in range(count):
            ground.jump_around(secured, replica)
            ground.set_back_between_starts()
    missing = len(stored(ground.store) - stored(ground.copy))
    too_long = sum(wait > LEASE_S + SLACK_S for wait in ground.waits)
    return {
        "jumps": count * (len(JUMPS) + 2),
        "verdicts at the replica": len(stored(ground.copy)),
        "leases that ran out": len(ground.waits),
        "longest lease, s": round(max(ground.waits), 1),
        **{what: number for what, number in ground.faults.items() if number},
        "lost": missing + too_long + ground.faults.total(),
    }


class Ground:
    """Services that read one shifted clock, and what went wrong.

    Args:
        folder: for their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shifted = ShiftedClock(folder)
        self._tokens = tokens_in(folder)
        self._lines = new_lines()
        self._queue = Queue(folder)
        self._port = free_port()
        self.store, self.copy = folder / "verdicts.sqlite", folder / "copy.sqlite"
        self.waits: list[float] = []
        """Seconds that each lease lasted after the last sign of life."""
        self.faults = Counter[str]()

    def writer(self) -> AbstractContextManager[Live]:
        """Takes verdicts, and has the queue."""
        options = ("--store", self.store, "--write-tokens", self._tokens["write"])
        return live_service(self._folder, *options, port=self._port, env=self._shifted.env)

    def replica(self) -> AbstractContextManager[Live]:
        """Follows the writer, which may start later."""
        options = ("--store", self.copy, "--follow", f"http://127.0.0.1:{self._port}")
        return live_service(self._folder, *options, env=self._shifted.env)

    def secured(self) -> AbstractContextManager[Live]:
        """Has a certificate of thirty days."""
        crt, key = write_pair(self._folder / "served", days=30)
        options = ("--store", self._folder / "secured.sqlite", "--certificate", crt, "--key", key)
        tokens = ("--read-tokens", self._tokens["read"])
        return live_service(self._folder, *options, *tokens, certificate=crt, env=self._shifted.env)

    def jump_around(self, secured: Live, replica: Live) -> None:
        """Every jump while a worker has a lease; then that worker is silent."""
        queue, faults = self._queue, self.faults
        with self.writer() as writer:
            queue.put(writer)
            lease = queue.claim(writer, "first")
            assert lease is not None
            with queue.beating(writer, lease) as held:
                for seconds in JUMPS:
                    self._shifted.set(seconds)
                    for live in (writer, replica, secured):
                        assert self._shifted.is_read_by(live), "the clock is not shifted"
                    faults["lease lost"] += queue.claim(writer, "second") is not None
                    put(writer, self._lines, LINES)
                    refused = sum(replica.get("/v1/verdicts")[0] != HTTPStatus.OK for _ in range(READS))
                    faults["reader refused"] += refused
                    until(lambda: stored(self.copy) == stored(self.store))
                    is_ready = secured.get("/readyz")[0] == HTTPStatus.OK
                    faults["readiness wrong"] += is_ready is (seconds == TEN_YEARS)  # the certificate has expired then
                until(lambda: len(held) >= BEATS)
            faults["lease lost"] += held.count(False)
            self._let_run_out(writer)

    def set_back_between_starts(self) -> None:
        """A lease that a clock gave which was ten years ahead, after a start under the right one."""
        self._shifted.set(TEN_YEARS)
        with self.writer() as writer:
            assert self._queue.claim(writer, "ahead") is not None
        self._shifted.set(0)
        with self.writer() as writer:
            self.faults["lease lost"] += self._queue.claim(writer, "second") is not None
            self._let_run_out(writer)

    def _let_run_out(self, writer: Live) -> None:
        self.waits.append(self._queue.wait(writer))
        self.faults["lease too short"] += self.waits[-1] < LEASE_S / 2
        self._queue.put(writer)
