"""Decisions of a moment ago: given again while nothing changed, and not longer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from anyio.to_thread import run_sync
from fake_environment import ERNIE, MIXTRAL, Serving
from live_service import until
from service_bench import Setting, bench, launch_request

from tuner.manifests.managed import LABEL, MANAGED
from tuner.service.app import MAX_AT_ONCE
from tuner.service.recent import LIFE_S, MOST, MOST_LIFE_S, NotAtHandError, RecentAnswer, RecentAnswers
from tuner.service.review import API


def made(number: int) -> RecentAnswer:
    """An answer that can be told from others."""
    return RecentAnswer(str(number).encode(), "proved", ())


def test_an_answer_is_given_again_until_the_store_changes_or_time_is_over() -> None:
    """Then it is made anew; another request has another answer."""
    now = [0.0]
    recent = RecentAnswers(clock=lambda: now[0])
    assert recent.answer(b"a", 1, lambda: made(1)) == made(1)
    assert recent.answer(b"a", 1, lambda: made(2)) == made(1)
    assert recent.answer(b"b", 1, lambda: made(3)) == made(3)
    assert recent.answer(b"a", 2, lambda: made(4)) == made(4)
    now[0] = MOST_LIFE_S
    assert recent.answer(b"a", 2, lambda: made(5)) == made(5)


def test_an_answer_that_ages_is_made_anew_in_the_background() -> None:
    """Who asks meanwhile gets the one before, at once; it is made once, and then it counts."""
    now, go, renewed = [0.0], Event(), Event()
    recent = RecentAnswers(clock=lambda: now[0])
    recent.answer(b"a", 1, lambda: made(1))
    now[0] = LIFE_S

    def renew() -> RecentAnswer:
        assert go.wait(20)
        renewed.set()
        return made(2)

    assert recent.answer(b"a", 1, renew) == made(1)
    assert recent.answer(b"a", 1, lambda: made(3)) == made(1)
    go.set()
    assert renewed.wait(20)
    recent._due.join()
    assert recent.answer(b"a", 1, lambda: made(4)) == made(2)


def test_a_failure_in_the_background_is_heard_by_the_next_who_asks() -> None:
    """No answer outlives it."""
    now = [0.0]
    recent = RecentAnswers(clock=lambda: now[0])
    recent.answer(b"a", 1, lambda: made(1))
    now[0] = LIFE_S

    def fail() -> RecentAnswer:
        raise ValueError("it failed")

    assert recent.answer(b"a", 1, fail) == made(1)
    recent._due.join()
    with pytest.raises(ValueError, match="it failed"):
        recent.answer(b"a", 1, fail)


def test_who_may_not_wait_gets_what_is_at_hand() -> None:
    """An answer that would have to be made, or that somebody makes at the moment, is not waited for."""
    now = [0.0]
    recent, begun, go = RecentAnswers(clock=lambda: now[0]), Event(), Event()

    def refuse() -> RecentAnswer:
        raise AssertionError("it was made")

    def slow() -> RecentAnswer:
        begun.set()
        assert go.wait(20)
        return made(1)

    with pytest.raises(NotAtHandError):
        recent.answer(b"a", 1, refuse, may_wait=False)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(recent.answer, b"a", 1, slow)
        assert begun.wait(20)
        with pytest.raises(NotAtHandError):
            recent.answer(b"a", 1, refuse, may_wait=False)
        go.set()
        assert first.result(20) == made(1)
    assert recent.answer(b"a", 1, refuse, may_wait=False) == made(1)
    with pytest.raises(NotAtHandError):
        recent.answer(b"a", 2, refuse, may_wait=False)
    now[0] = MOST_LIFE_S
    with pytest.raises(NotAtHandError):
        recent.answer(b"a", 1, refuse, may_wait=False)


def test_a_remembered_answer_takes_no_thread(serving: Serving, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a decision nor of an admission; what must be made, and a large body, takes one."""
    serving.store_of(store, ERNIE)
    service = bench(Setting(store))
    until(lambda: bool(service.state.store.newest_change() and service.state.store.change_at_hand()))
    threads: list[object] = []

    async def counted(*args: object, **options: object) -> object:
        threads.append(args)
        return await run_sync(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("tuner.service.app.run_sync", counted)
    request, pod = launch_request(serving), {"containers": [{"name": "vllm", "image": "x", "args": ["serve", "a/b"]}]}
    document = {"metadata": {"labels": {LABEL: MANAGED}}, "spec": pod}
    review = {"uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE"}
    body = {"apiVersion": API, "kind": "AdmissionReview", "request": {**review, "object": document}}
    for path, question in (("/v1/decisions", request), ("/v1/admission", body)):
        first = service.client.post(path, json=question)
        assert first.status_code == 200
        before = len(threads)
        assert before
        assert service.client.post(path, json=question).content == first.content
        assert len(threads) == before
    large = {**request, "variables": {"X": "x" * MAX_AT_ONCE}}
    service.client.post("/v1/decisions", json=large)
    before = len(threads)
    service.client.post("/v1/decisions", json=large)
    assert len(threads) == before + 1


def test_a_failure_is_not_remembered() -> None:
    """The next one who asks may have an answer."""

    def fail() -> RecentAnswer:
        raise ValueError("it failed")

    recent = RecentAnswers()
    with pytest.raises(ValueError, match="it failed"):
        recent.answer(b"a", 1, fail)
    assert recent.answer(b"a", 1, lambda: made(1)) == made(1)


def test_memory_is_bounded() -> None:
    """However many different questions are asked."""
    recent = RecentAnswers()
    for number in range(MOST + 10):
        recent.answer(str(number).encode(), 1, lambda: made(1))
    assert len(recent._slots) == MOST


def test_a_verdict_that_is_stored_or_forgotten_changes_the_next_answer(serving: Serving, store: Path) -> None:
    """By whichever process: no answer outlives what it rests on."""
    serving.store_of(store, ERNIE)
    service = bench(Setting(store))
    request = launch_request(serving)
    assert service.decision(request)["verdict"] is None
    entry, _ = serving.remember(store, MIXTRAL)
    assert service.decision(request)["verdict"] == service.decision(request)["verdict"] == "uniform"
    service.state.store.forget(entry.digest)
    assert service.decision(request)["verdict"] is None


def test_those_who_ask_at_once_share_one_answer() -> None:
    """It is made once, however many wait for it; another question does not wait."""
    recent, begun, go = RecentAnswers(), Event(), Event()
    count: list[int] = []

    def slow() -> RecentAnswer:
        count.append(1)
        begun.set()
        assert go.wait(20)
        return made(1)

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(recent.answer, b"a", 1, slow) for _ in range(4)]
        assert begun.wait(20)
        assert recent.answer(b"b", 1, lambda: made(2)) == made(2)
        go.set()
        assert [one.result(20) for one in waiting] == [made(1)] * 4
    assert len(count) == 1
