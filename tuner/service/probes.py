"""The queue of probes over HTTP: launches come in, workers take them with a lease, and their verdicts end them.

The service itself runs no model. A worker's verdict comes as the line of a bundle, under the rules of an import.
"""

import secrets
from collections import Counter
from typing import Annotated, Any

from msgspec import Meta, Struct

from cache.verdicts.queue import ProbeQueue, QueuedProbe
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.environment.document import SCHEMA_VERSION
from tuner.environment.saved import environment_in, require_vllm
from tuner.exchange.bundle import line_in
from tuner.exchange.conflict import document as imported_document
from tuner.exchange.sent_line import sent_form, sent_lines
from tuner.exchange.transfer import import_lines
from tuner.service.endpoint import Access, Asked, Endpoint, Reply, State, as_json
from tuner.service.feed import line_of_entry
from tuner.service.queued import (
    ANSWERED,
    ID_LENGTH,
    Launch,
    builtins_of,
    giving_way_to,
    is_answered,
    launch_asked,
    launch_of,
    new_probe,
    row_part,
    stored_entry,
    wanted_of,
)
from tuner.service.refusal import FORBIDDEN, NOT_TAKEN, UNKNOWN, ServiceError
from tuner.service.request import read_as, read_request
from tuner.text import brief, visible

LEASE_S = 60.0
"""Seconds that a worker has a probe without a heartbeat."""
MOST_LAUNCHES = 1000
MAX_LAUNCHES = 16 * 2**20
"""Bytes of a request with launches."""
MAX_SMALL = 2**20
"""Bytes of a request of a worker; an environment takes a few thousand."""
MAX_RESULT = 16 * 2**20
"""Bytes of the line of a bundle."""
ROWS = 100
"""Rows of one answer."""
MAX_REASON = 500
"""Characters of the reason of a failure."""
STATES = ("waiting", "running", "resting")
QUEUED = "Tuner-Probe"
"""Header of a decision whose launch was put into the queue: the row's id and its state."""
Lease = Annotated[str, Meta(min_length=16, max_length=64)]


class NewLaunches(Struct, frozen=True, forbid_unknown_fields=True):
    """Launches for the queue.

    Attributes:
        launches: what to probe.
        retry: let those that rest be tried again.
    """

    launches: Annotated[list[Launch], Meta(min_length=1, max_length=MOST_LAUNCHES)]
    retry: bool = False


class Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """A worker that asks for a probe.

    Attributes:
        worker: its name.
        environment: what `tuner env --json` prints where it would run the probe.
    """

    worker: Annotated[str, Meta(min_length=1, max_length=200)]
    environment: dict[str, Any]


