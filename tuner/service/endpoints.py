"""What the service answers to each request: functions of the store, without a word about connections."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from cache.verdicts.store import VerdictStore
from tuner.environment.document import SCHEMA_VERSION
from tuner.exchange.conflict import document as imported_document
from tuner.exchange.sent_line import sent_lines
from tuner.exchange.transfer import import_lines
from tuner.service.admission import admit
from tuner.service.decisions import decide_launch
from tuner.service.endpoint import Access, Asked, Endpoint, Reply, State, as_json, recent_answer
from tuner.service.feed import FEED, NEXT, line_of_entry, page_of
from tuner.service.openapi import openapi_document
from tuner.service.pages import PAGES, entry_asked_for, place_of
from tuner.service.probes import PROBE_ENDPOINTS, count_probes, enqueue_decided, remove_answered
from tuner.service.recent import NotAtHandError, RecentAnswer
from tuner.service.refusal import FORBIDDEN, NOT_TAKEN, ServiceError
from tuner.service.request import read_request
from tuner.verdicts.document import entry_part, row_part
from tuner.verdicts.lookup import known_verdict, readable_verdict
from tuner.verdicts.origin import IMPORTED

MAX_REQUEST = 4 * 2**20
"""Bytes of a request for a decision."""
MAX_BUNDLE = 64 * 2**20
MAX_REVIEW = 3 * 2**20
"""Bytes of a review: an API server takes no larger object."""
REVIEW_S = 1.5
"""Seconds for a review: the API server waits for two."""
SHORTEST_KEY, KEY_LENGTH = 4, 64
"""Hexadecimal characters of a verdict's key."""
ROWS, MOST_ROWS = 100, 500
"""Verdicts of one answer."""
FILTERS = ("architecture", "platform", "torch", "vllm")
"""Factors of a key by which verdicts may be chosen."""


def decide(state: State, asked: Asked) -> Reply:
    """Decide a launch."""

    def make() -> RecentAnswer:
        decided = decide_launch(state.store, state.configs, read_request(asked.body))
        return RecentAnswer(as_json(decided.document), decided.outcome, decided.missed)

    wanted = asked.query.get("enqueue", "0")
    if wanted not in {"0", "1"}:
        raise ServiceError(NOT_TAKEN, "The parameter `enqueue` is neither 0 nor 1.")
    if wanted == "1" and not asked.may_wait:
        raise NotAtHandError
    answer = recent_answer(state, asked, hashlib.sha256(asked.body).digest(), make)
    state.metrics.count_decision(answer.outcome, answer.missed)
    queued = enqueue_decided(state, asked) if wanted == "1" else {}
    return Reply(answer.body, headers={"ETag": _tag(answer.body), **queued})


def list_verdicts(state: State, asked: Asked) -> Reply:
    """The stored verdicts that a filter lets through, one page of them."""
    most = _number(asked.query.get("limit", str(ROWS)), "limit", MOST_ROWS, least=1)
    rows = list(islice(_rows(state.store, asked.query), most + 1))
    page = rows[:most]
    document = {
        "schema_version": SCHEMA_VERSION,
        "verdicts": [row for _, row in page],
        "next": page[-1][0] if len(rows) > most else None,
    }
    return _unless_known(as_json(document), asked)


