"""A worker: takes probes from the queue of a service, one after another, and sends their verdicts."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat
from threading import Event, Thread
from typing import TypeVar

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.environment.environment import Environment
from tuner.exchange.sent_line import sent_lines, sign_line
from tuner.exchange.signing import Signer
from tuner.fleet.probing import Bounds, probed_line
from tuner.fleet.queue_client import Answered, Claimed, RemoteQueue
from tuner.service.client import RefusedError
from tuner.service.refusal import TOO_LARGE
from tuner.text import counted, visible

Result = TypeVar("Result")
POLL_S = 5.0
"""Seconds between two questions for a probe while none waits."""
PATIENCE_S = 600.0
"""Seconds that a service may be away while a worker has something to say to it."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds between two attempts; the last one goes on."""
BUSY = frozenset({429, 503})
"""Status codes after which the same request may succeed."""
BEATS = 4
"""Heartbeats in the time of a lease."""
FAULTS = frozenset({ErrorKind.CONTROL_FOLDER, ErrorKind.ENVIRONMENT, ErrorKind.STORE, ErrorKind.SIGNATURE})
"""Kinds of failure that have nothing to do with the launch: this machine cannot probe, and another one may."""


class Worker(Struct, frozen=True):
    """How a worker works.

    Attributes:
        queue: of the service.
        name: of the worker.
        environment: where its probes run.
        bounds: what a probe may take.
        say: gets a sentence about what is under way.
        signer: signs what is sent, and builds on nothing that it did not sign; None: nothing is signed.
    """

    queue: RemoteQueue
    name: str
    environment: Environment
    bounds: Bounds
    say: Callable[[str], None]
    signer: Signer | None


class Counts(Struct):
    """What a worker did: verdicts that it sent, and probes that failed."""

    sent: int = 0
    failed: int = 0

    def text(self) -> str:
        """On one line."""
        return f"{counted(self.sent, 'verdict')} sent, {counted(self.failed, 'probe')} failed"


def work(worker: Worker, counts: Counts, *, once: bool, until_empty: bool) -> None:
    """Take probes and run them, until there is nothing more to do.

    A probe that is under way when this is interrupted is given back.

    Args:
        worker: how.
        counts: gets what was done, as it is done.
        once: end after one probe, or if none waits.
        until_empty: end once no probe waits or runs that this environment could do.

    Raises:
        TunerError: the service cannot be used, or this machine cannot run probes.
    """
    answer = worker.queue.claim(worker.name, worker.environment)  # a wrong address or token ends it here
    while True:
        if answer.probe is not None:
            _run(worker, answer.probe, counts)
        if once or (until_empty and answer.probe is None and not answer.left):
            return
        if answer.probe is None:
            time.sleep(POLL_S)
        answer = _next(worker)


def _next(worker: Worker) -> Answered:
    return _patiently(worker, lambda: worker.queue.claim(worker.name, worker.environment))


def _run(worker: Worker, probe: Claimed, counts: Counts) -> None:
    """Run one probe, and say what came of it."""
    worker.say(f"probing {_named(probe)}")
    begin = time.monotonic()
    heart = Heart(worker.queue, probe)
    heart.start()
    try:
        stored = _stored(worker, probe)
        line = probed_line(probe.launch, stored, worker.environment, worker.bounds, worker.say)
    except TunerError as error:
        if error.kind in FAULTS:
            _give_back(worker, probe)
            raise
        counts.failed += 1
        _fail(worker, probe, error)
    except BaseException:
        _give_back(worker, probe)
        raise
    else:
        _send(worker, probe, sign_line(line, worker.signer, _signed_before(worker, probe)) if worker.signer else line)
        counts.sent += 1
        worker.say(f"sent {_named(probe)} after {time.monotonic() - begin:.0f} s")
    finally:
        heart.stop()


def _stored(worker: Worker, probe: Claimed) -> str | None:
    """What is stored on the model, if the worker may build on it: its signature would speak for that, too."""
    if worker.signer is None or probe.stored is None:
        return probe.stored
    lines = sent_lines(probe.stored.encode())
    if all(worker.signer.signed_at(line.text, line.signature) is not None for line in lines):
        return probe.stored
    worker.say("what the service has of this model is not signed with this key, so the model is probed anew")
    return None


def _signed_before(worker: Worker, probe: Claimed) -> int:
    """When this key signed what is stored on the model; 0: nothing is, or it did not."""
    if worker.signer is None or probe.stored is None:
        return 0
    lines = sent_lines(probe.stored.encode())
    return max((worker.signer.signed_at(line.text, line.signature) or 0 for line in lines), default=0)


def _named(probe: Claimed) -> str:
    """The probe in sentences."""
    return f"{visible(probe.launch.summary):.200} ({probe.id[:8]})"


def _send(worker: Worker, probe: Claimed, line: str) -> None:
    try:
        _patiently(worker, lambda: worker.queue.end(probe, "verdict", line.encode()))
    except RefusedError as error:
        if error.status != TOO_LARGE:
            _give_back(worker, probe)
            raise
        _fail(worker, probe, error)


def _fail(worker: Worker, probe: Claimed, error: TunerError) -> None:
    worker.say(f"failed {_named(probe)}: {error.message}")
    document = {"kind": str(error.kind), "message": error.message, "hint": error.hint}
    _patiently(worker, lambda: worker.queue.end(probe, "failed", json.dumps(document).encode()))


def _give_back(worker: Worker, probe: Claimed) -> None:
    """Give a probe back; if the service cannot be reached, its lease runs out."""
    worker.say(f"giving back {_named(probe)}")
    with suppress(TunerError):
        worker.queue.end(probe, "returned", b"")


def _patiently(worker: Worker, ask: Callable[[], Result]) -> Result:
    """The answer of a service that may be away for a while, as when it is restarted.

    Raises:
        TunerError: it refuses, or is away for longer than `PATIENCE_S`.
    """
    end, is_told = time.monotonic() + PATIENCE_S, False
    for pause in chain(PAUSES, repeat(PAUSES[-1])):
        try:
            return ask()
        except TunerError as error:
            is_final = isinstance(error, RefusedError) and error.status not in BUSY
            if is_final or time.monotonic() > end:
                raise
            if not is_told:
                worker.say(f"{error.message} Trying again for {PATIENCE_S / 60:.0f} minutes.")
            is_told = True
        time.sleep(pause)
    raise AssertionError("the loop has no end")


class Heart(Thread):
    """Keeps the lease of a probe while it runs.

    A lease that is lost does not end the probe: its verdict counts all the same.

    Args:
        queue: of the service.
        probe: the probe.
    """

    def __init__(self, queue: RemoteQueue, probe: Claimed) -> None:
        super().__init__(daemon=True)
        self._queue = queue
        self._probe = probe
        self._end = Event()

    def run(self) -> None:
        """Beat until it is stopped."""
        while not self._end.wait(self._probe.lease_seconds / BEATS):
            with suppress(TunerError):  # the next beat may get through
                self._queue.beat(self._probe)

    def stop(self) -> None:
        """Stop beating; a beat that is under way is not waited for."""
        self._end.set()
