"""The shape of what the service does, and of what it is asked and answers."""

import json
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import Struct, field

from cache.verdicts.store import VerdictStore
from tuner.environment.environment import Environment
from tuner.service.clock import Clock, steady_clock
from tuner.service.metrics import Metrics
from tuner.service.recent import NotAtHandError, RecentAnswer, RecentAnswers


def as_json(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    READ = auto()
    WRITE = auto()


class Asked(Struct, frozen=True):
    """A request.

    Attributes:
        path: values of the path's variables.
        query: values behind the question mark; none is given twice.
        headers: by names in lower case.
        body: its bytes.
        may_wait: the answer may take time; else what is not at hand raises `NotAtHandError`.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    may_wait: bool = True


class Reply(Struct, frozen=True):
    """A result.

    Attributes:
        body: its bytes.
        media: their type.
        headers: beside the usual ones.
        status: the HTTP status code.
    """

    body: bytes
    media: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


class State(Struct, frozen=True):
    """What answers come from.

    Attributes:
        store: the verdicts.
        configs: folder of the models that may be asked for by name; None: there is none.
        signed_with: file of the public key that must have signed each line; None: none need be signed.
        follows: address of the service that this one follows; empty if it takes bundles itself.
        feed: names the feed.
        metrics: the counts.
        unready: says why the service is not ready; empty if it is.
        writing: held while a bundle is stored.
        recent: decisions of a moment ago.
        images: patterns of image names, each with the environment of these images; the first that fits counts.
        clock: the time by which leases run out.
    """

    store: VerdictStore
    configs: Path | None
    signed_with: Path | None
    follows: str
    feed: str
    metrics: Metrics
    unready: Callable[[], str]
    writing: Lock = field(default_factory=Lock)
    recent: RecentAnswers = field(default_factory=RecentAnswers)
    images: tuple[tuple[str, Environment], ...] = ()
    clock: Clock = field(default_factory=steady_clock)


def recent_answer(state: State, asked: Asked, request: bytes, make: Callable[[], RecentAnswer]) -> RecentAnswer:
    """The answer to a request, of a moment ago if the store is as it was then.

    Args:
        state: what answers come from.
        asked: the request.
        request: digest of what decides.
        make: makes the answer anew.

    Raises:
        NotAtHandError: it would take time, and may not.
        StoreError: the store cannot be used.
    """
    change = state.store.change_at_hand()
    if change is None and not asked.may_wait:
        raise NotAtHandError
    if change is None:
        change = state.store.newest_change()
    return state.recent.answer(request, change, make, may_wait=asked.may_wait)


class Endpoint(Struct, frozen=True):
    """One thing that the service does.

    Attributes:
        method: the HTTP method.
        path: with variables in braces.
        access: who may ask.
        answer: what does it.
        summary: for the description.
        query: parameter -> what it does.
        writing: parameters that only those may give who may write.
        limit: bytes of the longest body.
        seconds: that it may take.
        remembers: an answer may be at hand, so it is asked for without waiting first.
    """

    method: str
    path: str
    access: Access
    answer: Callable[[State, Asked], Reply]
    summary: str
    query: Mapping[str, str] = field(default_factory=dict)
    writing: frozenset[str] = frozenset()
    limit: int = 0
    seconds: float = 10.0
    remembers: bool = False