def _rows(store: VerdictStore, query: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and row of each verdict that the query asks for, in the order of their places."""
    after, word = query.get("after", ""), query.get("verdict")
    factors = {name: query[name] for name in FILTERS if name in query}
    architecture = factors.get("architecture")
    entries = store.of_architecture(architecture) if architecture else store.entries()
    for entry in entries:
        place = place_of(entry)
        if place <= after or any(str(entry.key.get(name)) != value for name, value in factors.items()):
            continue
        verdict = readable_verdict(store, entry)
        if word is None or (verdict is not None and verdict.word == word):
            yield place, row_part(entry, verdict)


def show_verdict(state: State, asked: Asked) -> Reply:
    """One stored verdict, its report included."""
    entry = entry_asked_for(state, asked)
    document = {"schema_version": SCHEMA_VERSION, **entry_part(entry, known_verdict(state.store, entry))}
    return _unless_known(as_json(document), asked)


def show_line(state: State, asked: Asked) -> Reply:
    """The line of a bundle that carries one stored verdict, and its signature; empty where it came without one."""
    line, signature = line_of_entry(state.store, entry_asked_for(state, asked))
    return _unless_known(as_json({"line": line, "signature": signature}), asked)


def import_bundle(state: State, asked: Asked) -> Reply:
    """Store the verdicts of a bundle, judged anew; none if a line is damaged."""
    if state.follows:
        hint = f"Send it to {state.follows}."
        raise ServiceError(FORBIDDEN, "This service is a replica, and takes no bundles.", hint)
    replace = asked.query.get("replace", "false")
    if replace not in {"true", "false"}:
        raise ServiceError(NOT_TAKEN, "The parameter `replace` is neither true nor false.")
    lines = sent_lines(asked.body, state.signed_with)
    giving_way = [IMPORTED] if replace == "true" else []
    with state.writing:
        imported = import_lines(state.store, lines, "the service", giving_way=giving_way)
    for result, number in imported.fates.items():
        state.metrics.count_imported(str(result), number)
    remove_answered(state)
    return Reply(as_json({"schema_version": SCHEMA_VERSION, **imported_document(imported)}))


def list_changes(state: State, asked: Asked) -> Reply:
    """The feed behind a change."""
    page = page_of(state.store, _number(asked.query.get("since", "0"), "since", 2**63 - 1))
    headers = {NEXT: str(page.next), FEED: state.feed}
    return Reply(page.text().encode(), "application/x-ndjson", headers)


def show_health(_state: State, _asked: Asked) -> Reply:
    """That the process answers."""
    return Reply(as_json({"status": "alive"}))


def show_readiness(state: State, _asked: Asked) -> Reply:
    """Whether the store can be read, the certificate is valid, and a replica has all changes."""
    state.store.newest_change()
    why = state.unready()
    if why:
        raise ServiceError(503, why)
    return Reply(as_json({"status": "ready"}))


def show_metrics(state: State, _asked: Asked) -> Reply:
    """The counts since the start."""
    count_probes(state)
    return Reply(state.metrics.text(state.store), "text/plain; version=0.0.4; charset=utf-8")


def describe(_state: State, _asked: Asked) -> Reply:
    """What the service does, for programs."""
    return Reply(as_json(openapi_document(ENDPOINTS)))


def _number(text: str, name: str, most: int, least: int = 0) -> int:
    is_number = text.isdecimal() and text.isascii() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise ServiceError(NOT_TAKEN, f"The parameter `{name}` is no number from {least} to {most}.")
    return int(text)


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _tagged(body: bytes) -> Reply:
    return Reply(body, headers={"ETag": _tag(body)})


def _unless_known(body: bytes, asked: Asked) -> Reply:
    """The body with its tag; the tag alone if the client has this body already."""
    tag = _tag(body)
    clients_tags = {part.strip().removeprefix("W/") for part in asked.headers.get("if-none-match", "").split(",")}
    if tag in clients_tags or "*" in clients_tags:
        return Reply(b"", headers={"ETag": tag}, status=304)
    return _tagged(body)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/decisions",
        Access.READ,
        decide,
        "Decide a launch.",
        {"enqueue": "`1`: without a verdict or a proof of this launch it is put into the queue of probes."},
        frozenset({"enqueue"}),
        limit=MAX_REQUEST,
        remembers=True,
    ),
    Endpoint(
        "GET",
        "/v1/verdicts",
        Access.READ,
        list_verdicts,
        "List stored verdicts.",
        {
            **{name: f"Only verdicts with this {name}." for name in FILTERS},
            "verdict": "Only verdicts of this word, such as `uniform`.",
            "limit": f"The most verdicts of one answer; {ROWS} by default, and at most {MOST_ROWS}.",
            "after": "`next` of the answer before.",
        },
    ),
    *PAGES,
    Endpoint("GET", "/v1/verdicts/{key}", Access.READ, show_verdict, "Show a stored verdict."),
    Endpoint("GET", "/v1/verdicts/{key}/line", Access.READ, show_line, "The line of a bundle with a stored verdict."),
    Endpoint(
        "POST",
        "/v1/verdicts",
        Access.WRITE,
        import_bundle,
        "Store the verdicts of a bundle.",
        {"replace": "`true`: they replace different ones that were imported before."},
        limit=MAX_BUNDLE,
        seconds=60.0,
    ),
    Endpoint(
        "GET",
        "/v1/changes",
        Access.READ,
        list_changes,
        "Changes of the store, as bundle lines.",
        {"since": "`Tuner-Next` of the answer before; 0: from the first."},
    ),
    *PROBE_ENDPOINTS,
    Endpoint(
        "POST",
        "/v1/admission",
        Access.OPEN,
        admit,
        "Review a pod that is created, for the API server of Kubernetes.",
        {"timeout": "How long the API server waits, as it tells every webhook; nothing depends on it."},
        limit=MAX_REVIEW,
        seconds=REVIEW_S,
        remembers=True,
    ),
    Endpoint("GET", "/healthz", Access.OPEN, show_health, "Whether the process answers."),
    Endpoint("GET", "/readyz", Access.OPEN, show_readiness, "Whether the service can decide."),
    Endpoint("GET", "/metrics", Access.OPEN, show_metrics, "Counts, in the text form of Prometheus."),
    Endpoint("GET", "/openapi.json", Access.OPEN, describe, "This description."),
)