class Beat(Struct, frozen=True, forbid_unknown_fields=True):
    """A worker that still runs its probe; `lease` is what it was given with it."""

    lease: Lease


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a probe failed, as the documents of failures say it."""

    kind: str
    message: Annotated[str, Meta(min_length=1)]
    hint: str = ""


def queue_of(state: State) -> ProbeQueue:
    """The queue beside the service's verdicts.

    Raises:
        ServiceError: the service is a replica, which has none.
    """
    if state.follows:
        hint = f"Ask {state.follows}."
        raise ServiceError(FORBIDDEN, "This service is a replica, and has no queue of probes.", hint)
    return ProbeQueue(state.store.path)


def put_probes(state: State, asked: Asked) -> Reply:
    """Put launches into the queue, but those whose verdict is stored."""
    wanted = read_as(asked.body, NewLaunches)
    states = _put(state, wanted.launches, retry=wanted.retry)
    rows = [{"id": name, "state": word} for name, word in states]
    counts = Counter(word for _, word in states)
    return Reply(as_json({"schema_version": SCHEMA_VERSION, "probes": rows, "states": counts}))


def enqueue_decided(state: State, asked: Asked) -> dict[str, str]:
    """Put the launch of a request for a decision into the queue; the header that says so."""
    ((name, word),) = _put(state, [launch_asked(state.configs, read_request(asked.body))], retry=False)
    return {QUEUED: f"{name}; {word}"}


def _put(state: State, launches: list[Launch], *, retry: bool) -> list[tuple[str, str]]:
    """Id and state of each launch, once those without a verdict are in the queue."""
    queue, now = queue_of(state), state.clock()
    probes = [new_probe(launch) for launch in launches]
    answered = {probe.id for probe, launch in zip(probes, launches, strict=True) if is_answered(state.store, launch)}
    queue.put([probe for probe in probes if probe.id not in answered], now, retry=retry)
    states = {row.id: row.state(now) for row in queue.rows()}
    return [(probe.id, ANSWERED if probe.id in answered else states.get(probe.id, ANSWERED)) for probe in probes]


def list_probes(state: State, asked: Asked) -> Reply:
    """The rows of the queue, one page of them, and how many there are of each state."""
    word, after = asked.query.get("state"), asked.query.get("after", "")
    if word is not None and word not in STATES:
        raise ServiceError(NOT_TAKEN, f"The parameter `state` is none of: {', '.join(STATES)}.")
    now = state.clock()
    queue = queue_of(state)
    every = queue.rows()
    rows = sorted((row for row in every if word in {None, row.state(now)} and row.id > after), key=_id_of)
    page = rows[:ROWS]
    whole = [row for row in (queue.row(bare.id) for bare in page) if row is not None]
    document = {
        "schema_version": SCHEMA_VERSION,
        "probes": [row_part(row, now) for row in whole],
        "states": Counter(row.state(now) for row in every),
        "next": page[-1].id if len(rows) > ROWS else None,
    }
    return Reply(as_json(document))


def _id_of(row: QueuedProbe) -> str:
    return row.id


def claim_probe(state: State, asked: Asked) -> Reply:
    """Give a worker the next probe that its environment can run, with a lease."""
    claim = read_as(asked.body, Claim)
    environment = environment_in(claim.environment, "The environment of the worker")
    require_vllm(environment)
    here = wanted_of(environment)
    queue = queue_of(state)
    worker = visible(claim.worker)
    while row := queue.claim(here, worker, secrets.token_hex(16), state.clock(), LEASE_S):
        try:
            launch = launch_of(row)
            if not is_answered(state.store, launch):
                return Reply(as_json(_claimed(state.store, row, launch)))
        except TunerError as error:  # what this release cannot read
            queue.fail(row.id, row.lease, brief(error.message, MAX_REASON))
        else:
            queue.remove([row.id])
    now = state.clock()
    left = [other for other in queue.rows() if other.state(now) != "resting" and other.wanted.fits(here)]
    return Reply(as_json({"schema_version": SCHEMA_VERSION, "probe": None, "left": len(left)}))


def _claimed(store: VerdictStore, row: QueuedProbe, launch: Launch) -> dict[str, Any]:
    """What a worker needs: the launch, its lease, and what is stored on the model already."""
    entry = stored_entry(store, launch)
    probe = {
        "id": row.id,
        "lease": row.lease,
        "lease_seconds": LEASE_S,
        "failures": row.failures,
        "launch": builtins_of(launch),
        "stored": sent_form(*line_of_entry(store, entry)) if entry else None,
    }
    return {"schema_version": SCHEMA_VERSION, "probe": probe}


def extend_lease(state: State, asked: Asked) -> Reply:
    """Let a worker have its probe longer, unless another one has it."""
    beat = read_as(asked.body, Beat)
    held = queue_of(state).extend(_id(asked), beat.lease, state.clock() + LEASE_S)
    return Reply(as_json({"schema_version": SCHEMA_VERSION, "held": held, "lease_seconds": LEASE_S}))


def _id(asked: Asked) -> str:
    name = asked.path["id"]
    if len(name) != ID_LENGTH or not set(name) <= set("0123456789abcdef"):
        raise ServiceError(UNKNOWN, "This is no id of a probe.", "GET /v1/probes lists them.")
    return name


def _lease(asked: Asked) -> str:
    lease = asked.query.get("lease", "")
    if not lease:
        raise ServiceError(NOT_TAKEN, "The parameter `lease` is missing.", "It came with the probe.")
    return lease


def end_probe(state: State, asked: Asked) -> Reply:
    """Take what came of a probe: a verdict, a failure, or the lease itself."""
    queue, name, lease = queue_of(state), _id(asked), _lease(asked)
    outcome = asked.query.get("outcome", "verdict")
    if outcome == "returned":
        queue.give_back(name, lease)
    elif outcome == "failed":
        queue.fail(name, lease, brief(read_as(asked.body, Failure).message, MAX_REASON))
    elif outcome == "verdict":
        return _store_verdict(state, asked, queue)
    else:
        raise ServiceError(NOT_TAKEN, "The parameter `outcome` is none of: verdict, failed, returned.")
    return Reply(as_json({"schema_version": SCHEMA_VERSION, **_state_part(state, queue, name)}))


def _state_part(state: State, queue: ProbeQueue, name: str) -> dict[str, Any]:
    row = queue.row(name)
    return {"id": name, "state": row.state(state.clock()) if row else ANSWERED}


def _store_verdict(state: State, asked: Asked, queue: ProbeQueue) -> Reply:
    """Store a verdict, whoever has the lease now; end the row if it answers the row's launch."""
    name, lease = _id(asked), _lease(asked)
    row = queue.row(name)
    source = f"the worker {row.worker}" if row else "a worker"
    lines = sent_lines(asked.body, state.signed_with)
    if len(lines) != 1:
        raise ServiceError(NOT_TAKEN, "The result of a probe is not one line of a bundle.", kind=ErrorKind.BUNDLE)
    with state.writing:
        giving_way = giving_way_to(state.store, line_in(lines[0].text).entry)
        imported = import_lines(state.store, lines, source, giving_way=giving_way)
    for result, number in imported.fates.items():
        state.metrics.count_imported(str(result), number)
    if row and is_answered(state.store, launch_of(row)):
        queue.remove([name])
    elif row:
        queue.fail(name, lease, "the verdict that came does not answer this launch, or another one stayed")
    part = _state_part(state, queue, name)
    return Reply(as_json({"schema_version": SCHEMA_VERSION, **part, **imported_document(imported)}))


