"""The reports of stored verdicts as pages for a browser: those that `tuner report` writes, with links."""

from datetime import UTC, datetime
from itertools import islice
from urllib.parse import quote

from cache.verdicts.entry import Entry
from cache.verdicts.row import verdict_row
from rules.errors import ErrorKind, ReportError
from tuner.report.content import verdict_report
from tuner.report.overview import overview
from tuner.report.page import overview_page, policy, verdict_page
from tuner.service.endpoint import Access, Asked, Endpoint, Reply, State
from tuner.service.refusal import NOT_TAKEN, UNKNOWN, ServiceError
from tuner.verdicts.lookup import current_report, readable_verdict

SHORTEST_KEY, KEY_LENGTH = 4, 64
"""Hexadecimal characters of a verdict's key."""
MOST_ENTRIES = 100
"""Verdicts of one page."""
HEADERS = {
    "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What a browser is told beside the page."""


def place_of(entry: Entry) -> str:
    """Where an entry stands among all."""
    return verdict_row(entry.key).removeprefix("verdict:")


def entry_asked_for(state: State, asked: Asked) -> Entry:
    """The entry whose key starts with the path's `key`.

    Raises:
        ServiceError: this is not a key, or there is none.
        StoreError: several start so, or the store cannot be used.
    """
    key = asked.path["key"].lower()
    if not SHORTEST_KEY <= len(key) <= KEY_LENGTH or not set(key) <= set("0123456789abcdef"):
        raise ServiceError(NOT_TAKEN, "This is no key of a verdict.", "Give 4 to 64 hexadecimal characters of it.")
    entry = state.store.find(key)
    if entry is None:
        raise ServiceError(UNKNOWN, f"No stored verdict has a key that starts with {key}.", kind=ErrorKind.NO_VERDICT)
    return entry


def show_table(state: State, asked: Asked) -> Reply:
    """The page of all stored verdicts, or of as many as one page holds."""
    after = asked.query.get("after", "")
    behind = (entry for entry in state.store.entries() if place_of(entry) > after)
    entries = list(islice(behind, MOST_ENTRIES + 1))
    page = entries[:MOST_ENTRIES]
    following = f"/?after={quote(place_of(page[-1]), safe='')}" if len(entries) > MOST_ENTRIES else ""
    now = datetime.now(UTC)
    table = overview(((entry, readable_verdict(state.store, entry)) for entry in page), now)
    return _page(overview_page(table, now, "/v1/verdicts/KEY.html", following))


def show_page(state: State, asked: Asked) -> Reply:
    """The page of one stored verdict."""
    entry = entry_asked_for(state, asked)
    try:
        report, verdict = current_report(state.store, entry)
    except ReportError:
        hint = f"GET /v1/verdicts/{entry.digest[:12]} shows what is stored."
        raise ServiceError(UNKNOWN, "This release cannot read the report of the verdict.", hint) from None
    return _page(verdict_page(verdict_report(entry, report, verdict), "/"))


def _page(text: str) -> Reply:
    return Reply(text.encode(errors="backslashreplace"), "text/html; charset=utf-8", HEADERS)


PAGES = (
    Endpoint(
        "GET",
        "/",
        Access.READ,
        show_table,
        "Show all stored verdicts as a page.",
        {"after": "As the link to the next page has it."},
        seconds=30.0,
    ),
    Endpoint("GET", "/v1/verdicts/{key}.html", Access.READ, show_page, "Show a stored verdict as a page."),
)
"""In front of `/v1/verdicts/{key}`, which would take their paths."""