def remove_answered(state: State) -> None:
    """Remove the rows whose verdict is stored by now, however it came."""
    if state.follows:
        return
    queue = ProbeQueue(state.store.path)
    names = [row.id for row in queue.rows()]
    answered = [name for name in names if _is_row_answered(state.store, queue.row(name))]
    if answered:
        queue.remove(answered)


def _is_row_answered(store: VerdictStore, row: QueuedProbe | None) -> bool:
    try:
        return row is not None and is_answered(store, launch_of(row))
    except TunerError as error:
        if error.kind is ErrorKind.STORE:
            raise
        return False  # the next claim says why


def count_probes(state: State) -> None:
    """Bring the metrics of the queue up to date."""
    if state.follows:
        return
    now = state.clock()
    rows = ProbeQueue(state.store.path).rows()
    states = Counter(row.state(now) for row in rows)
    active = [min(row.queued_at, now) for row in rows if row.state(now) != "resting"]
    state.metrics.show_probes({word: states[word] for word in STATES}, min(active, default=0.0))


PROBE_ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/probes",
        Access.READ,
        list_probes,
        "List the queue of probes.",
        {"state": f"Only probes of this state: {', '.join(STATES)}.", "after": "`next` of the answer before."},
    ),
    Endpoint(
        "POST",
        "/v1/probes",
        Access.WRITE,
        put_probes,
        "Put launches into the queue.",
        limit=MAX_LAUNCHES,
        seconds=60,
    ),
    Endpoint("POST", "/v1/probes/claim", Access.WRITE, claim_probe, "Take the next probe.", limit=MAX_SMALL),
    Endpoint("POST", "/v1/probes/{id}/heartbeat", Access.WRITE, extend_lease, "Keep a probe's lease.", limit=MAX_SMALL),
    Endpoint(
        "POST",
        "/v1/probes/{id}/result",
        Access.WRITE,
        end_probe,
        "End a probe: with the line of a bundle, with the document of a failure, or by giving it back.",
        {
            "lease": "What came with the probe.",
            "outcome": "`verdict` (default), `failed` or `returned`.",
        },
        limit=MAX_RESULT,
        seconds=60,
    ),
)
"""The endpoints of the queue."""
